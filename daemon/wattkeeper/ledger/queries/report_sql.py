"""The statements of a report: energy, energy over time, and jobs, by a dimension."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.grain import Grain
from wattkeeper.ledger.queries.scope import Scope, conditions
from wattkeeper.ledger.sums import parts
from wattkeeper.model.grid import DAY_MS, ceil, floor
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import Component

DIMENSIONS = (
    "user", "account", "partition", "qos", "namespace", "owner", "name", "array", "node",
    "cluster",
)  # fmt: skip
"""What a report can be grouped by, beside `label:KEY`."""
NODES_OF_CLUSTERS = "cluster/node"
"""What `node` becomes where clusters call their nodes alike."""
OF_NODES = ("node", "cluster", NODES_OF_CLUSTERS)
"""Dimensions of nodes: what is nobody's belongs to their groups too."""
FILTERS = ("cluster", "user", "account", "partition")
"""What a report can be restricted to. All but `cluster` leave out what is nobody's."""

ARRAYS_OF_CLUSTERS = "cluster/array"
"""What `array` becomes where several clusters count their jobs alike."""

_LABEL = "label:"
Where = Iterable["sa.ColumnElement[bool]"]
_FIGURES = ("uj", "ms", "idle_uj", "idle_ms")


def check_dimension(by: str) -> None:
    """Check that a report can be grouped so.

    Raises:
        ValueError: `by` is none of DIMENSIONS, and no label.

    """
    if by not in DIMENSIONS and (not by.startswith(_LABEL) or by == _LABEL):
        raise ValueError(f"by: {by[:80]!r} is none of {', '.join(DIMENSIONS)}, label:KEY")


def source(since: int, until: int, grain: Grain | None = None) -> Any:
    """Return holder, meter, axes and figures of the asked time as one subquery.

    Whole days come from the daily sums, all else from postings. `at`: the cell of the grain.
    """
    posting, rollup = schema.posting.c, schema.rollup.c
    begin, end = ceil(since, DAY_MS), floor(until, DAY_MS)
    slot_at: sa.ColumnElement[int] = sa.literal(since, sa.BigInteger)
    day_at = slot_at
    names = ("holder", "meter", "method", "split", *_FIGURES)
    fine = [(since, begin), (end, until)] if begin < end else [(since, until)]
    coarse: list[sa.ColumnElement[bool]] = [
        rollup.day >= begin // DAY_MS,
        rollup.day < end // DAY_MS,
    ]
    if grain is not None:
        slot_at = posting.slot // grain.step_ms * grain.step_ms
        day_at = rollup.day * DAY_MS
        for from_ms, to_ms in grain.fine if begin < end else ():
            if from_ms < end and to_ms > begin:
                fine.append((max(from_ms, begin), min(to_ms, end)))
                coarse.append(sa.or_(rollup.day < from_ms // DAY_MS, rollup.day >= to_ms // DAY_MS))
    columns = sa.select(*(posting[name] for name in names), slot_at.label("at")).where(
        sa.or_(*(sa.and_(posting.slot >= a, posting.slot < b) for a, b in fine))
    )
    if begin >= end:
        return columns.subquery().c
    days = sa.select(*(rollup[name] for name in names), day_at.label("at")).where(*coarse)
    return sa.union_all(columns, days).subquery().c


def energies(found: Any, by: str, where: Where) -> "sa.Select[Any]":
    """Return the statement that sums `source` by dimension, payer, component and axes."""
    # No label may be a column's name: SQL would group by the column, and idle with system.
    keys = (
        _key(by).label("called"),
        _payer(found.holder).label("booked_to"),
        schema.meter.c.component,
        found.method,
        found.split,
    )
    figures = (
        *parts(found.uj),
        sa.func.sum(found.ms).label("ms"),
        *parts(found.idle_uj, "idle_uj"),
        sa.func.sum(found.idle_ms).label("idle_ms"),
    )
    grouped = _joined(found, by, where, *keys, *figures)
    return grouped.group_by("called", "booked_to", *keys[2:])


def timed(found: Any, by: str, where: Where) -> "sa.Select[Any]":
    """Return the statement that sums `source` by dimension, payer and cell of time.

    Postings of months are many, and names are not looked up for each: they are put together by
    holder first.
    """
    meter = schema.meter.c
    sums = (*parts(found.uj), *parts(found.idle_uj, "idle_uj"))
    by_holder = (
        sa.select(found.holder, meter.node, found.at, *sums)
        .join_from(sa.inspect(found.holder).table, schema.meter, meter.id == found.meter)
        .where(_counts(found))
        .group_by(found.holder, meter.node, found.at)
        .subquery()
        .c
    )
    keys = (_key(by).label("called"), _payer(by_holder.holder).label("booked_to"), by_holder.at)
    figures = (sa.func.sum(by_holder[one.name]).label(one.name) for one in sums)
    query = sa.select(*keys, *figures).join_from(
        sa.inspect(by_holder.holder).table, schema.node, schema.node.c.id == by_holder.node
    )
    named = _named(query, by_holder.holder, by).where(*where)
    return named.group_by("called", "booked_to", by_holder.at)


def jobs(found: Any, by: str, where: Where) -> "sa.Select[Any]":
    """Return the statement that sums `source` by dimension and workload."""
    workload = schema.workload.c
    keys = (_key(by).label("called"), schema.holder.c.workload, workload.state)
    held = _joined(found, by, where, *keys, *parts(found.uj)).where(found.holder >= FIRST_HOLDER)
    return held.group_by("called", *keys[1:])


def _key(by: str) -> "sa.ColumnElement[str]":
    workload, identity, node = schema.workload.c, schema.identity.c, schema.node.c
    if by == NODES_OF_CLUSTERS:
        twin = schema.node.alias()
        several = sa.func.count(twin.c.cluster.distinct()) > 1
        alike = sa.select(twin.c.name).group_by(twin.c.name).having(several)
        called = node.cluster + "/" + node.name
        return sa.type_coerce(sa.case((node.name.in_(alike), called), else_=node.name), sa.Text)
    if by in OF_NODES:
        return sa.type_coerce(node.name if by == "node" else node.cluster, sa.Text)
    if _label(by):
        return sa.type_coerce(schema.label.c.value, sa.Text)
    if by == ARRAYS_OF_CLUSTERS:
        named = workload.cluster + "/" + workload.array
        return sa.type_coerce(sa.case((workload.array == "", ""), else_=named), sa.Text)
    if by in ("user", "name"):
        return sa.type_coerce(identity[by], sa.Text)
    if by == "owner":
        slash = sa.case((workload.owner_kind == "", ""), else_="/")
        return sa.type_coerce(workload.owner_kind + slash + workload.owner_name, sa.Text)
    return sa.type_coerce(workload[by], sa.Text)


def _label(by: str) -> str:
    """Return the key of the label that a dimension is, "" if it is none."""
    return by if by == "qos" else by.removeprefix(_LABEL) if by.startswith(_LABEL) else ""


def restricted(only: Mapping[str, str], scope: Scope | None) -> "list[sa.ColumnElement[bool]]":
    """Return the conditions of a report: values of FILTERS, and the jobs of a scope only.

    What is nobody's is in no scope.
    """
    workload = schema.workload.c
    columns: dict[str, sa.ColumnElement[str]] = {
        "cluster": schema.node.c.cluster,
        "user": schema.identity.c.user,
        "account": workload.account,
        "partition": workload.partition,
    }
    return [*(columns[name] == value for name, value in only.items()), *conditions(scope)]


def _payer(holder: "sa.ColumnElement[int]") -> "sa.ColumnElement[int]":
    return sa.case((holder < FIRST_HOLDER, holder), else_=FIRST_HOLDER)


def _counts(found: Any) -> "sa.ColumnElement[bool]":
    """Of a host only what no component meter sees: all else is booked there already."""
    return sa.or_(
        schema.meter.c.component != Component.HOST.value, found.holder == Account.OVERHEAD
    )


def _joined(found: Any, by: str, where: Where, *columns: Any) -> "sa.Select[Any]":
    meter = schema.meter.c
    query = (
        sa.select(*columns)
        .join_from(schema.meter, sa.inspect(found.holder).table, meter.id == found.meter)
        .join(schema.node, schema.node.c.id == meter.node)
    )
    return _named(query, found.holder, by).where(_counts(found), *where)


def _named(query: "sa.Select[Any]", of: Any, by: str) -> "sa.Select[Any]":
    """Join what is known of a holder."""
    holder, label = schema.holder.c, schema.label.c
    query = (
        query.outerjoin(schema.holder, holder.id == of)
        .outerjoin(schema.workload, schema.workload.c.id == holder.workload)
        .outerjoin(schema.identity, schema.identity.c.workload == holder.workload)
    )
    if not _label(by):
        return query
    of_key = sa.and_(label.workload == holder.workload, label.key == _label(by))
    return query.outerjoin(schema.label, of_key)
