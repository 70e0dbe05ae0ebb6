"""Totals that are exported as counters: persisted high-water marks, so that they never fall."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.meter import Component

Marks = dict[int, dict[str, int]]
"""By workload and part of its energy: a component, or `idle`."""


@dataclass(frozen=True, slots=True)
class AccountTotal:
    """The exported totals of one account, none of which ever falls.

    `number` counts accounts from 1 in the order they came. `taken_back_uj` is what `uj` is above
    the books, after corrections. `idle_uj`, `idle_gpu_ms`: allocated while nothing ran.
    """

    cluster: str
    account: str
    number: int
    uj: int
    taken_back_uj: int
    idle_uj: int
    idle_gpu_ms: int


def account_totals(ledger: Ledger) -> list[AccountTotal]:
    """Return the totals of every account's workloads, by number, and persist them.

    Raises:
        LedgerError: the marks cannot be written.

    """
    with ledger.reading() as connection:
        now = _totals(connection)
        marks = _marks(connection)
    totals: list[AccountTotal] = []
    fresh: list[bulk.Row] = []
    changed: list[bulk.Row] = []
    for key in sorted(now.keys() | marks.keys(), key=lambda key: (_number(marks, key), key)):
        booked, mark = now.get(key, (0, 0, 0)), marks.get(key)
        held = booked if mark is None else _greatest(booked, mark[1:])
        number = len(totals) + 1 if mark is None else mark[0]
        totals.append(AccountTotal(*key, number, held[0], held[0] - booked[0], *held[1:]))
        if mark is None:
            fresh.append((*key, number, *map(str, held)))
        elif held != mark[1:]:
            changed.append((*map(str, held), *key))
    if fresh or changed:
        with ledger.leading() as connection:
            columns = "cluster account number uj idle_uj idle_gpu_ms"
            bulk.insert(connection, schema.exported, columns, fresh)
            _raise(connection, changed)
    return totals


def job_marks(ledger: Ledger, ended_since_ms: int) -> Marks:
    """Return the marks of the jobs that were shown last; those that ended before are forgotten.

    Raises:
        LedgerError: they cannot be forgotten.

    """
    mark, workload = schema.exported_job.c, schema.workload.c
    over = sa.or_(workload.end_ms.is_(None), workload.end_ms >= ended_since_ms)
    marks: Marks = {}
    with ledger.leading() as connection:
        gone = mark.workload.not_in(sa.select(workload.id).where(over))
        connection.execute(sa.delete(schema.exported_job).where(gone))
        for row in connection.execute(sa.select(mark.workload, mark.part, mark.uj)):
            marks.setdefault(row.workload, {})[row.part] = row.uj
    return marks


def keep_job_marks(
    ledger: Ledger, marks: Mapping[int, Mapping[str, int]], gone: Iterable[int]
) -> None:
    """Write the marks that changed, and forget those of jobs that are no longer shown.

    Raises:
        LedgerError: they cannot be written.

    """
    rows = [(job, part, uj) for job, own in sorted(marks.items()) for part, uj in own.items()]
    forgotten = sorted(gone)
    if not rows and not forgotten:
        return
    table = schema.exported_job
    with ledger.leading() as connection:
        bulk.accumulate(connection, table, (), ("uj",), rows)
        for some in batched(forgotten, 500):
            connection.execute(sa.delete(table).where(table.c.workload.in_(some)))


def _totals(connection: sa.Connection) -> dict[tuple[str, str], tuple[int, int, int]]:
    rollup, holder, workload = schema.rollup.c, schema.holder.c, schema.workload.c
    on_gpu = sa.case((schema.meter.c.component == Component.GPU.value, rollup.idle_ms), else_=0)
    # First by holder, in the order of the table's key: names are looked up once for each.
    by_holder = (
        sa.select(
            rollup.holder,
            *parts(rollup.uj),
            *parts(rollup.idle_uj, "idle"),
            sa.func.sum(on_gpu).label("ms"),
        )
        .join_from(schema.rollup, schema.meter, schema.meter.c.id == rollup.meter)
        .group_by(rollup.holder)
        .subquery()
    )
    sums = (by_holder.c[name] for name in ("uj_high", "uj_low", "idle_high", "idle_low", "ms"))
    query = (
        sa.select(
            workload.cluster,
            workload.account,
            *(sa.func.sum(column).label(column.name) for column in sums),
        )
        .select_from(by_holder)
        .join(schema.holder, holder.id == by_holder.c.holder)
        .join(schema.workload, workload.id == holder.workload)
        .group_by(workload.cluster, workload.account)
    )
    return {
        (row.cluster, row.account): (
            whole(row.uj_high, row.uj_low),
            whole(row.idle_high, row.idle_low),
            int(row.ms),
        )
        for row in connection.execute(query)
    }


def _marks(connection: sa.Connection) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    return {
        (row.cluster, row.account): (
            row.number,
            int(row.uj),
            int(row.idle_uj),
            int(row.idle_gpu_ms),
        )
        for row in connection.execute(sa.select(schema.exported))
    }


def _number(marks: Mapping[tuple[str, str], tuple[int, ...]], key: tuple[str, str]) -> int:
    """Return its place: new ones come after all that are known."""
    return marks[key][0] if key in marks else len(marks) + 1


def _greatest(booked: tuple[int, int, int], mark: tuple[int, int, int]) -> tuple[int, int, int]:
    return max(booked[0], mark[0]), max(booked[1], mark[1]), max(booked[2], mark[2])


def _raise(connection: sa.Connection, changed: Iterable[bulk.Row]) -> None:
    table = schema.exported
    names = ["new_uj", "new_idle_uj", "new_idle_gpu_ms", "of_cluster", "of_account"]
    key = (table.c.cluster == sa.bindparam(names[3]), table.c.account == sa.bindparam(names[4]))
    values: dict[str, object] = {
        name.removeprefix("new_"): sa.bindparam(name) for name in names[:3]
    }
    bulk.execute(connection, sa.update(table).where(*key).values(values), names, changed)
