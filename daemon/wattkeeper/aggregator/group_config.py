"""`groups` as the configuration has them: host lists, or what schedulers mark nodes with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from wattkeeper.schedulers.hostlist import expand
from wattkeeper.schedulers.marks import FEATURE, LABEL

FROM = "from"
"""The key by which a scheduler names the groups of a kind."""
TOPOLOGY = "slurm-topology"


@dataclass(frozen=True, slots=True)
class GroupRule:
    """The nodes that a scheduler marks so: `feature:h100`, `label:KEY=VALUE`."""

    mark: str


Members = tuple[str, ...] | GroupRule | str
"""A host list, a rule, or with the key `from` who names the groups."""


def _read(value: Any) -> Members:
    if isinstance(value, (str, GroupRule)):
        return value
    if isinstance(value, Mapping):
        return _rule(value)
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise ValueError('is no group; write ["node[001-018]"], {feature = "r12"} or {label = "K=V"}')


def _rule(value: Mapping[str, Any]) -> GroupRule:
    match dict(value):
        case {"feature": str(feature), **rest} if feature and not rest:
            return GroupRule(FEATURE + feature)
        case {"label": str(label), **rest} if not rest and label.find("=") > 0:
            return GroupRule(LABEL + label)
    raise ValueError('is no rule; write {feature = "r12"} or {label = "KEY=VALUE"}')


def _write(value: Members) -> Any:
    if not isinstance(value, GroupRule):
        return value
    kind, _, text = value.mark.partition(":")
    return {kind: text}


GroupsField = dict[
    str, dict[str, Annotated[Members, PlainValidator(_read), PlainSerializer(_write)]]
]


def check_groups(groups: Mapping[str, Mapping[str, Members]]) -> None:
    """Check names, host lists and sources of groups.

    Raises:
        ValueError: says which one is wrong, and how it looks.

    """
    for kind, members in groups.items():
        if not kind.isidentifier() or not kind.isascii() or kind == "node":
            raise ValueError(f"{kind!r} is no label name; use letters, like rack or row")
        for name, value in members.items():
            if isinstance(value, str):
                _check_source(kind, name, value, len(members))
            elif not isinstance(value, GroupRule):
                for pattern in value:
                    expand(pattern)


def _check_source(kind: str, name: str, value: str, number: int) -> None:
    if name != FROM:
        raise ValueError(f'{kind}.{name}: is no list; write it like ["node[001-018]"]')
    if number > 1:
        raise ValueError(f"{kind}: has `from` and groups of its own; choose one")
    known = (
        value == TOPOLOGY
        or value.startswith(f"{TOPOLOGY}:")
        or (value.startswith(LABEL) and value != LABEL)
        or (value.startswith(FEATURE) and value.count("*") == 1)
    )
    if not known:
        raise ValueError(
            f"{kind}.from: {value!r} is no source; write slurm-topology, feature:rack-*, "
            "or label:KEY"
        )


def wanted_labels(groups: Mapping[str, Mapping[str, Members]]) -> frozenset[str]:
    """Return the labels of Kubernetes' nodes that groups are made of; no others are kept."""
    keys = set()
    for members in groups.values():
        for value in members.values():
            source = value.mark if isinstance(value, GroupRule) else value
            if isinstance(source, str) and source.startswith(LABEL):
                keys.add(source.removeprefix(LABEL).partition("=")[0])
    return frozenset(keys)


def wants_topology(groups: Mapping[str, Mapping[str, Members]]) -> bool:
    """Tell whether a kind of groups is made of Slurm's topology."""
    return any(
        isinstance(value, str) and value.startswith(TOPOLOGY)
        for members in groups.values()
        for value in members.values()
    )
