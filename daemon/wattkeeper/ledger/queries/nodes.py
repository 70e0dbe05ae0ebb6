"""The nodes that the ledger knows, and the totals that are exported as counters."""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import inventory, schema
from wattkeeper.ledger.inventory import Listed
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import parts, whole


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


@dataclass(frozen=True, slots=True)
class AccountTotal:
    """The exported energy of one account.

    `uj` never falls; `taken_back_uj` is what it is above the books, after corrections.
    """

    cluster: str
    account: str
    uj: int
    taken_back_uj: int


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


def account_totals(ledger: Ledger) -> list[AccountTotal]:
    """Return the energy of every account's workloads and persist it as a high-water mark.

    Raises:
        LedgerError: the marks cannot be written.

    """
    exported = schema.exported
    with ledger.writing() as connection:
        now = _totals(connection)
        marks = {
            (row.cluster, row.account): int(row.uj)
            for row in connection.execute(sa.select(exported))
        }
        totals = []
        for cluster, account in sorted(now.keys() | marks.keys()):
            uj, mark = now.get((cluster, account), 0), marks.get((cluster, account), 0)
            totals.append(AccountTotal(cluster, account, max(uj, mark), max(0, mark - uj)))
            if uj > mark:
                key = sa.and_(exported.c.cluster == cluster, exported.c.account == account)
                if (cluster, account) in marks:
                    connection.execute(sa.update(exported).where(key).values(uj=str(uj)))
                else:
                    values = {"cluster": cluster, "account": account, "uj": str(uj)}
                    connection.execute(sa.insert(exported).values(values))
    return totals


def _totals(connection: sa.Connection) -> dict[tuple[str, str], int]:
    rollup, holder, workload = schema.rollup.c, schema.holder.c, schema.workload.c
    query = (
        sa.select(workload.cluster, workload.account, *parts(rollup.uj))
        .select_from(schema.rollup)
        .join(schema.holder, holder.id == rollup.holder)
        .join(schema.workload, workload.id == holder.workload)
        .group_by(workload.cluster, workload.account)
    )
    return {
        (row.cluster, row.account): whole(row.uj_high, row.uj_low)
        for row in connection.execute(query)
    }


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
