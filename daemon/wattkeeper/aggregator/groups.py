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
