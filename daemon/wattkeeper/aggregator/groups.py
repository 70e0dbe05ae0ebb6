"""Groups of nodes (rack, row, switch) as the configuration names them."""

import re
from collections.abc import Mapping, Sequence

_LIMIT = 100_000
_LIST = re.compile(r"([^\[\]]*)\[([^\[\]]+)\]([^\[\]]*)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand(pattern: str) -> list[str]:
    """Return the nodes of a Slurm host list: `node[001-018,020]`, `login1`.

    Raises:
        ValueError: not a host list, or one of more than 100,000 nodes.

    """
    found = _LIST.fullmatch(pattern)
    if found is None:
        if "[" in pattern or "]" in pattern or not pattern:
            raise ValueError(f"{pattern!r} is no host list; write it like node[001-018,020]")
        return [pattern]
    head, ranges, tail = found.groups()
    nodes: list[str] = []
    for part in ranges.split(","):
        limits = _RANGE.fullmatch(part.strip())
        if limits is None:
            raise ValueError(f"{pattern!r}: {part!r} is no range; write it like 001-018")
        low, high = limits[1], limits[2] or limits[1]
        if int(high) < int(low) or int(high) - int(low) + len(nodes) >= _LIMIT:
            raise ValueError(f"{pattern!r}: the range {part} is backward or too long")
        nodes += [f"{head}{number:0{len(low)}}{tail}" for number in range(int(low), int(high) + 1)]
    return nodes


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
