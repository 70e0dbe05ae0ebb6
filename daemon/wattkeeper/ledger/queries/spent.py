"""What nodes and workloads were booked between two instants: sums for limits, made in one pass."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from wattkeeper.ledger import inventory, schema
from wattkeeper.ledger.queries.whose import Whose, columns
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.grid import DAY_MS, ceil, floor
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component


class NodeSum(NamedTuple):
    """Energy of a node: all that its meters counted. `at`: its slot or day, 0 for all of them."""

    at: int
    cluster: str
    node: str
    uj: int


class WorkSum(NamedTuple):
    """Energy that was booked to workloads, together for all that are alike."""

    at: int
    whose: Whose
    uj: int


class NodeNow(NamedTuple):
    """A node as it is in the books now. Instants are UTC milliseconds.

    `seen_ms`, `booked_ms`: last delivery, end of its newest window; None where no agent ever
    delivered. `meters`: those of components, of which `gpus` are GPUs; `uj`: the sum of their
    counts. `listed`: a scheduler has it; `expected`, `gpus_expected`: what it says.
    """

    id: int | None
    cluster: str
    node: str
    seen_ms: int | None
    booked_ms: int | None
    meters: int
    gpus: int
    uj: int
    listed: bool
    expected: bool
    gpus_expected: int | None


_METERED = schema.meter.c.component != Component.HOST.value


def node_sums(
    connection: sa.Connection, since_ms: int, until_ms: int, each: str = ""
) -> Iterator[NodeSum]:
    """Yield the energy of every node; `each`: by `slot` or by `day`, else in one sum.

    What the host draws beyond its components is the node's too. Between whole slots; by days,
    whole days of UTC.
    """
    source, at = _source(since_ms, until_ms, each)
    node = schema.node.c
    query = _of_meters(source, at, node.cluster, node.name)
    for when, cluster, name, high, low in connection.execute(query):
        yield NodeSum(when, cluster, name, whole(high, low))


def work_sums(
    connection: sa.Connection,
    since_ms: int,
    until_ms: int,
    jobs: Sequence[str] = (),
    each: str = "",
) -> Iterator[WorkSum]:
    """Yield the energy of workloads by cluster, user, account and partition; `jobs` by themselves.

    The job of a sum is "" where it is none of `jobs`.
    """
    source, at = _source(since_ms, until_ms, each)
    cluster, job, *others, _name = columns()
    own = sa.case((job.element.in_(jobs), job.element), else_="") if jobs else sa.literal("")
    holder = schema.holder.c
    query = (
        _of_meters(source, at, cluster, own, *others)
        .join(schema.holder, holder.id == source.holder)
        .join(schema.workload, schema.workload.c.id == holder.workload)
        .join(schema.identity, schema.identity.c.workload == holder.workload)
    )
    for when, *names, high, low in connection.execute(query):
        yield WorkSum(when, Whose(*names), whole(high, low))


def _of_meters(source: Any, at: Any, *keys: Any) -> "sa.Select[Any]":
    meter, node = schema.meter.c, schema.node.c
    # No label may be a column's name: SQL would group by the column.
    labelled = [key.label(f"key_{number}") for number, key in enumerate((at, *keys))]
    return (
        sa.select(*labelled, *parts(source.uj))
        .join_from(schema.meter, sa.inspect(source.uj).table, meter.id == source.meter)
        .join(schema.node, node.id == meter.node)
        # Of a host only what no component meter sees: all else is booked there already.
        .where(sa.or_(_METERED, source.holder == Account.OVERHEAD))
        .group_by(*(key.name for key in labelled))
    )


def _source(since_ms: int, until_ms: int, each: str) -> tuple[Any, Any]:
    """Return figures of the asked time, and what they are told apart by."""
    posting, rollup = schema.posting.c, schema.rollup.c
    names = ("holder", "meter", "uj")
    slots = sa.select(*(posting[name] for name in names), posting.slot.label("at"))
    days = sa.select(*(rollup[name] for name in names), rollup.day.label("at"))
    begin, end = ceil(since_ms, DAY_MS), floor(until_ms, DAY_MS)
    whole_days = days.where(rollup.day >= begin // DAY_MS, rollup.day < end // DAY_MS)
    if each == "day":
        source = whole_days.subquery().c
        return source, source.at
    if each == "slot" or begin >= end:
        within = slots.where(posting.slot >= since_ms, posting.slot < until_ms)
        source = within.subquery().c
        return source, source.at if each else sa.literal(0)
    edges = sa.or_(
        sa.and_(posting.slot >= since_ms, posting.slot < begin),
        sa.and_(posting.slot >= end, posting.slot < until_ms),
    )
    return sa.union_all(slots.where(edges), whole_days).subquery().c, sa.literal(0)


def nodes_now(connection: sa.Connection) -> list[NodeNow]:
    """Return every node that delivered or that a scheduler has."""
    node, meter = schema.node.c, schema.meter.c
    on_gpu = sa.case((meter.component == Component.GPU.value, 1), else_=0)
    query = (
        sa.select(
            node.id,
            node.cluster,
            node.name,
            node.seen_ms,
            sa.func.max(meter.end_ms).label("booked_ms"),
            sa.func.count(meter.id).label("meters"),
            sa.func.sum(on_gpu).label("gpus"),
            *parts(meter.uj),
        )
        .join_from(schema.node, schema.meter, sa.and_(meter.node == node.id, _METERED))
        .group_by(node.id, node.cluster, node.name, node.seen_ms)
    )
    listed = inventory.newest(connection)
    found = {}
    for row in connection.execute(query):
        word = listed.get((row.cluster, row.name))
        found[row.cluster, row.name] = NodeNow(
            row.id, row.cluster, row.name, row.seen_ms, row.booked_ms or None,
            row.meters, int(row.gpus), whole(row.uj_high, row.uj_low),
            listed=word is not None,
            expected=word.expected if word is not None else True,
            gpus_expected=word.gpus if word is not None else None,
        )  # fmt: skip
    for key in listed.keys() - found.keys():
        word = listed[key]
        found[key] = NodeNow(
            None, *key, None, None, 0, 0, 0,
            listed=True, expected=word.expected, gpus_expected=word.gpus,
        )  # fmt: skip
    return [found[key] for key in sorted(found)]
