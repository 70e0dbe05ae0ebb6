"""Energy by user, account, node and the like: rows that add up to the balance's total."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.balance import extent
from wattkeeper.ledger.queries.expected import expected_coverage
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.grid import DAY_MS, ceil, floor
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import Component

DIMENSIONS = (
    "user", "account", "partition", "qos", "namespace", "owner", "name", "array", "node",
)  # fmt: skip
"""What a report can be grouped by, beside `label:KEY`."""

_LABEL = "label:"


@dataclass(slots=True)
class ReportRow:
    """One group. `kind` is `group`, or the account whose energy is nobody's.

    Accounts: `idle`, `system`, `overhead`, `gap`, `other` (holders beyond the cap of a window).
    `key` is the group's name, empty where it is not known. Only rows by node or group carry several
    accounts at once, in `by_account_uj`. `allocated_idle_uj` is the part of workloads' energy, and
    `allocated_idle_gpu_seconds` that of `gpu_seconds`, in which nothing of theirs ran.
    """

    key: str
    kind: str
    energy_uj: int = 0
    by_component_uj: dict[str, int] = field(default_factory=dict)
    by_account_uj: dict[str, int] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    jobs: int = 0
    allocated_idle_uj: int = 0
    allocated_idle_gpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """Rows, the largest first, whose energies sum to `total_uj`. Times as snapped to slots.

    `coverage` is covered over expected time, as in the balance.
    """

    by: str
    since_ms: int
    until_ms: int
    rows: list[ReportRow]
    total_uj: int
    coverage: float | None


def report(
    ledger: Ledger,
    by: str,
    since_ms: int | None = None,
    until_ms: int | None = None,
    *,
    groups: Mapping[str, str] | None = None,
) -> Report:
    """Group the energy between two instants, which snap outward to slots; None is unbounded.

    Whole days come from the daily sums, the edges from postings. With `groups`, the group of each
    node by its name, rows are of these groups, and `by` is only what they are called.

    Raises:
        ValueError: `by` is none of DIMENSIONS, and no label.

    """
    if groups is not None:
        return _by_group(ledger, by, since_ms, until_ms, groups)
    check_dimension(by)
    rows: dict[tuple[str, str], ReportRow] = {}
    with ledger.reading() as connection:
        since, until = extent(connection, ledger.slot_ms, since_ms, until_ms)
        source = _source(since, until)
        for found in connection.execute(_energies(source, by)):
            _add(rows, found, found.called or "", of_node=by == "node")
        for found in connection.execute(_jobs(source, by)):
            row = rows.get((found.called or "", "group"))
            if row is not None:  # twice for "": what has no name, and no job at all
                row.jobs += found.jobs
        covered = expected_coverage(connection, since, until)
    return _report(by, since, until, rows.values(), covered)


def _by_group(
    ledger: Ledger,
    by: str,
    since_ms: int | None,
    until_ms: int | None,
    groups: Mapping[str, str],
) -> Report:
    rows: dict[tuple[str, str], ReportRow] = {}
    jobs: dict[str, set[int]] = {}
    with ledger.reading() as connection:
        since, until = extent(connection, ledger.slot_ms, since_ms, until_ms)
        source = _source(since, until)
        for found in connection.execute(_energies(source, "node")):
            _add(rows, found, groups.get(found.called, ""), of_node=True)
        pairs = _joined(source, "node", _key("node").label("called"), schema.holder.c.workload)
        for found in connection.execute(pairs.where(source.holder >= FIRST_HOLDER).distinct()):
            # A job on several nodes of a group is one job of it.
            jobs.setdefault(groups.get(found.called, ""), set()).add(found.workload)
        covered = expected_coverage(connection, since, until)
    for (key, _), row in rows.items():
        row.jobs = len(jobs.get(key, ()))
    return _report(by, since, until, rows.values(), covered)


def _report(
    by: str, since: int, until: int, rows: Iterable[ReportRow], covered: float | None
) -> Report:
    ordered = sorted(rows, key=lambda row: (row.kind != "group", -row.energy_uj, row.key))
    total = sum(row.energy_uj for row in ordered)
    return Report(by, since, until, ordered, total, covered)


def check_dimension(by: str) -> None:
    """Check that a report can be grouped so.

    Raises:
        ValueError: `by` is none of DIMENSIONS, and no label.

    """
    if by not in DIMENSIONS and (not by.startswith(_LABEL) or by == _LABEL):
        raise ValueError(f"by: {by[:80]!r} is none of {', '.join(DIMENSIONS)}, label:KEY")


def _source(since: int, until: int) -> Any:
    """Return holder, meter and figures of the asked time as one subquery."""
    posting, rollup = schema.posting.c, schema.rollup.c
    begin, end = ceil(since, DAY_MS), floor(until, DAY_MS)
    names = ("holder", "meter", "uj", "ms", "idle_uj", "idle_ms")
    columns = sa.select(*(posting[name] for name in names))
    if begin >= end:
        return columns.where(posting.slot >= since, posting.slot < until).subquery().c
    edges = sa.or_(
        sa.and_(posting.slot >= since, posting.slot < begin),
        sa.and_(posting.slot >= end, posting.slot < until),
    )
    days = sa.select(*(rollup[name] for name in names)).where(
        rollup.day >= begin // DAY_MS, rollup.day < end // DAY_MS
    )
    return sa.union_all(columns.where(edges), days).subquery().c


def _key(by: str) -> "sa.ColumnElement[str]":
    workload, identity = schema.workload.c, schema.identity.c
    if by == "node":
        return sa.type_coerce(schema.node.c.name, sa.Text)
    if _label(by):
        return sa.type_coerce(schema.label.c.value, sa.Text)
    if by in ("user", "name"):
        return sa.type_coerce(identity[by], sa.Text)
    if by == "owner":
        slash = sa.case((workload.owner_kind == "", ""), else_="/")
        return sa.type_coerce(workload.owner_kind + slash + workload.owner_name, sa.Text)
    return sa.type_coerce(workload[by], sa.Text)


def _label(by: str) -> str:
    """Return the key of the label that a dimension is, "" if it is none."""
    return by if by == "qos" else by.removeprefix(_LABEL) if by.startswith(_LABEL) else ""


def _joined(source: Any, by: str, *columns: Any) -> "sa.Select[Any]":
    holder, meter, label = schema.holder.c, schema.meter.c, schema.label.c
    query = (
        sa.select(*columns)
        .join_from(schema.meter, sa.inspect(source.holder).table, meter.id == source.meter)
        .join(schema.node, schema.node.c.id == meter.node)
        .outerjoin(schema.holder, holder.id == source.holder)
        .outerjoin(schema.workload, schema.workload.c.id == holder.workload)
        .outerjoin(schema.identity, schema.identity.c.workload == holder.workload)
        .where(
            # Of a host only what no component meter sees: all else is booked there already.
            sa.or_(meter.component != Component.HOST.value, source.holder == Account.OVERHEAD)
        )
    )
    if not _label(by):
        return query
    of_key = sa.and_(label.workload == holder.workload, label.key == _label(by))
    return query.outerjoin(schema.label, of_key)


def _energies(source: Any, by: str) -> "sa.Select[Any]":
    account = sa.case((source.holder < FIRST_HOLDER, source.holder), else_=FIRST_HOLDER)
    # No label may be a column's name: SQL would group by the column, and idle with system.
    keys = (_key(by).label("called"), account.label("booked_to"), schema.meter.c.component)
    figures = (
        *parts(source.uj),
        sa.func.sum(source.ms).label("ms"),
        *parts(source.idle_uj, "idle_uj"),
        sa.func.sum(source.idle_ms).label("idle_ms"),
    )
    return _joined(source, by, *keys, *figures).group_by("called", "booked_to", keys[2])


def _jobs(source: Any, by: str) -> "sa.Select[Any]":
    jobs = sa.func.count(sa.distinct(schema.holder.c.workload)).label("jobs")
    return _joined(source, by, _key(by).label("called"), jobs).group_by("called")


def _add(rows: dict[tuple[str, str], ReportRow], found: Any, group: str, *, of_node: bool) -> None:
    uj = whole(found.uj_high, found.uj_low)
    held = found.booked_to >= FIRST_HOLDER
    account = "workload" if held else Account(found.booked_to).name.lower()
    if held or of_node:
        key, kind = group, "group"
    else:
        key, kind = "", account
    row = rows.setdefault((key, kind), ReportRow(key, kind))
    row.energy_uj += uj
    row.by_component_uj[found.component] = row.by_component_uj.get(found.component, 0) + uj
    if of_node:
        row.by_account_uj[account] = row.by_account_uj.get(account, 0) + uj
    if not held:
        return
    row.allocated_idle_uj += whole(found.idle_uj_high, found.idle_uj_low)
    if found.component == Component.GPU:
        row.gpu_seconds += int(found.ms) / 1000
        row.allocated_idle_gpu_seconds += int(found.idle_ms) / 1000
