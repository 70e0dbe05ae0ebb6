"""What a job used, and which jobs there are."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.energy import (
    Energy,
    Life,
    batched,
    coverage,
    energies,
    final,
    lives,
    peak_mw,
)
from wattkeeper.ledger.queries.scope import Scope, conditions
from wattkeeper.ledger.store import Ledger
from wattkeeper.model import microjoules

_PIECE = 5_000
"""Ids in one statement; databases take 32,766 parameters at least."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a workload, as in DESIGN's `A job`; energies in whole microjoules.

    `id` is the ledger's own.
    `run` counts the runs of this id from 1, `runs` how many there are. `end_ms` is None while it
    runs. `peak_watts` is the greatest sum over its meters, of the highest window in a slot.
    `gpu_seconds` is time held, by GPU. `allocated_idle_uj` and `allocated_idle_gpu_seconds` are
    the parts of both in which its meters were allocated to it while nothing of it ran. `coverage`
    is the metered part of its meters' time. `as_of_ms`: up to when its holders were seen. `final`:
    it has ended, its nodes delivered all of it, and all of it is settled for good.
    """

    id: int
    cluster: str
    job_id: str
    raw_id: str
    run: int
    runs: int
    manager: str
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
    nodes: list[str]
    energy_uj: int
    energy_by_component_uj: dict[str, int]
    energy_by_source_uj: dict[str, int]
    energy_by_split_uj: dict[str, int]
    energy_by_grade_uj: dict[str, int]
    allocated_idle_uj: int
    mean_watts: float | None
    peak_watts: float | None
    gpu_seconds: float
    allocated_idle_gpu_seconds: float
    coverage: float | None
    as_of_ms: int | None
    final: bool | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: None is any. `since_ms`, `until_ms`: lived at some instant in between.

    Jobs beyond the scope are not there, nor counted among a job's runs.
    """

    cluster: str | None = None
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    state: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 1000
    scope: Scope | None = None


def job(
    ledger: Ledger, cluster: str, key: str, run: int | None = None, scope: Scope | None = None
) -> Job | None:
    """Return the newest run (or the given one) of a job by its id or raw id, None if unknown.

    A run beyond the scope is not there.
    """
    workload = schema.workload.c
    of_key = sa.or_(workload.job_id == key, workload.raw_id == key, workload.other_id == key)
    with ledger.reading() as connection:
        found = lives(connection, [workload.cluster == cluster, of_key, *conditions(scope)])
        found.sort(key=lambda life: (life.start_ms or 0, life.id))
        if not found or not 1 <= (run or 1) <= len(found):
            return None
        number = len(found) if run is None else run
        life = found[number - 1]
        energy = energies(connection, [life.id]).get(life.id, Energy())
        return _job(
            life,
            energy,
            run=(number, len(found)),
            peak_mw=peak_mw(connection, life.id),
            coverage=coverage(connection, ledger.slot_ms, life),
            final=final(connection, life),
        )


def jobs_by_id(ledger: Ledger, workloads: Sequence[int]) -> list[Job]:
    """Return runs by the ledger's own ids, in their order, as `jobs` does; unknown ones are not."""
    found: dict[int, Life] = {}
    with ledger.reading() as connection:
        for some in batched(workloads, _PIECE):
            mine = lives(connection, [schema.workload.c.id.in_(some)])
            found.update((life.id, life) for life in mine)
        ordered = [found[number] for number in workloads if number in found]
        return _listed(connection, ordered, None)


def jobs(ledger: Ledger, which: JobFilter) -> list[Job]:
    """Return the jobs that match, the newest first.

    `peak_watts`, `coverage` and `final` are answered for single jobs only and are None here.
    """
    with ledger.reading() as connection:
        # What a state is cannot be told by the database.
        told = which.state is None and which.until_ms is None
        found = lives(connection, _where(which), which.since_ms, which.limit if told else None)
        found = [life for life in found if _matches(life, which)]
        found.sort(key=lambda life: (life.start_ms or 0, life.id), reverse=True)
        return _listed(connection, found[: which.limit], which.scope)


def _listed(connection: sa.Connection, found: Sequence[Life], scope: Scope | None) -> list[Job]:
    energy = energies(connection, [life.id for life in found])
    runs = _runs(connection, {(life.cluster, life.manager, life.raw_id) for life in found}, scope)
    listed = []
    for life in found:
        same = runs[life.cluster, life.manager, life.raw_id]
        run = (same.index(life.id) + 1, len(same))
        listed.append(_job(life, energy.get(life.id, Energy()), run=run))
    return listed


def _job(
    life: Life,
    energy: Energy,
    *,
    run: tuple[int, int],
    peak_mw: int | None = None,
    coverage: float | None = None,
    final: bool | None = None,
) -> Job:
    until = life.end_ms if life.end_ms is not None else life.seen_ms
    elapsed = (until - life.start_ms) / 1000 if until and life.start_ms is not None else 0
    return Job(
        id=life.id,
        cluster=life.cluster,
        job_id=life.job_id,
        raw_id=life.raw_id,
        run=run[0],
        runs=run[1],
        manager=life.manager,
        user=life.user,
        account=life.account,
        partition=life.partition,
        namespace=life.namespace,
        owner_kind=life.owner_kind,
        owner_name=life.owner_name,
        array=life.array,
        name=life.name,
        state=life.state,
        start_ms=life.start_ms,
        end_ms=life.end_ms,
        nodes=life.nodes,
        energy_uj=energy.uj,
        energy_by_component_uj=energy.by_component,
        energy_by_source_uj=energy.by_source,
        energy_by_split_uj=energy.by_split,
        energy_by_grade_uj=energy.by_grade,
        allocated_idle_uj=energy.idle_uj,
        mean_watts=microjoules.joules(energy.uj) / elapsed if elapsed > 0 else None,
        peak_watts=None if peak_mw is None else peak_mw / 1000,
        gpu_seconds=energy.gpu_ms / 1000,
        allocated_idle_gpu_seconds=energy.idle_gpu_ms / 1000,
        coverage=coverage,
        as_of_ms=life.seen_ms,
        final=final,
    )


def _where(which: JobFilter) -> "list[sa.ColumnElement[bool]]":
    workload, identity = schema.workload.c, schema.identity.c
    wanted = (
        (workload.cluster, which.cluster),
        (identity.user, which.user),
        (workload.account, which.account),
        (workload.partition, which.partition),
    )
    given = [column == value for column, value in wanted if value is not None]
    return [*given, *conditions(which.scope)]


def _matches(life: Life, which: JobFilter) -> bool:
    if which.state is not None and life.state.lower() != which.state.lower():
        return False
    return which.until_ms is None or (life.start_ms or 0) < which.until_ms


def _runs(
    connection: sa.Connection, keys: set[tuple[str, str, str]], scope: Scope | None
) -> dict[tuple[str, str, str], list[int]]:
    workload = schema.workload.c
    found: dict[tuple[str, str, str], list[int]] = {key: [] for key in keys}
    query = (
        sa.select(workload.id, workload.cluster, workload.manager, workload.raw_id)
        .join(schema.identity, schema.identity.c.workload == workload.id)
        .where(*conditions(scope))
    )
    for chunk in batched(sorted({raw_id for _, _, raw_id in keys}), 500):
        for row in connection.execute(
            query.where(workload.raw_id.in_(chunk)).order_by(workload.id)
        ):
            if (row.cluster, row.manager, row.raw_id) in found:
                found[row.cluster, row.manager, row.raw_id].append(row.id)
    return found
