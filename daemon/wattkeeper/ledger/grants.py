"""Who was given which GPU, by the scheduler's word; it settles what nodes booked to `idle`.

A grant begins at its workload's start. Where a workload is found with other GPUs than before, it
was resized: its old ones end, and its new ones begin, at the last answer that named the old ones.
A grant that an answer no longer names ends there too, until its workload's end is known.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.idle import LONGEST_WAIT_MS
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

_COLUMNS = "scheduler workload cluster node gpus from_ms seen_ms to_ms resized"
_CHANGING = "seen_ms to_ms resized"


@dataclass(slots=True)
class Grant:
    """A row of `granted`; `id` is 0 while it is not written."""

    id: int
    workload: int
    cluster: str
    node: str
    gpus: str
    from_ms: int
    seen_ms: int | None = None
    to_ms: int | None = None
    resized: bool = False

    def end_ms(self, until_ms: int) -> int:
        """Return its end as far as it is known; `until_ms`: up to when its scheduler spoke."""
        if self.to_ms is not None:
            return self.to_ms
        return until_ms if self.seen_ms is None else self.seen_ms

    def row(self) -> bulk.Row:
        """Return the values of the columns that change, and its id."""
        return self.seen_ms, self.to_ms, int(self.resized), self.id


def granting(connection: sa.Connection, since_ms: int = 0) -> set[str]:
    """Return the clusters of whose GPUs a scheduler has spoken, up to `since_ms` at least."""
    table = schema.granting.c
    query = sa.select(table.cluster).where(table.until_ms >= since_ms).distinct()
    return set(connection.execute(query).scalars())


def granting_clusters(ledger: Ledger, now_ms: int) -> set[str]:
    """Return the clusters whose GPUs are granted: a scheduler that is gone for good is forgotten.

    Raises:
        LedgerError: the ledger cannot be read.

    """
    try:
        with ledger.reading() as connection:
            return granting(connection, now_ms - LONGEST_WAIT_MS)
    except sa.exc.DBAPIError as error:
        raise LedgerError(f"ledger: not read: {error.orig}") from error


def record(
    connection: sa.Connection, scheduler: str, knowledge: Knowledge, workloads: Sequence[int]
) -> None:
    """Take the grants in a scheduler's answer. An answer that was taken changes nothing.

    `workloads`: the ids of `knowledge.workloads`, in their order. What was settled by grants that
    are other now is marked to be settled again.
    """
    known = [*zip(knowledge.workloads, workloads, strict=True)]
    book = _Book.load(connection, scheduler, known)
    for info, workload in known:
        if info.end_ms is not None:
            book.end(workload, info, info.end_ms)
    if knowledge.granted_ms is not None:
        running = [(info, workload) for info, workload in known if info.end_ms is None]
        named = {info.cluster[:MAX_LABEL] for info in knowledge.workloads}
        named |= {node.cluster[:MAX_LABEL] for node in knowledge.nodes or ()}
        for cluster in sorted(named | book.until.keys()):
            own = [pair for pair in running if pair[0].cluster[:MAX_LABEL] == cluster]
            book.answer(cluster, own, knowledge.granted_ms)
    book.save()


@dataclass(slots=True)
class _Book:
    """The grants of one scheduler that an answer may change.

    `until`: up to when it spoke of each cluster. `touched`: (cluster, node) -> since when its
    grants are other than they were.
    """

    connection: sa.Connection
    scheduler: str
    until: dict[str, int]
    by_workload: dict[int, list[Grant]] = field(default_factory=dict)
    before: dict[int, Grant] = field(default_factory=dict)
    spoke: dict[str, int] = field(default_factory=dict)
    touched: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        connection: sa.Connection,
        scheduler: str,
        known: Sequence[tuple[WorkloadInfo, int]],
    ) -> "_Book":
        """Read what is held, and all that the workloads of an answer ever held."""
        table, spoke = schema.granted.c, schema.granting.c
        until = sa.select(spoke.cluster, spoke.until_ms).where(spoke.scheduler == scheduler)
        book = cls(
            connection,
            scheduler,
            {row.cluster: row.until_ms for row in connection.execute(until)},
        )
        of_scheduler = sa.select(schema.granted).where(table.scheduler == scheduler)
        held = connection.execute(of_scheduler.where(table.seen_ms.is_(None)))
        book.take(_grants(held))
        others = sorted(
            {
                number
                for info, number in known
                if info.end_ms is not None or (info.gpus and number not in book.by_workload)
            }
        )
        for begin in range(0, len(others), 500):
            chunk = others[begin : begin + 500]
            past = of_scheduler.where(table.workload.in_(chunk), table.seen_ms.is_not(None))
            book.take(_grants(connection.execute(past)))
        return book

    def take(self, grants: Iterable[Grant]) -> None:
        """Take grants as they are written."""
        for grant in grants:
            self.before[grant.id] = replace(grant)
            self.by_workload.setdefault(grant.workload, []).append(grant)

    def end(self, workload: int, info: WorkloadInfo, end_ms: int) -> None:
        """The run has ended: its grants end then, if they began in it and are not over."""
        own = self.by_workload.setdefault(workload, [])
        for grant in own:
            of_run = info.start_ms is None or grant.from_ms >= info.start_ms
            if not of_run or grant.from_ms >= end_ms:
                continue
            if grant.resized and grant.to_ms is not None and grant.to_ms <= end_ms:
                continue
            self._close(grant, end_ms, grant.resized)
        start_ms = info.start_ms
        if start_ms is None or start_ms >= end_ms:
            return
        if not any(grant.end_ms(end_ms) > start_ms for grant in own):
            for node, gpus in _gpus(info).items():
                grant = self._add(workload, info, node, gpus, start_ms)
                grant.seen_ms = grant.to_ms = end_ms

    def answer(self, cluster: str, running: Sequence[tuple[WorkloadInfo, int]], at_ms: int) -> None:
        """At `at_ms` these workloads ran, and no others. An old answer says nothing new."""
        if at_ms < self.until.get(cluster, 0):
            return
        for info, workload in running:
            self._hold(workload, info, at_ms)
        still = {workload for _, workload in running}
        for workload, own in self.by_workload.items():
            if workload not in still:
                for grant in own:
                    if grant.cluster == cluster and grant.seen_ms is None:
                        grant.seen_ms = self.until.get(cluster, at_ms)
        self.spoke[cluster] = at_ms

    def _hold(self, workload: int, info: WorkloadInfo, at_ms: int) -> None:
        wanted = _gpus(info)
        if not wanted:
            return  # a scheduler that does not say this once has taken nothing away
        cluster = info.cluster[:MAX_LABEL]
        until_ms = self.until.get(cluster, at_ms)
        start_ms = at_ms if info.start_ms is None else info.start_ms
        own = self.by_workload.setdefault(workload, [])
        ends = [grant.end_ms(until_ms) for grant in own]
        begin_ms = max([start_ms, *(end for end in ends if end >= start_ms)])
        for grant, end_ms in zip(own, ends, strict=True):
            if grant.to_ms is not None:
                continue
            if end_ms >= start_ms and wanted.get(grant.node) == grant.gpus:
                del wanted[grant.node]
                if grant.seen_ms is not None:
                    self._touch(grant, grant.seen_ms)
                    grant.seen_ms = None
            else:
                self._close(grant, end_ms, resized=True)
        for node, gpus in wanted.items():
            self._add(workload, info, node, gpus, begin_ms)

    def _close(self, grant: Grant, end_ms: int, resized: bool) -> None:
        until_ms = self.until.get(grant.cluster, end_ms)
        before_ms = grant.end_ms(until_ms)
        to_ms = max(grant.from_ms, end_ms)
        if before_ms != to_ms:
            self._touch(grant, min(before_ms, to_ms))
        grant.to_ms, grant.resized = to_ms, resized
        if grant.seen_ms is None:
            grant.seen_ms = until_ms

    def _add(self, workload: int, info: WorkloadInfo, node: str, gpus: str, from_ms: int) -> Grant:
        grant = Grant(0, workload, info.cluster[:MAX_LABEL], node, gpus, from_ms)
        self.by_workload[workload].append(grant)
        self._touch(grant, from_ms)
        return grant

    def _touch(self, grant: Grant, from_ms: int) -> None:
        key = (grant.cluster, grant.node)
        self.touched[key] = min(from_ms, self.touched.get(key, from_ms))

    def save(self) -> None:
        """Write what is new or changed."""
        grants = [grant for own in self.by_workload.values() for grant in own]
        fresh = [
            (
                self.scheduler,
                grant.workload,
                grant.cluster,
                grant.node,
                grant.gpus,
                grant.from_ms,
                *grant.row()[:-1],
            )
            for grant in grants
            if not grant.id
        ]
        bulk.insert(self.connection, schema.granted, _COLUMNS, fresh)
        changed = [g.row() for g in grants if g.id and g != self.before[g.id]]
        bulk.update(self.connection, schema.granted, _CHANGING, "id", changed)
        for cluster, at_ms in self.spoke.items():
            self._speak(cluster, at_ms)
        _settle_again(self.connection, [(*key, at) for key, at in sorted(self.touched.items())])

    def _speak(self, cluster: str, at_ms: int) -> None:
        table = schema.granting
        if cluster in self.until:
            own = sa.and_(table.c.scheduler == self.scheduler, table.c.cluster == cluster)
            self.connection.execute(sa.update(table).where(own).values(until_ms=at_ms))
        else:
            row = {"scheduler": self.scheduler, "cluster": cluster, "until_ms": at_ms}
            self.connection.execute(sa.insert(table).values(row))


def _gpus(info: WorkloadInfo) -> dict[str, str]:
    """Return the indices by node, as they stand in `granted`."""
    by_node: dict[str, set[int]] = {}
    for part in info.gpus:
        by_node.setdefault(part.node[:MAX_LABEL], set()).update(part.indices)
    return {node: ",".join(map(str, sorted(own))) for node, own in by_node.items() if own}


def _grants(rows: "Iterable[sa.Row[tuple[object, ...]]]") -> Iterator[Grant]:
    for row in rows:
        yield Grant(
            row.id,
            row.workload,
            row.cluster,
            row.node,
            row.gpus,
            row.from_ms,
            row.seen_ms,
            row.to_ms,
            bool(row.resized),
        )


def _settle_again(connection: sa.Connection, late: Sequence[bulk.Row]) -> None:
    """Let what was settled on these nodes since then wait again."""
    idle, meter, node = schema.idle.c, schema.meter.c, schema.node.c
    of_node = (
        sa.select(meter.id)
        .join(schema.node, node.id == meter.node)
        .where(node.cluster == sa.bindparam("of_cluster"), node.name == sa.bindparam("of_node"))
    )
    statement = (
        sa.update(schema.idle)
        .where(
            idle.meter.in_(of_node),
            idle.to_ms > sa.bindparam("since_ms"),
            idle.keep_ms.is_not(None),
        )
        .values(keep_ms=sa.null())
    )
    bulk.execute(connection, statement, ["of_cluster", "of_node", "since_ms"], late)
