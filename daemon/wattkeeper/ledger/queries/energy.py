"""Lives and energies of workloads, which jobs and reports are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.accuracy import grade
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.grid import ceil, floor
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.window import Split

ENDED_MS = 60_000
"""Without a scheduler a workload has ended when its nodes went on without it for that long."""


@dataclass(frozen=True, slots=True)
class Life:
    """A workload: its names, its time as far as known, where it was seen."""

    id: int
    cluster: str
    manager: str
    raw_id: str
    job_id: str
    user: str
    account: str
    partition: str
    namespace: str
    owner_kind: str
    owner_name: str
    array: str
    name: str
    state: str
    start_ms: int | None
    end_ms: int | None
    seen_ms: int | None
    nodes: list[str]


@dataclass(slots=True)
class Energy:
    """What a workload used, in microjoules, along each axis; `gpu_ms`: time held, by GPU.

    `idle_uj`: of that, allocated while nothing of it ran; `idle_gpu_ms`: that time, by GPU.
    """

    uj: int = 0
    by_component: dict[str, int] = field(default_factory=dict)
    by_source: dict[str, int] = field(default_factory=dict)
    by_split: dict[str, int] = field(default_factory=dict)
    by_grade: dict[str, int] = field(default_factory=dict)
    gpu_ms: int = 0
    idle_uj: int = 0
    idle_gpu_ms: int = 0

    def add(
        self,
        component: str,
        method: int,
        split: int,
        uj: int,
        ms: int,
        idle_uj: int = 0,
        idle_ms: int = 0,
    ) -> None:
        """Add one group of postings."""
        self.uj += uj
        self.idle_uj += idle_uj
        for axis, key in (
            (self.by_component, component),
            (self.by_source, Method(method).name.lower()),
            (self.by_split, Split(split).name.lower()),
            (self.by_grade, grade(method, split)),
        ):
            axis[key] = axis.get(key, 0) + uj
        if component == Component.GPU:
            self.gpu_ms += ms
            self.idle_gpu_ms += idle_ms


def lives(
    connection: sa.Connection,
    where: "Sequence[sa.ColumnElement[bool]]",
    since_ms: int | None = None,
    newest: int | None = None,
) -> list[Life]:
    """Return the workloads that match and were alive at or after `since_ms`.

    With `newest` only so many of them, the newest first. The scheduler's times win over those of
    holders.
    """
    workload, identity, holder = schema.workload.c, schema.identity.c, schema.holder.c
    query = (
        sa.select(
            schema.workload,
            identity.user,
            identity.name,
            sa.func.min(holder.birth_ms).label("born_ms"),
            sa.func.max(holder.seen_ms).label("seen_ms"),
            sa.func.max(schema.node.c.seen_ms).label("node_seen_ms"),
            sa.func.aggregate_strings(schema.node.c.name, "\n").label("nodes"),
        )
        .join(schema.identity, identity.workload == workload.id)
        .outerjoin(schema.holder, holder.workload == workload.id)
        .outerjoin(schema.node, schema.node.c.id == holder.node)
        .where(*where)
        .group_by(workload.id, identity.user, identity.name)
    )
    if since_ms is not None:
        last = (workload.end_ms, sa.func.max(holder.seen_ms), workload.start_ms, 0)
        query = query.having(sa.func.coalesce(*last) >= since_ms)
    if newest is not None:
        start = sa.func.coalesce(workload.start_ms, sa.func.min(holder.birth_ms), 0)
        query = query.order_by(start.desc(), workload.id.desc()).limit(newest)
    booked = _booked_ms(connection)
    return [_life(row, booked) for row in connection.execute(query)]


def _booked_ms(connection: sa.Connection) -> dict[str, int]:
    """Return up to when each node's newest meter is booked."""
    node, meter = schema.node.c, schema.meter.c
    query = (
        sa.select(node.name, sa.func.max(meter.end_ms).label("end_ms"))
        .join(schema.meter, meter.node == node.id)
        .group_by(node.name)
    )
    return {row.name: row.end_ms for row in connection.execute(query)}


def _life(row: "sa.Row[tuple[object, ...]]", booked: dict[str, int]) -> Life:
    nodes = sorted(set(filter(None, (row.nodes or "").split("\n"))))
    start_ms = row.start_ms if row.start_ms is not None else row.born_ms
    end_ms, state = row.end_ms, row.state
    if end_ms is None and not state and row.seen_ms is not None:
        upto_ms = max(booked.get(node, 0) for node in nodes)
        end_ms = row.seen_ms if row.seen_ms + ENDED_MS <= upto_ms else None
        state = "RUNNING" if end_ms is None else "ENDED"
    return Life(
        row.id,
        row.cluster,
        row.manager,
        row.raw_id,
        row.job_id,
        row.user,
        row.account,
        row.partition,
        row.namespace,
        row.owner_kind,
        row.owner_name,
        row.array,
        row.name,
        state,
        start_ms,
        end_ms,
        row.seen_ms,
        nodes,
    )


def energies(connection: sa.Connection, workloads: Sequence[int]) -> dict[int, Energy]:
    """Return what each workload used so far, from the daily sums."""
    rollup, holder, meter = schema.rollup.c, schema.holder.c, schema.meter.c
    keys = (holder.workload, meter.component, rollup.method, rollup.split)
    query = (
        sa.select(
            *keys,
            *parts(rollup.uj),
            sa.func.sum(rollup.ms).label("ms"),
            *parts(rollup.idle_uj, "idle"),
            sa.func.sum(rollup.idle_ms).label("idle_ms"),
        )
        .select_from(schema.holder)
        .join(schema.rollup, rollup.holder == holder.id)
        .join(schema.meter, meter.id == rollup.meter)
        .group_by(*keys)
    )
    found: dict[int, Energy] = {}
    for chunk in batched(workloads, 500):
        for row in connection.execute(query.where(holder.workload.in_(chunk))):
            energy = found.setdefault(row.workload, Energy())
            uj = whole(row.uj_high, row.uj_low)
            idle_uj = whole(row.idle_high, row.idle_low)
            # PostgreSQL sums whole numbers to decimals.
            ms = (int(row.ms), int(row.idle_ms))
            energy.add(row.component, row.method, row.split, uj, ms[0], idle_uj, ms[1])
    return found


def peak_mw(connection: sa.Connection, workload: int) -> int | None:
    """Return the greatest sum over meters, of each one's highest window in a slot."""
    posting, own = schema.posting.c, meters_of(workload)
    first, last = slots_of(connection, workload)
    if first is None or last is None:
        return None
    holders = sa.select(schema.holder.c.id).where(schema.holder.c.workload == workload)
    per_meter = (
        sa.select(posting.slot, posting.meter, sa.func.max(posting.peak_mw).label("mw"))
        .where(
            posting.slot.between(first, last), posting.meter.in_(own), posting.holder.in_(holders)
        )
        .group_by(posting.slot, posting.meter)
        .subquery()
    )
    per_slot = sa.select(sa.func.sum(per_meter.c.mw).label("mw")).group_by(per_meter.c.slot)
    return connection.execute(sa.select(sa.func.max(per_slot.subquery().c.mw))).scalar()


def coverage(connection: sa.Connection, slot_ms: int, life: Life) -> float | None:
    """Return the metered part of the time of the workload's meters, None without any.

    Each slot counts by how much of it lies in the life, as well covered as it was on the whole; a
    slot in which nothing came from a meter counts as not covered.
    """
    until = life.end_ms if life.end_ms is not None else life.seen_ms
    own = [row.meter for row in connection.execute(meters_of(life.id))]
    if until is None or life.start_ms is None or until <= life.start_ms or not own:
        return None
    table = schema.coverage.c
    first, last = floor(life.start_ms, slot_ms), ceil(until, slot_ms) - 1
    covered = 0.0
    for chunk in batched(own, 500):
        query = sa.select(schema.coverage).where(
            table.slot.between(first, last), table.meter.in_(chunk)
        )
        for row in connection.execute(query):
            known = row.covered_ms + row.unmeasured_ms
            inside = min(until, row.slot + slot_ms) - max(life.start_ms, row.slot)
            covered += inside * row.covered_ms / known if known else 0
    return covered / ((until - life.start_ms) * len(own))


def final(connection: sa.Connection, life: Life) -> bool:
    """Return whether no figure of the workload can change any more.

    It has ended, every meter of its nodes that still delivers is booked beyond that, and no idle
    stretch of its time waits for a scheduler's word, or follows one that may still be another.
    """
    if life.end_ms is None or life.start_ms is None:
        return False
    holder, meter, idle = schema.holder.c, schema.meter.c, schema.idle.c
    nodes = sa.select(holder.node).where(holder.workload == life.id)
    late = sa.select(meter.node, sa.func.max(meter.end_ms)).where(meter.node.in_(nodes))
    late = late.group_by(meter.node).having(sa.func.max(meter.end_ms) < life.end_ms)
    if connection.execute(late.limit(1)).first() is not None:
        return False
    own = sa.select(meter.id).where(meter.node.in_(nodes))
    waiting = sa.select(idle.id).where(
        idle.meter.in_(own), idle.to_ms > life.start_ms, idle.from_ms < life.end_ms
    )
    return connection.execute(waiting.limit(1)).first() is None


def batched(items: Sequence[int] | Sequence[str], size: int) -> Iterator[Sequence[int | str]]:
    """Cut a sequence into pieces: databases bound the parameters of a statement."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def meters_of(workload: int) -> "sa.Select[tuple[int]]":
    """Return the statement for the meters that a workload used energy or time of."""
    rollup, holder = schema.rollup.c, schema.holder.c
    return (
        sa.select(rollup.meter)
        .join(schema.holder, holder.id == rollup.holder)
        # What was settled and taken back altogether leaves a row of nothing.
        .where(holder.workload == workload, sa.or_(rollup.uj != 0, rollup.ms != 0))
        .distinct()
    )


def slots_of(connection: sa.Connection, workload: int) -> tuple[int | None, int | None]:
    """Return the begin of the first day, and the end, of what a workload used; None if nothing."""
    rollup, holder = schema.rollup.c, schema.holder.c
    query = (
        sa.select(sa.func.min(rollup.day), sa.func.max(rollup.to_ms))
        .join(schema.holder, holder.id == rollup.holder)
        .where(holder.workload == workload)
    )
    day, to_ms = connection.execute(query).one()
    return (None if day is None else day * 86_400_000), to_ms
