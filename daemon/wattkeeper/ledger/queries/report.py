"""Energy by user, account, node and the like: rows that add up to the balance's total."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.accuracy import grade
from wattkeeper.ledger.queries.balance import extent
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.queries.expected import expected_coverage
from wattkeeper.ledger.queries.grain import Grain, grain
from wattkeeper.ledger.queries.report_sql import (
    ARRAYS_OF_CLUSTERS,
    DIMENSIONS,
    FILTERS,
    NODES_OF_CLUSTERS,
    OF_NODES,
    Where,
    check_dimension,
    energies,
    jobs,
    restricted,
    source,
    timed,
)
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import whole
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.window import Split

__all__ = ["DIMENSIONS", "FILTERS", "Report", "ReportRow", "check_dimension", "report"]

_PAID = ("workload", "other")
"""Accounts of workloads: known ones, and those beyond the cap of a window."""


class JobEnergy(NamedTuple):
    """What one job of a group used, of the asked time. `id` is the ledger's own."""

    uj: int
    id: int
    state: str


@dataclass(slots=True)
class ReportRow:
    """One group. `kind` is `group`, or the account whose energy is nobody's, or `rest`.

    `rest`: all groups together that have no row of their own. Accounts: `idle`, `system`,
    `overhead`, `gap`, `other` (holders beyond the cap of a window). `key` is the group's name,
    empty where it is not known. Only rows of nodes carry several accounts at once, in
    `by_account_uj`. `allocated_idle_uj` is the part of workloads' energy, and
    `allocated_idle_gpu_ms` that of `gpu_ms`, in which nothing of theirs ran. `by_grade_uj`: by
    class of accuracy. `timed_uj`, `timed_idle_uj`: energy, and its allocated idle part, by an
    instant in the cell of the grain that it is of.
    """

    key: str
    kind: str
    energy_uj: int = 0
    by_component_uj: dict[str, int] = field(default_factory=dict)
    by_account_uj: dict[str, int] = field(default_factory=dict)
    by_source_uj: dict[str, int] = field(default_factory=dict)
    by_split_uj: dict[str, int] = field(default_factory=dict)
    by_grade_uj: dict[str, int] = field(default_factory=dict)
    gpu_ms: int = 0
    allocated_idle_uj: int = 0
    allocated_idle_gpu_ms: int = 0
    timed_uj: dict[int, int] = field(default_factory=dict)
    timed_idle_uj: dict[int, int] = field(default_factory=dict)
    by_job: list[JobEnergy] = field(default_factory=list)

    @property
    def jobs(self) -> int:
        """How many jobs there are in it."""
        return len(self.by_job)

    @property
    def gpu_seconds(self) -> float:
        """Time that its jobs held GPUs, by GPU."""
        return self.gpu_ms / 1000

    @property
    def allocated_idle_gpu_seconds(self) -> float:
        """The part of it in which nothing of theirs ran."""
        return self.allocated_idle_gpu_ms / 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Rows, the largest first, whose energies sum to `total_uj`. Times as snapped to slots.

    `workload_uj` is what of it workloads used, as in the balance. `coverage` is covered over
    expected time of the whole fleet, as in the balance. `names`: cluster and id of the job that
    used most in each row, by the ledger's own id of it.
    """

    by: str
    since_ms: int
    until_ms: int
    rows: list[ReportRow]
    total_uj: int
    workload_uj: int
    coverage: float | None
    names: dict[int, tuple[str, str]]


def report(
    ledger: Ledger,
    by: str,
    since_ms: int | None = None,
    until_ms: int | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    only: Mapping[str, str] | None = None,
    scope: Scope | None = None,
    lines: Iterable[int] = (),
    most: int | None = None,
) -> Report:
    """Group the energy between two instants, which snap outward to slots; None is unbounded.

    With `groups`, the group of each node by its name, rows are of these groups, and `by` is only
    what they are called. Arrays of several clusters are called CLUSTER/ID, and so are nodes that
    have one name in several; with `groups` these are in one group. `only`: values of FILTERS.
    With a scope the report is about its jobs alone, but for `coverage`.
    `lines`: instants on slot lines that no sum of `timed_uj` may lie on both sides of. `most`:
    groups that have a row of their own, those that used most; all others are one row, and the rows
    still add up.

    Raises:
        ValueError: `by` is none of DIMENSIONS, and no label.

    """
    dimension = by if groups is None else "node"
    check_dimension(dimension)
    with ledger.reading() as connection:
        since, until = extent(connection, ledger.slot_ms, since_ms, until_ms)
        finely = grain(lines, since, until)
        if "cluster" not in (only or {}):
            dimension = _of_clusters(connection, by, dimension)
        where = restricted(only or {}, scope)
        rows = _rows(connection, (since, until), finely, dimension, groups, where)
        covered = expected_coverage(connection, since, until)
        ordered = _limited(
            sorted(rows, key=lambda row: (row.kind != "group", -row.energy_uj, row.key)), most
        )
        names = _names(connection, ordered)
    return Report(
        by,
        since,
        until,
        ordered,
        total_uj=sum(row.energy_uj for row in ordered),
        workload_uj=sum(_paid(row) for row in ordered),
        coverage=covered,
        names=names,
    )


def _rows(
    connection: sa.Connection,
    asked: tuple[int, int],
    finely: Grain | None,
    by: str,
    groups: Mapping[str, str] | None,
    where: Where,
) -> list[ReportRow]:
    rows: dict[tuple[str, str], ReportRow] = {}
    booked = source(*asked)
    for found in connection.execute(energies(booked, by, where)):
        whose = _whose(found, by, groups)
        _add(rows.setdefault(whose, ReportRow(*whose)), found, of_nodes=by in OF_NODES)
    if finely is None:
        for row in rows.values():
            row.timed_uj = {asked[0]: row.energy_uj}
            row.timed_idle_uj = {asked[0]: row.allocated_idle_uj}
    else:
        for found in connection.execute(timed(source(*asked, finely), by, where)):
            _add_timed(rows[_whose(found, by, groups)], found)
    held: dict[str, dict[int, JobEnergy]] = {}
    for found in connection.execute(jobs(booked, by, where)):
        mine = held.setdefault(_group(found.called, groups), {})
        uj = whole(found.uj_high, found.uj_low)
        # A job on several nodes of a group is one job of it.
        before = mine.get(found.workload)
        mine[found.workload] = JobEnergy(
            uj + (before.uj if before else 0), found.workload, found.state or ""
        )
    for key, mine in held.items():
        rows[key, "group"].by_job = sorted(mine.values())
    return list(rows.values())


def _group(called: str | None, groups: Mapping[str, str] | None) -> str:
    return called or "" if groups is None else groups.get(called or "", "")


def _whose(found: Any, by: str, groups: Mapping[str, str] | None) -> tuple[str, str]:
    """Return key and kind of the row that a sum belongs to."""
    if found.booked_to >= FIRST_HOLDER or by in OF_NODES:
        return _group(found.called, groups), "group"
    return "", Account(found.booked_to).name.lower()


def _add(row: ReportRow, found: Any, *, of_nodes: bool) -> None:
    uj = whole(found.uj_high, found.uj_low)
    held = found.booked_to >= FIRST_HOLDER
    row.energy_uj += uj
    for axis, name in (
        (row.by_component_uj, found.component),
        (row.by_source_uj, Method(found.method).name.lower()),
        (row.by_split_uj, Split(found.split).name.lower()),
        (row.by_grade_uj, grade(found.method, found.split)),
    ):
        axis[name] = axis.get(name, 0) + uj
    if of_nodes:
        account = "workload" if held else Account(found.booked_to).name.lower()
        row.by_account_uj[account] = row.by_account_uj.get(account, 0) + uj
    if not held:
        return
    row.allocated_idle_uj += whole(found.idle_uj_high, found.idle_uj_low)
    if found.component == Component.GPU:
        row.gpu_ms += int(found.ms)
        row.allocated_idle_gpu_ms += int(found.idle_ms)


def _add_timed(row: ReportRow, found: Any) -> None:
    uj = whole(found.uj_high, found.uj_low)
    row.timed_uj[found.at] = row.timed_uj.get(found.at, 0) + uj
    if found.booked_to >= FIRST_HOLDER:
        idle_uj = whole(found.idle_uj_high, found.idle_uj_low)
        row.timed_idle_uj[found.at] = row.timed_idle_uj.get(found.at, 0) + idle_uj


def _paid(row: ReportRow) -> int:
    if row.by_account_uj:
        return sum(row.by_account_uj.get(account, 0) for account in _PAID)
    return row.energy_uj if row.kind in ("group", "rest", *_PAID) else 0


def _limited(ordered: list[ReportRow], most: int | None) -> list[ReportRow]:
    """Put the groups after the first `most` into one row."""
    groups = [row for row in ordered if row.kind == "group"]
    if most is None or len(groups) <= most:
        return ordered
    return [*groups[:most], _together(groups[most:]), *ordered[len(groups) :]]


def _together(rows: list[ReportRow]) -> ReportRow:
    made = ReportRow("", "rest")
    held: dict[int, JobEnergy] = {}
    for row in rows:
        for one in fields(ReportRow):
            value, into = getattr(row, one.name), getattr(made, one.name)
            if isinstance(into, int):
                setattr(made, one.name, into + value)
            elif isinstance(into, dict):
                for name, figure in value.items():
                    into[name] = into.get(name, 0) + figure
        for job in row.by_job:
            # A job on the nodes of several groups is one job of them.
            before = held.get(job.id)
            held[job.id] = job._replace(uj=job.uj + (before.uj if before else 0))
    made.by_job = sorted(held.values())
    return made


def _of_clusters(connection: sa.Connection, by: str, dimension: str) -> str:
    """Return the dimension that tells apart what several clusters call alike."""
    if by == "node":
        return NODES_OF_CLUSTERS
    clusters = connection.scalar(sa.select(sa.func.count(schema.node.c.cluster.distinct())))
    return ARRAYS_OF_CLUSTERS if by == "array" and (clusters or 0) > 1 else dimension


def _names(connection: sa.Connection, rows: Iterable[ReportRow]) -> dict[int, tuple[str, str]]:
    workload = schema.workload.c
    most = sorted({row.by_job[-1].id for row in rows if row.by_job})
    names: dict[int, tuple[str, str]] = {}
    for some in batched(most, 500):
        query = sa.select(workload.id, workload.cluster, workload.job_id)
        for found in connection.execute(query.where(workload.id.in_(some))):
            names[found.id] = (found.cluster, found.job_id)
    return names
