"""One look at everything that `/metrics` shows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wattkeeper.aggregator import answers
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.live import Live
from wattkeeper.ledger.queries.balance import Balance, balance
from wattkeeper.ledger.queries.job import Job, JobFilter, jobs
from wattkeeper.ledger.queries.nodes import AccountTotal, account_totals
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import floor

JobKey = tuple[str, str, str]
"""Cluster, manager, raw id."""

_JUST_ENDED_MS = 600_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class JobFigures:
    """A job's exported figures: energy by component never falls, power is of the last booking."""

    key: JobKey
    job: Job
    energy_uj: Mapping[str, int]
    watts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that `/metrics` shows, at one instant."""

    jobs: Sequence[JobFigures]
    jobs_left_out: bool
    accounts: Sequence[AccountTotal]
    idle_gpus: Mapping[str, int]
    nodes: Sequence[answers.Node]
    residual_uj: int
    problems: int
    coverage: float | None
    intake: Counter[str]
    intake_refused: Counter[str]
    committed_ms: int | None


@dataclass(slots=True)
class DeliveryCounts:
    """What the intake counted since the start."""

    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    committed_ms: int | None = None


class JobMeter:
    """Power and never-falling energy of jobs, from what the ledger says from look to look."""

    def __init__(self) -> None:
        self._seen: dict[JobKey, tuple[int, int, dict[str, int], dict[str, float]]] = {}

    def look(self, found: Sequence[Job]) -> list[JobFigures]:
        """Return the figures of the newest run of each job."""
        newest: dict[JobKey, Job] = {}
        for job in found:
            key = (job.cluster, job.manager, job.raw_id)
            if key not in newest or newest[key].run < job.run:
                newest[key] = job
        before, self._seen = self._seen, {}
        return [self._figures(key, job, before.get(key)) for key, job in newest.items()]

    def _figures(
        self,
        key: JobKey,
        job: Job,
        before: tuple[int, int, dict[str, int], dict[str, float]] | None,
    ) -> JobFigures:
        as_of_ms = job.as_of_ms or 0
        energy = dict(job.energy_by_component_uj)
        watts: dict[str, float] = {}
        if before is not None and before[0] == job.run:
            _, then_ms, had, watts = before
            for component, uj in had.items():
                energy[component] = max(uj, energy.get(component, 0))
            if as_of_ms > then_ms:
                span_s = (as_of_ms - then_ms) / 1000
                watts = {c: (uj - had.get(c, 0)) / 1e6 / span_s for c, uj in energy.items()}
        if job.end_ms is not None:
            watts = {}
        self._seen[key] = (job.run, as_of_ms, energy, watts)
        return JobFigures(key, job, energy, watts)


class Looker:
    """Takes snapshots. The balance is the costly part and is looked up less often."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        live: Live,
        counts: DeliveryCounts,
        *,
        max_jobs: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._live = live
        self._counts = counts
        self._max_jobs = max_jobs
        self._now_ms = now_ms
        self._meter = JobMeter()
        self._balance = Cached(self._check, 60)

    def look(self) -> Snapshot:
        """Return what there is to show now. Blocks."""
        recent = JobFilter(since_ms=self._now_ms() - _JUST_ENDED_MS, limit=self._max_jobs + 1)
        found = jobs(self._ledger, recent)
        books = self._balance.get()
        return Snapshot(
            jobs=self._meter.look(found[: self._max_jobs]),
            jobs_left_out=len(found) > self._max_jobs,
            accounts=account_totals(self._ledger),
            idle_gpus=self._live.held_idle(),
            nodes=self._fleet.nodes(),
            residual_uj=books.residual_uj,
            problems=len(books.problems),
            coverage=books.coverage,
            intake=Counter(self._counts.taken),
            intake_refused=Counter(self._counts.refused),
            committed_ms=self._counts.committed_ms,
        )

    def _check(self) -> Balance:
        until_ms = floor(self._now_ms(), self._ledger.slot_ms) + self._ledger.slot_ms
        return balance(self._ledger, until_ms - _HOUR_MS - self._ledger.slot_ms, until_ms)
