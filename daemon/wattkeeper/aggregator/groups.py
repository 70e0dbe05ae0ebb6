"""Groups of nodes (rack, row, switch): which node is in which now."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.group_config import TOPOLOGY, GroupRule, Members
from wattkeeper.schedulers.hostlist import expand
from wattkeeper.schedulers.marks import TOPOLOGY as PLACED

Labels = dict[str, dict[str, str]]
"""By node its group of each kind: `{"node001": {"rack": "r12"}}`."""
_FRESH_S = 10.0


class Groups:
    """The groups of the configuration. `marks` blocks, and says what schedulers mark nodes with.

    A node is where it is now: a question about the past groups it by this, too.
    """

    def __init__(
        self,
        groups: Mapping[str, Mapping[str, Members]],
        marks: Callable[[], Mapping[str, AbstractSet[str]]],
    ) -> None:
        self.kinds = tuple(groups)
        self._fixed = _by_host_list(groups)
        self._rules = [
            (kind, name, value)
            for kind, members in groups.items()
            for name, value in members.items()
            if isinstance(value, (str, GroupRule))
        ]
        self._marks = marks
        self._labels = Cached(self._by_marks, _FRESH_S)

    def labels(self) -> Labels:
        """Return the groups of every node that is in one."""
        return self._labels.get() if self._rules else self._fixed

    def _by_marks(self) -> Labels:
        labels = {node: dict(own) for node, own in self._fixed.items()}
        for node, marks in self._marks().items():
            for kind, name, rule in self._rules:
                group = _matched(name, rule, marks)
                if group:
                    # Where a node is written down by name, that is where it is.
                    labels.setdefault(node, {}).setdefault(kind, group)
        return labels


def _by_host_list(groups: Mapping[str, Mapping[str, Members]]) -> Labels:
    labels: Labels = {}
    for kind, members in groups.items():
        for name, patterns in members.items():
            for pattern in patterns if isinstance(patterns, tuple) else ():
                for node in expand(pattern):
                    labels.setdefault(node, {})[kind] = name
    return labels


def _matched(name: str, rule: GroupRule | str, marks: AbstractSet[str]) -> str:
    """Return the group that a node with these marks is in by one rule, "" if it is in none."""
    if isinstance(rule, GroupRule):
        return name if rule.mark in marks else ""
    if rule.startswith(TOPOLOGY):
        of = rule.removeprefix(TOPOLOGY).removeprefix(":")
        begin = f"{PLACED}{of}=" if of else PLACED
        return min((one.rpartition("=")[2] for one in marks if one.startswith(begin)), default="")
    begin, _, end = rule.partition("*") if "*" in rule else (f"{rule}=", "", "")
    return min(
        (
            one[len(begin) : len(one) - len(end)]
            for one in marks
            if one.startswith(begin) and one.endswith(end) and len(one) > len(begin) + len(end)
        ),
        default="",
    )


def kind_of(by: str, known: Sequence[str]) -> str:
    """Return which kind of groups `group:rack` or `group` means; the only one where there is one.

    Raises:
        ValueError: there are no such groups; says which there are.

    """
    kind = by.removeprefix("group").removeprefix(":")
    if not kind and len(known) == 1:
        return known[0]
    if kind not in known:
        names = ", ".join(f"group:{one}" for one in known) or "the aggregator's `groups` first"
        raise ValueError(f"no such groups; use {names}")
    return kind


def is_group(by: str) -> bool:
    """Tell whether a dimension is one of groups of nodes."""
    return by == "group" or by.startswith("group:")
