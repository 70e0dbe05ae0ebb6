"""Groups of nodes (rack, row, switch) as the configuration names them."""

from collections.abc import Mapping, Sequence

from wattkeeper.schedulers.hostlist import expand


def labels_by_node(
    groups: Mapping[str, Mapping[str, Sequence[str]]],
) -> dict[str, dict[str, str]]:
    """Return for every node named in `groups` its labels: `{"node001": {"rack": "r12"}}`."""
    labels: dict[str, dict[str, str]] = {}
    for kind, members in groups.items():
        for name, patterns in members.items():
            for pattern in patterns:
                for node in expand(pattern):
                    labels.setdefault(node, {})[kind] = name
    return labels


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
