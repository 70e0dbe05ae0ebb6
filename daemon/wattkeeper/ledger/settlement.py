"""Settlement: idle energy of a GPU belongs to the job to which the scheduler had granted it.

A node books to `idle` what nothing ran on. Once a scheduler has said who held which GPU up to the
end of such a stretch, the part in which it was granted is posted from `idle` to the holder, split
`settled`, allocated but idle. Nothing is edited: both sides are posted, in one transaction with
what `settled` remembers of the stretch; where a grant turns out to be another, the difference is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.commit import post
from wattkeeper.ledger.entitlement import Entitled, entitle
from wattkeeper.ledger.idle import tidy
from wattkeeper.ledger.naming import see_holders
from wattkeeper.ledger.schema import HOLDER_BITS
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import floor
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.window import Split

PIECE = 2_000
"""Stretches in one transaction, so that commits do not wait long."""
CHANGE_MS = 3_600_000
"""For how long what was settled, or may be yet, follows its grants: by the scheduler's clock."""
GRACE_MS = 300_000
"""For how long a grant may turn up for a stretch that nobody seemed to hold."""


def settle(ledger: Ledger, now_ms: int) -> bool:
    """Settle some of what waits, and forget what is over. Returns whether more is to do.

    `now_ms`: UTC, by which what has waited too long is given up.

    Raises:
        LedgerError: the database does not take it; nothing was settled by this call.

    """
    with ledger.leading() as connection:
        rows = connection.execute(_waiting()).all()
        if rows:
            _Settlement(connection, ledger.slot_ms).settle(rows)
        return tidy(connection, ledger.slot_ms, now_ms, PIECE) or len(rows) == PIECE


def _waiting() -> "sa.Select[Any]":
    """Stretches that a scheduler has covered and that wait to be settled, with their node."""
    idle, meter, node = schema.idle.c, schema.meter.c, schema.node.c
    spoke = schema.granting.c
    covered = (
        sa.select(spoke.cluster, sa.func.max(spoke.until_ms).label("until_ms"))
        .group_by(spoke.cluster)
        .subquery()
    )
    return (
        sa.select(schema.idle, node.id.label("node"), node.cluster, node.name, covered.c.until_ms)
        .join(schema.meter, meter.id == idle.meter)
        .join(schema.node, node.id == meter.node)
        .join(covered, covered.c.cluster == node.cluster)
        .where(
            idle.keep_ms.is_(None),
            # Said twice, for the index: while the schedulers are away millions of rows may wait.
            idle.to_ms <= sa.select(sa.func.max(spoke.until_ms)).scalar_subquery(),
            idle.to_ms <= covered.c.until_ms,
        )
        .order_by(idle.to_ms)
        .limit(PIECE)
    )


@dataclass(slots=True)
class _Granted:
    """A grant with its end as it is known; `open`: its workload's end may still be told."""

    workload: int
    from_ms: int
    to_ms: int
    open: bool


@dataclass(slots=True)
class _Settlement:
    """One piece: what is posted, remembered and kept goes to disk together."""

    connection: sa.Connection
    slot_ms: int
    postings: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)

    def settle(self, rows: Sequence[Any]) -> None:
        """Post the difference between what the grants say and what was posted before."""
        grants = _granted(self.connection, rows)
        before = _settled(self.connection, [row.id for row in rows])
        own = {
            row.id: [
                grant
                for grant in grants.get((row.cluster, row.name, row.gpu), ())
                if grant.from_ms < row.to_ms and row.from_ms < grant.to_ms + CHANGE_MS
            ]
            for row in rows
        }
        holders = _Holders.load(
            self.connection, (g.workload for some in own.values() for g in some)
        )
        remember: list[bulk.Row] = []
        keep: list[bulk.Row] = []
        for row in rows:
            entitled = [
                Entitled(holders.find(grant, row.node), grant.from_ms, grant.to_ms)
                for grant in own[row.id]
                if max(row.from_ms, grant.from_ms) < grant.to_ms
            ]
            found = entitle(row.from_ms, row.to_ms, row.uj, entitled)
            posted = before.get(row.id, {})
            for holder in sorted(found.keys() | posted.keys()):
                uj, ms = found.get(holder, (0, 0))
                posted_uj, posted_ms = posted.get(holder, (0, 0))
                if (uj, ms) != (posted_uj, posted_ms):
                    self._post(row, holder, uj - posted_uj, ms - posted_ms)
                    remember.append((row.id, holder, uj - posted_uj, ms - posted_ms))
            follows = found or posted or any(grant.open for grant in own[row.id])
            keep.append((row.until_ms + (CHANGE_MS if follows else GRACE_MS), row.id))
        holders.save()
        self._save(remember, keep)

    def _post(self, row: Any, holder: int, uj: int, ms: int) -> None:
        """Move energy and time from `idle` to a holder, or back where they are negative."""
        power_mw = uj // ms if uj > 0 and ms > 0 else 0
        slot = floor(row.from_ms, self.slot_ms)
        kind = (row.method, Split.SETTLED.value, row.policy)
        for whose, figures in (
            (holder, (uj, ms, power_mw, row.to_ms, uj, ms)),
            (Account.IDLE.value, (-uj, -ms, 0, row.to_ms, 0, 0)),
        ):
            sums = self.postings.setdefault((slot, row.meter, whose, *kind), [0, 0, 0, 0, 0, 0])
            for place in (0, 1, 4, 5):
                sums[place] += figures[place]
            for place in (2, 3):
                sums[place] = max(sums[place], figures[place])
        if uj > 0:
            self.seen[holder] = max(row.to_ms, self.seen.get(holder, 0))

    def _save(self, remember: Sequence[bulk.Row], keep: Sequence[bulk.Row]) -> None:
        post(self.connection, [(*key, *sums) for key, sums in sorted(self.postings.items())])
        bulk.accumulate(self.connection, schema.settled, ("uj", "ms"), (), remember)
        bulk.update(self.connection, schema.idle, "keep_ms", "id", keep)
        see_holders(self.connection, self.seen)


def _granted(
    connection: sa.Connection, rows: Sequence[Any]
) -> dict[tuple[str, str, int], list[_Granted]]:
    """Return what was granted around the stretches, by cluster, node and GPU."""
    table, spoke = schema.granted.c, schema.granting.c
    end_ms = sa.func.coalesce(table.to_ms, table.seen_ms, spoke.until_ms)
    query = (
        sa.select(schema.granted, end_ms.label("end_ms"))
        .join(
            schema.granting,
            sa.and_(spoke.scheduler == table.scheduler, spoke.cluster == table.cluster),
        )
        .where(
            table.from_ms < max(row.to_ms for row in rows),
            end_ms > min(row.from_ms for row in rows) - CHANGE_MS,
        )
    )
    found: dict[tuple[str, str, int], list[_Granted]] = {}
    for cluster in {row.cluster for row in rows}:
        names = sorted({row.name for row in rows if row.cluster == cluster})
        for begin in range(0, len(names), 500):
            here = (table.cluster == cluster, table.node.in_(names[begin : begin + 500]))
            for row in connection.execute(query.where(*here)):
                is_open = row.to_ms is None and row.seen_ms is not None
                grant = _Granted(row.workload, row.from_ms, row.end_ms, is_open)
                for gpu in row.gpus.split(","):
                    found.setdefault((cluster, row.node, int(gpu)), []).append(grant)
    return found


def _settled(
    connection: sa.Connection, rows: Sequence[int]
) -> dict[int, dict[int, tuple[int, int]]]:
    """Return what was posted of these stretches: µJ and ms by holder."""
    table = schema.settled.c
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for begin in range(0, len(rows), 500):
        query = sa.select(schema.settled).where(table.idle.in_(rows[begin : begin + 500]))
        for row in connection.execute(query):
            found.setdefault(row.idle, {})[row.holder] = (row.uj, row.ms)
    return found


@dataclass(slots=True)
class _Holders:
    """The centre's own holders: one of each workload on each node where it was settled to.

    Apart from those that the node saw, of which there may be several, and whose run is told by
    their lives: what the scheduler granted to a run stays with it.
    """

    connection: sa.Connection
    known: dict[tuple[int, int], int]
    next_id: int
    fresh: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def load(cls, connection: sa.Connection, workloads: Iterable[int]) -> "_Holders":
        """Read those of some workloads."""
        holder = schema.holder.c
        ours = holder.id < 1 << HOLDER_BITS
        newest = connection.execute(sa.select(sa.func.max(holder.id)).where(ours)).scalar()
        found = cls(connection, {}, max(FIRST_HOLDER, (newest or 0) + 1))
        numbers = sorted(set(workloads))
        for begin in range(0, len(numbers), 500):
            query = sa.select(holder.id, holder.workload, holder.node).where(
                ours, holder.workload.in_(numbers[begin : begin + 500])
            )
            for row in connection.execute(query):
                found.known[row.workload, row.node] = row.id
        return found

    def find(self, grant: _Granted, node: int) -> int:
        """Return the holder of a grant's workload on a node, new if need be."""
        key = (grant.workload, node)
        number = self.known.get(key)
        if number is None:
            number = self.known[key] = self.next_id
            self.next_id += 1
            self.fresh[key] = grant.from_ms
        return number

    def save(self) -> None:
        """Write the new ones under the names of their workloads."""
        if not self.fresh:
            return
        workload = schema.workload.c
        names: dict[int, tuple[str, str]] = {}
        numbers = sorted({number for number, _ in self.fresh})
        for begin in range(0, len(numbers), 500):
            query = sa.select(workload.id, workload.manager, workload.raw_id).where(
                workload.id.in_(numbers[begin : begin + 500])
            )
            names |= {row.id: (row.manager, row.raw_id) for row in self.connection.execute(query)}
        rows = [
            (self.known[key], key[1], *names[key[0]], born_ms, born_ms, key[0])
            for key, born_ms in self.fresh.items()
        ]
        columns = "id node manager raw_id birth_ms seen_ms workload"
        bulk.insert(self.connection, schema.holder, columns, rows)
