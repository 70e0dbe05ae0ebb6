"""The jobs of a made-up fleet: one after the other on the same GPUs, with steps and pauses."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

IDLE_MW, LIMIT_MW = 72_000, 700_000
"""What a GPU draws at rest, and its power limit."""
_SAVE_EVERY_MS, _SAVE_MS = 1_800_000, 40_000


@dataclass(frozen=True, slots=True)
class Job:
    """A run: what it asks of each of its GPUs, in milliwatts, and when.

    A step computes for `compute_ms` at `high_mw`, then exchanges for the rest of `step_ms` at
    `low_mw`. `idle`: an allocation in which nothing runs.
    """

    number: str
    start_ms: int
    end_ms: int
    high_mw: float
    low_mw: float
    step_ms: int
    compute_ms: int
    memory_mib: int
    idle: bool

    def computing_ms(self, since_ms: int, until_ms: int) -> float:
        """How long it computes in a stretch; it saves its state now and then."""
        computing_ms = self._computed(until_ms) - self._computed(since_ms)
        saving = (since_ms - self.start_ms) % _SAVE_EVERY_MS < _SAVE_MS
        return computing_ms / 10 if saving else computing_ms

    def _computed(self, at_ms: int) -> float:
        steps, rest = divmod(at_ms - self.start_ms, self.step_ms)
        return steps * self.compute_ms + min(rest, self.compute_ms)


@dataclass(slots=True)
class Load:
    """What every GPU of a lane sees in one interval.

    `busy`: part of it in which something ran; `held`: from, to (from its start), by whom, and the
    power meanwhile.
    """

    low_mw: float
    mean_mw: float
    high_mw: float
    busy: float
    memory_mib: int
    held: list[tuple[int, int, Job | None, float]]


class Lane:
    """GPUs that are given to one job after the other, with pauses."""

    def __init__(self, gpus: int, chance: Random, numbers: Iterator[int], start_ms: int) -> None:
        self.gpus = gpus
        self._chance = chance
        self._numbers = numbers
        self._job: Job | None = None
        self._until_ms = start_ms + chance.randrange(1000, 600_000)
        self.load = Load(IDLE_MW, IDLE_MW, IDLE_MW, 0, 0, [])

    def advance(self, start_ms: int, end_ms: int) -> None:
        """Look at the next interval."""
        held, at_ms = [], start_ms
        while self._until_ms < end_ms:
            if self._until_ms > at_ms:
                held.append(self._piece(start_ms, at_ms, self._until_ms))
            at_ms = self._until_ms
            self._change()
        held.append(self._piece(start_ms, at_ms, end_ms))
        mean_mw = sum((to - since) * mw for since, to, _, mw in held) / (end_ms - start_ms)
        jobs = [job for _, _, job, _ in held if job and not job.idle]
        low_mw = min((job.low_mw for job in jobs), default=IDLE_MW)
        if len(held) > len(jobs):
            low_mw = IDLE_MW
        high_mw = max((job.high_mw for job in jobs), default=IDLE_MW)
        memory = max((job.memory_mib for _, _, job, _ in held if job), default=0)
        busy = sum(to - since for since, to, job, _ in held if job and not job.idle)
        self.load = Load(
            min(low_mw, mean_mw), mean_mw, high_mw, busy / (end_ms - start_ms), memory, held
        )

    def _piece(
        self, start_ms: int, since_ms: int, until_ms: int
    ) -> tuple[int, int, Job | None, float]:
        job, mean_mw = self._job, float(IDLE_MW)
        if job is not None and not job.idle:
            part = job.computing_ms(since_ms, until_ms) / max(1, until_ms - since_ms)
            mean_mw = job.low_mw + (job.high_mw - job.low_mw) * part
        return since_ms - start_ms, until_ms - start_ms, job, mean_mw

    def _change(self) -> None:
        """The job ends and a pause begins, or the next job does."""
        chance, at_ms = self._chance, self._until_ms
        if self._job is not None and chance.random() < 0.4:
            self._job = None
            self._until_ms = at_ms + round(1000 * chance.lognormvariate(4.5, 1.5))
            return
        self._until_ms = at_ms + round(min(16, 0.03 + chance.lognormvariate(-0.5, 1.4)) * 3_600_000)
        step_ms = round(chance.choice((800, 1500, 4000, 11_000, 27_000)) * chance.uniform(0.7, 1.3))
        high_mw = chance.uniform(330_000, 730_000)
        self._job = Job(
            number=str(next(self._numbers)),
            start_ms=at_ms,
            end_ms=self._until_ms,
            high_mw=min(high_mw, LIMIT_MW),
            low_mw=high_mw * chance.uniform(0.25, 0.6),
            step_ms=step_ms,
            compute_ms=round(step_ms * chance.uniform(0.6, 0.95)),
            memory_mib=chance.randrange(9_000, 79_000),
            idle=chance.random() < 0.05,
        )
