"""Which jobs have series of their own in `/metrics`, and by which ids their nodes call them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import FIRST_HOLDER

LEFT_MS = 86_400_000
"""A job that ended so long ago is not shown any more, however often that was."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Runs to show by their ids in the ledger, the most important first, and how many there are."""

    workloads: tuple[int, ...]
    count: int


def candidates(
    ledger: Ledger, *, since_ms: int, ended_since_ms: int, newer_than: int, most: int
) -> Candidates:
    """Return running and just ended runs: running ones first, by what they used lately.

    `since_ms`: start of a slot; who was booked anything from then on runs. `ended_since_ms`: runs
    that ended before are over, but for those that were shown last and for those that are new in the
    ledger, beyond the id `newer_than`: these may have ended up to LEFT_MS earlier.
    """
    posting, holder, workload = schema.posting.c, schema.holder.c, schema.workload.c
    shown = sa.select(schema.exported_job.c.workload).distinct()
    lately = (
        sa.select(posting.holder, sa.func.sum(posting.uj).label("uj"))
        .where(posting.slot >= since_ms, posting.holder >= FIRST_HOLDER)
        .group_by(posting.holder)
        .subquery()
    )
    nothing = sa.literal(0).label("uj")
    sources = [
        sa.select(holder.workload, lately.c.uj).join_from(
            lately, schema.holder, holder.id == lately.c.holder
        ),
        sa.select(schema.exported_job.c.workload, nothing),
        sa.select(holder.workload, nothing).where(holder.workload > newer_than),
    ]
    owed = sa.or_(workload.id.in_(shown), workload.id > newer_than)
    found = sa.union_all(*sources).subquery()
    runs = workload.end_ms.is_(None)
    query = (
        sa.select(workload.id, sa.func.count().over().label("total"))
        .join_from(found, schema.workload, workload.id == found.c.workload)
        .where(
            sa.or_(
                runs,
                workload.end_ms >= ended_since_ms,
                sa.and_(owed, workload.end_ms >= ended_since_ms - LEFT_MS),
            )
        )
        .group_by(workload.id, workload.end_ms)
        .order_by(
            sa.case((runs, 0), else_=1),
            sa.func.sum(found.c.uj).desc(),
            workload.end_ms.desc(),
            workload.id.desc(),
        )
        .limit(most)
    )
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
        count = rows[0].total if rows else 0
    return Candidates(tuple(row.id for row in rows), count)


def newest_workload(ledger: Ledger) -> int:
    """Return the greatest id of a run in the ledger, 0 in an empty one."""
    with ledger.reading() as connection:
        return connection.scalar(sa.select(sa.func.max(schema.workload.c.id))) or 0


def ids_on_nodes(ledger: Ledger, workloads: Collection[int]) -> dict[int, list[str]]:
    """Return the ids by which nodes call each run: a SLUID, a job number, a pod's UID or name."""
    holder = schema.holder.c
    query = sa.select(holder.workload, holder.raw_id).distinct().order_by(holder.raw_id)
    called: dict[int, list[str]] = {}
    with ledger.reading() as connection:
        for some in _in_pieces(workloads):
            for row in connection.execute(query.where(holder.workload.in_(some))):
                called.setdefault(row.workload, []).append(row.raw_id)
    return called


def _in_pieces(workloads: Collection[int]) -> Iterable[Collection[int | str]]:
    return batched(sorted(workloads), 500)
