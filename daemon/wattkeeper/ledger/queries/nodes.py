"""The nodes that the ledger knows."""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import inventory, schema
from wattkeeper.ledger.inventory import Listed
from wattkeeper.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node as of the last commit. Times are UTC milliseconds.

    `seen_ms`: last delivery, None if it never delivered and only a scheduler knows it; `booked_ms`:
    end of the newest booked window. `skew_ms`: by how much its clock is wrong. `events` counts
    forks, takeovers and conflicts by kind. `scheduler_state`, `gpus_expected`, `expected`: the
    newest word of its scheduler, None where there is none; not expected while it is powered down.
    """

    cluster: str
    node: str
    journal: str
    boot: str
    agent: str
    seen_ms: int | None
    booked_ms: int | None
    skew_ms: int
    meters: int
    events: dict[str, int]
    refused: int
    scheduler_state: str | None = None
    gpus_expected: int | None = None
    expected: bool | None = None


def nodes(ledger: Ledger) -> list[NodeRow]:
    """Return every node that delivered or is in a scheduler's inventory, by cluster and name."""
    node, meter, journal = schema.node.c, schema.meter.c, schema.journal.c
    query = (
        sa.select(
            schema.node,
            journal.name.label("journal_name"),
            sa.func.count(meter.id).label("meters"),
            sa.func.max(meter.end_ms).label("booked_ms"),
        )
        .outerjoin(schema.meter, meter.node == node.id)
        .outerjoin(schema.journal, journal.id == node.journal)
        .group_by(node.id, journal.name)
    )
    with ledger.reading() as connection:
        events = _events(connection)
        refused = _refused(connection)
        listed = inventory.newest(connection)
        known = {(row.cluster, row.name): row for row in connection.execute(query)}
    rows = []
    for key in sorted(known.keys() | listed.keys()):
        row = _row(known[key], events, refused) if key in known else _absent(*key)
        rows.append(_with_word(row, listed.get(key)))
    return rows


def _row(row: Any, events: dict[int, dict[str, int]], refused: dict[int, int]) -> NodeRow:
    return NodeRow(
        cluster=row.cluster,
        node=row.name,
        journal=row.journal_name or "",
        boot=row.boot,
        agent=row.agent,
        seen_ms=row.seen_ms,
        booked_ms=row.booked_ms or None,
        skew_ms=row.skew_ms,
        meters=row.meters,
        events=events.get(row.id, {}),
        refused=refused.get(row.id, 0),
    )


def _absent(cluster: str, node: str) -> NodeRow:
    return NodeRow(cluster, node, "", "", "", None, None, 0, 0, {}, 0)


def _with_word(row: NodeRow, word: Listed | None) -> NodeRow:
    if word is None:
        return row
    return replace(row, scheduler_state=word.state, gpus_expected=word.gpus, expected=word.expected)


def _events(connection: sa.Connection) -> dict[int, dict[str, int]]:
    event = schema.event.c
    query = sa.select(event.node, event.kind, sa.func.count().label("times"))
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(query.group_by(event.node, event.kind)):
        found.setdefault(row.node, {})[row.kind] = row.times
    return found


def _refused(connection: sa.Connection) -> dict[int, int]:
    journal, refused = schema.journal.c, schema.refused.c
    query = (
        sa.select(journal.node, sa.func.count().label("times"))
        .join(schema.refused, refused.journal == journal.id)
        .group_by(journal.node)
    )
    return {row.node: row.times for row in connection.execute(query)}
