"""The jobs that `/metrics` shows: which, with what figures, and until when."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from wattkeeper.aggregator.cached import Cached
from wattkeeper.ledger.exported import Marks, job_marks, keep_job_marks
from wattkeeper.ledger.queries.job import Job, jobs_by_id
from wattkeeper.ledger.queries.shown import (
    LEFT_MS,
    Candidates,
    candidates,
    ids_on_nodes,
    newest_workload,
)
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import floor

JobKey = tuple[str, str, str]
"""Cluster, manager, and an id by which the nodes or the ledger call a job."""

IDLE = "idle"
"""The part of a job's energy in which nothing of it ran, beside its components."""
_LOST_MS = 3_600_000
"""A job whose end nobody tells is over when its nodes say nothing of it for that long."""
_SCRAPES = 2


@dataclass(frozen=True, slots=True)
class JobFigures:
    """A job's exported figures, none of which ever falls; power is of the last booking.

    `keys`: every id by which its nodes call it; `key`: the one that its figures stand under. Both
    are the newest run's where several have the id.
    """

    job: Job
    key: JobKey | None
    keys: tuple[JobKey, ...]
    energy_uj: Mapping[str, int]
    idle_uj: int
    watts: Mapping[str, float]


@dataclass(slots=True)
class _Rest:
    """An ended job's figures since when they rest, and how often they were scraped like that."""

    marks: dict[str, int]
    since_ms: int
    scrapes: int = 0


@dataclass(slots=True)
class _Seen:
    """A job at the look before."""

    as_of_ms: int
    energy_uj: dict[str, int]
    watts: dict[str, float] = field(default_factory=dict)


class ShownJobs:
    """Looks for jobs to show. `look` and `scraped` may run in different threads.

    A running job stays while it runs, the greatest users first where there are more than
    `max_jobs`. One that has ended stays until its figures rested for `ended_for_ms` and were
    scraped twice like that, also over a restart of the aggregator. `newest` is the newest run that
    was in the ledger at the start: what comes later is shown even if it had ended by then.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        newest: int,
        max_jobs: int,
        ended_for_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._max_jobs = max_jobs
        self._ended_for_ms = ended_for_ms
        self._now_ms = now_ms
        self.choice = Cached(self._choose, 0)
        self._marks: Marks = {}
        self._marks_read = False
        self._newest = newest
        self._seen: dict[int, _Seen] = {}
        self._rests: dict[int, _Rest] = {}
        self._released: set[int] = set()
        self._scraped: deque[Sequence[JobFigures]] = deque(maxlen=16)

    def forget(self) -> None:
        """Begin again with the marks that are in the ledger."""
        self._marks_read = False
        self._seen.clear()
        self._rests.clear()
        self._released.clear()
        self._scraped.clear()

    def scraped(self, figures: Sequence[JobFigures]) -> None:
        """Note that somebody was shown these."""
        self._scraped.append(figures)

    def look(self) -> tuple[list[JobFigures], int]:
        """Return the jobs to show, and how many more there are. Blocks.

        Raises:
            LedgerError: what is to be shown cannot be persisted.

        """
        if not self._marks_read:
            self._marks = job_marks(self._ledger, self._now_ms() - LEFT_MS)
            self._marks_read = True
        self._count_scrapes()
        choice = self._choice()
        found = jobs_by_id(self._ledger, choice.workloads)
        shown, gone = self._sort(found)
        called = ids_on_nodes(self._ledger, [job.id for job in shown])
        figures = self._figures(shown, called)
        self._persist(figures, gone)
        released = len(self._released.intersection(choice.workloads))
        return figures, max(0, choice.count - released - len(figures))

    def _choice(self) -> Candidates:
        choice = self.choice.get()
        # What was released is forgotten once it would not be chosen anyway.
        self._released.intersection_update(choice.workloads)
        return choice

    def _choose(self) -> Candidates:
        now_ms = self._now_ms()
        before, self._newest = self._newest, newest_workload(self._ledger)
        return candidates(
            self._ledger,
            since_ms=floor(now_ms, self._ledger.slot_ms) - self._ledger.slot_ms,
            ended_since_ms=now_ms - self._ended_for_ms,
            newer_than=before,
            most=self._max_jobs + len(self._released),
        )

    def _count_scrapes(self) -> None:
        while self._scraped:
            for one in self._scraped.popleft():
                rest = self._rests.get(one.job.id)
                if rest is not None and rest.marks == _parts(one):
                    rest.scrapes += 1

    def _sort(self, found: Sequence[Job]) -> tuple[list[Job], set[int]]:
        """Return who is shown, and who was long enough."""
        now_ms = self._now_ms()
        shown, gone = [], set()
        for job in found:
            over = job.end_ms is not None or (job.as_of_ms or 0) < now_ms - _LOST_MS
            if not over:
                self._released.discard(job.id)
                self._rests.pop(job.id, None)
            elif job.id in self._released or self._rested(job, now_ms):
                gone.add(job.id)
                continue
            if over and not job.energy_uj:
                continue
            shown.append(job)
        self._released |= gone
        return shown[: self._max_jobs], gone

    def _rested(self, job: Job, now_ms: int) -> bool:
        marks = self._raised(job)
        rest = self._rests.get(job.id)
        if rest is None or rest.marks != marks:
            self._rests[job.id] = _Rest(marks, now_ms)
            return False
        return rest.scrapes >= _SCRAPES and now_ms - rest.since_ms >= self._ended_for_ms

    def _raised(self, job: Job) -> dict[str, int]:
        """Return the parts of a job's energy, none below what was shown before."""
        marks = dict(self._marks.get(job.id, {}))
        for part, uj in (*job.energy_by_component_uj.items(), (IDLE, job.allocated_idle_uj)):
            marks[part] = max(uj, marks.get(part, 0))
        return marks

    def _figures(self, shown: Sequence[Job], called: Mapping[int, list[str]]) -> list[JobFigures]:
        owner: dict[JobKey, Job] = {}
        for job in sorted(shown, key=lambda job: (job.start_ms or 0, job.id)):
            owner.update(dict.fromkeys(_keys(job, called.get(job.id, ())), job))
        before, self._seen = self._seen, {}
        figures = []
        for job in shown:
            keys = _keys(job, called.get(job.id, ()))
            own = tuple(key for key in keys if owner[key] is job)
            parts = self._raised(job)
            idle_uj = parts.pop(IDLE)
            watts = self._watts(job, parts, before.get(job.id))
            key = own[0] if own and own[0] == keys[0] else None
            figures.append(JobFigures(job, key, own, parts, idle_uj, watts))
        return figures

    def _watts(self, job: Job, parts: dict[str, int], before: _Seen | None) -> dict[str, float]:
        seen = _Seen(job.as_of_ms or 0, parts)
        if before is not None and seen.as_of_ms <= before.as_of_ms:
            seen.watts = before.watts
        elif before is not None:
            span_s = (seen.as_of_ms - before.as_of_ms) / 1000
            seen.watts = {
                part: (uj - before.energy_uj.get(part, 0)) / 1e6 / span_s
                for part, uj in parts.items()
            }
        self._seen[job.id] = seen
        return {} if job.end_ms is not None else seen.watts

    def _persist(self, figures: Sequence[JobFigures], gone: Iterable[int]) -> None:
        marks = self._marks
        now = {one.job.id: _parts(one) for one in figures}
        changed = {job: parts for job, parts in now.items() if marks.get(job) != parts}
        forgotten = [job for job in gone if job in marks]
        keep_job_marks(self._ledger, changed, forgotten)
        marks.update(changed)
        for job in forgotten:
            del marks[job]
            self._rests.pop(job, None)


def _keys(job: Job, called: Iterable[str]) -> list[JobKey]:
    """Return a job's keys, that of its own id first."""
    ids = dict.fromkeys((job.raw_id, *called))
    return [(job.cluster, job.manager, one) for one in ids]


def _parts(one: JobFigures) -> dict[str, int]:
    return {**one.energy_uj, IDLE: one.idle_uj}
