"""The table of nodes that should be metered and are not."""

from grafana.panels import Head, Panel
from grafana.tables import Column, listing
from grafana.variables import in_groups


def unmetered(head: Head) -> Panel:
    """Return the table under this head."""
    nodes = in_groups('wattkeeper_node_unmetered{cluster=~"$cluster"}')
    return listing(
        head,
        (f'max by (cluster, node, state, group) (label_join({nodes}, "group", "", "$kind"))',),
        (
            Column("node", "Node", link=("wattkeeper-node", "node")),
            Column("state", "State"),
            Column("group", "Group"),
        ),
        by="Node",
        empty="every node is metered",
    )
