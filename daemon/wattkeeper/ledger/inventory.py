"""The schedulers' nodes: what should be metered, from when to when."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.labels import clean
from wattkeeper.schedulers.base import NodeInfo


@dataclass(frozen=True, slots=True)
class Listed:
    """A node by its scheduler's word over [from_ms, to_ms). `gpus`: None is not known.

    `state` and `marks` are the newest of that time.
    """

    cluster: str
    node: str
    gpus: int | None
    state: str
    expected: bool
    from_ms: int
    to_ms: int
    marks: tuple[str, ...] = ()


def record(
    connection: sa.Connection, scheduler: str, nodes: Sequence[NodeInfo], at_ms: int
) -> None:
    """Take a scheduler's whole inventory as of `at_ms`; only what changed is written.

    A node that is no longer in it is no longer expected. An older answer than the last is left.
    Of state and marks only the newest are kept: a state changes with every job, what is expected
    does not.
    """
    table = schema.inventory
    untils = _untils(connection, scheduler)
    if at_ms < max(untils.values(), default=0):
        return
    said = {(clean(node.cluster), clean(node.name)): node for node in nodes}
    query = sa.select(table).where(table.c.scheduler == scheduler, table.c.to_ms.is_(None))
    over: list[bulk.Row] = []
    states: list[bulk.Row] = []
    same = set()
    for row in connection.execute(query):
        key = (row.cluster, row.node)
        node = said.get(key)
        if node is None or _due(node) != (row.gpus, row.expected):
            over.append((at_ms, row.id))
            continue
        same.add(key)
        if _said(node) != (row.state, row.marks):
            states.append((*_said(node), row.id))
    bulk.update(connection, table, "to_ms", "id", over)
    bulk.update(connection, table, "state marks", "id", states)
    rows = [
        (scheduler, *key, *_due(node), *_said(node), at_ms)
        for key, node in said.items()
        if key not in same
    ]
    columns = "scheduler cluster node gpus expected state marks from_ms"
    bulk.insert(connection, table, columns, rows)
    _note(connection, scheduler, {cluster for cluster, _ in said} | untils.keys(), at_ms)


def listed(connection: sa.Connection, since_ms: int, until_ms: int) -> list[Listed]:
    """Return what the schedulers said of nodes between two instants, as far as they spoke."""
    table, known = schema.inventory.c, schema.inventoried.c
    end_ms = sa.func.coalesce(table.to_ms, known.until_ms)
    query = (
        sa.select(schema.inventory, end_ms.label("end_ms"))
        .join(
            schema.inventoried,
            sa.and_(known.scheduler == table.scheduler, known.cluster == table.cluster),
        )
        .where(table.from_ms < until_ms, sa.or_(table.to_ms.is_(None), table.to_ms > since_ms))
        .order_by(table.cluster, table.node, table.from_ms)
    )
    return [
        _listed(row, max(since_ms, row.from_ms), min(until_ms, row.end_ms))
        for row in connection.execute(query)
        if max(since_ms, row.from_ms) < min(until_ms, row.end_ms)
    ]


def newest(connection: sa.Connection) -> dict[tuple[str, str], Listed]:
    """Return the newest word on every node that is in an inventory, by cluster and name."""
    table = schema.inventory.c
    query = sa.select(schema.inventory).where(table.to_ms.is_(None)).order_by(table.id)
    return {
        (row.cluster, row.node): _listed(row, row.from_ms, row.from_ms)
        for row in connection.execute(query)
    }


def marks(connection: sa.Connection) -> dict[str, set[str]]:
    """Return by name what schedulers mark each node with now."""
    table = schema.inventory.c
    query = sa.select(table.node, table.marks).where(table.to_ms.is_(None), table.marks != "")
    found: dict[str, set[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.node, set()).update(row.marks.split("\n"))
    return found


def until_ms(connection: sa.Connection) -> dict[str, int]:
    """Return by cluster up to when its schedulers named every node."""
    known = schema.inventoried.c
    newest_ms = sa.func.max(known.until_ms).label("until_ms")
    query = sa.select(known.cluster, newest_ms).group_by(known.cluster)
    return {row.cluster: row.until_ms for row in connection.execute(query)}


def _listed(row: sa.Row[tuple[object, ...]], from_ms: int, to_ms: int) -> Listed:
    expected = bool(row.expected)
    marks = tuple(row.marks.split("\n")) if row.marks else ()
    return Listed(row.cluster, row.node, row.gpus, row.state, expected, from_ms, to_ms, marks)


def _due(node: NodeInfo) -> tuple[int | None, int]:
    return node.gpus, int(node.expected)


def _said(node: NodeInfo) -> tuple[str, str]:
    return clean(node.state), "\n".join(node.marks)


def _untils(connection: sa.Connection, scheduler: str) -> dict[str, int]:
    known = schema.inventoried.c
    query = sa.select(known.cluster, known.until_ms).where(known.scheduler == scheduler)
    return {row.cluster: row.until_ms for row in connection.execute(query)}


def _note(connection: sa.Connection, scheduler: str, clusters: set[str], at_ms: int) -> None:
    table = schema.inventoried
    connection.execute(sa.delete(table).where(table.c.scheduler == scheduler))
    rows = [(scheduler, cluster, at_ms) for cluster in sorted(clusters)]
    bulk.insert(connection, table, "scheduler cluster until_ms", rows)
