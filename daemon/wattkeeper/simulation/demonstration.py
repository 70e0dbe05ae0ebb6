"""A simulated fleet beside a real aggregator that answers over HTTP while it runs."""

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from wattkeeper.agent.transport import HttpTransport
from wattkeeper.aggregator.access.config import AccessSection
from wattkeeper.aggregator.budget_config import BudgetSection
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.limit_config import LimitsSection
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.factors.settings import CarbonSection, FactorsSection, PriceSection, PueSection
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import JobFilter, jobs
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.simulation.figures import JobFigure
from wattkeeper.simulation.fleet import SECOND_MS, Fleet, Shape
from wattkeeper.simulation.jobs import Job
from wattkeeper.simulation.names import CLUSTER, SimulatedScheduler
from wattkeeper.simulation.verify import judge_job

_LEAD_MS = 6 * 3_600_000
_LOOK_S = 2.0
_ASK_S = 0.5
"""Between two questions to the scheduler: half a minute of a fleet that runs 60 times as fast."""
_TIMEOUT_S = 30.0
_UNLIMITED = 1e6
_MARKER = "SIMULATED"
_KEEP_MS = 600_000
_RACK = 4
"""Nodes of a rack."""

_FACTORS = FactorsSection(
    price=PriceSection(value=Decimal("0.20"), unit="EUR/kWh", source="made up"),
    carbon=CarbonSection(value=Decimal(380), source="made up"),
    pue=PueSection(value=Decimal("1.2"), source="made up"),
)


@dataclass(frozen=True, slots=True)
class Glimpse:
    """How the demonstration stands. `speed`: simulated seconds in a second, of late."""

    now_ms: int
    speed: float
    watts: float
    running: int
    waiting: int
    done: int
    meters: int
    residual_uj: int
    coverage: float | None
    example: str


@dataclass(slots=True)
class Demonstration:
    """A fleet that runs `speed` times as fast as the clock on the wall, never into the future.

    `lasts_ms` None: until it is stopped. `agents`: host:port where the first agent answers
    Prometheus, the others on the ports after it; nobody does if it is empty.
    Raises `StartError` where the aggregator cannot start, `ConfigError` where an address is taken,
    ValueError where `folder` holds something else.
    """

    folder: Path
    listen: str
    nodes: int
    gpus: int
    seed: int
    speed: float
    lasts_ms: int | None
    agents: str = ""
    fleet: Fleet = field(init=False)
    aggregator: Aggregator = field(init=False)
    _scheduler: SimulatedScheduler = field(init=False)
    _books: tuple[int, int, float | None] = field(init=False, default=(0, 0, None))

    def __post_init__(self) -> None:
        wall_ms = time.time_ns() // 1_000_000
        lead_ms = _LEAD_MS if self.speed > 1 else 0
        start_ms = wall_ms - (lead_ms if self.lasts_ms is None else self.lasts_ms)
        clear(self.folder)
        shape = Shape(self.nodes, self.gpus, start_ms, self.seed)
        self.fleet = Fleet(
            shape,
            self.folder,
            lambda _: HttpTransport(self.aggregator.url, None, _TIMEOUT_S),
        )
        settings = AggregatorSettings(
            listen=self.listen,
            access=AccessSection(anonymous="operator"),  # nothing in it is anybody's
            data_dir=self.folder / "aggregator",
            commit_interval=timedelta(seconds=1),
            groups={"rack": self._racks()},
            budgets=_budgets(self.nodes, self.gpus),
            factors=_FACTORS,
            # Its nodes deliver by a clock that runs faster than that of the limits.
            limits=LimitsSection(deliveries=_UNLIMITED, entries=_UNLIMITED),
        )
        self._scheduler = SimulatedScheduler(self.fleet.cluster, self.fleet.time, _ASK_S)
        scheduler = self._scheduler
        self.aggregator = Aggregator(settings, [scheduler], now_ms=lambda: self.fleet.time.now_ms)

    def _racks(self) -> dict[str, tuple[str, ...]]:
        """Put every four nodes into a rack."""
        names = list(self.fleet.members)
        firsts = range(0, len(names), _RACK)
        return {f"r{n // _RACK + 1}": tuple(names[n : n + _RACK]) for n in firsts}

    async def run(self, stop: asyncio.Event, show: Callable[[Glimpse], None]) -> None:
        """Run until the end or until `stop`; the aggregator still answers afterwards."""
        if self.agents:
            self.fleet.address(self.agents)
        await self.aggregator.start()
        await self.fleet.start()
        looking = asyncio.create_task(self._look(show))
        try:
            async with self.fleet.listening():
                await self._pace(stop)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        await self.fleet.close()
        await self.aggregator.commit()
        known = self._scheduler.known(0)
        await asyncio.to_thread(record_knowledge, self.aggregator.ledger, CLUSTER, known)
        await self.aggregator.settle()
        await self._check()
        show(self._glimpse(0.0))

    async def close(self) -> None:
        """Stop answering."""
        await self.aggregator.stop()

    async def compare(self) -> list[JobFigure]:
        """Return every ended job with its metered and its true energy, the longest first."""
        booked = await asyncio.to_thread(
            jobs, self.aggregator.ledger, JobFilter(cluster=CLUSTER, limit=100_000)
        )
        by_run = {(job.raw_id, job.start_ms): job for job in booked}
        ended = sorted(self._ended(), key=lambda job: job.start_ms - job.end_ms)
        return [judge_job(job, by_run, (), self.fleet.time.now_ms) for job in ended]

    def _ended(self) -> list[Job]:
        return [job for job in self.fleet.cluster.jobs if not job.running]

    async def _pace(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        time_ = self.fleet.time
        end_ms = None if self.lasts_ms is None else time_.now_ms + self.lasts_ms
        began_s, began_ms = loop.time(), time_.now_ms
        while not stop.is_set() and (end_ms is None or time_.now_ms < end_ms):
            due_ms = began_ms + round((loop.time() - began_s) * self.speed * 1000)
            due_ms = min(due_ms, time.time_ns() // 1_000_000)
            if time_.now_ms + SECOND_MS > due_ms:
                await asyncio.sleep(0.01)
                continue
            await self.fleet.second()
            if end_ms is None and time_.now_ms % _KEEP_MS == 0:
                self.fleet.forget_before(time_.now_ms - _KEEP_MS)

    async def _look(self, show: Callable[[Glimpse], None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s, began_ms = loop.time(), self.fleet.time.now_ms
            show(self._glimpse(0.0) if not self._books[0] else self._glimpse(self.speed))
            await asyncio.sleep(_LOOK_S)
            await self._check()
            passed = (self.fleet.time.now_ms - began_ms) / 1000
            show(self._glimpse(passed / (loop.time() - began_s)))

    async def _check(self) -> None:
        books = await asyncio.to_thread(balance, self.aggregator.ledger)
        self._books = (len(books.meters), books.residual_uj, books.coverage)

    def _glimpse(self, speed: float) -> Glimpse:
        cluster = self.fleet.cluster
        running = [job for job in cluster.jobs if job.running]
        meters, residual_uj, coverage = self._books
        known = [job for job in cluster.jobs if job.plan.gpus and not job.plan.array_id]
        return Glimpse(
            now_ms=self.fleet.time.now_ms,
            speed=speed,
            watts=self.fleet.watts(),
            running=len(running),
            waiting=cluster.pending(),
            done=len(cluster.jobs) - len(running),
            meters=meters,
            residual_uj=residual_uj,
            coverage=coverage,
            example=max(known, key=lambda job: job.plan.lasts_ms).plan.job_id if known else "",
        )


def _budgets(nodes: int, gpus: int) -> dict[str, BudgetSection]:
    """Return limits that the fleet comes near when it is busy."""
    busy_w = nodes * (gpus * 300 + 600)
    return {
        "hall": BudgetSection(watts=f"{busy_w * 1.1:.0f}W"),
        "feed": BudgetSection(demand=f"{busy_w}W", inside="hall"),
        "month": BudgetSection(energy=f"{busy_w * 600 / 1000:.0f}kWh"),
    }


def clear(folder: Path) -> None:
    """Empty the demonstration's own folder; another run's books are not this one's.

    Raises:
        ValueError: the folder holds something that no demonstration has written.
        OSError: it cannot be written.

    """
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / _MARKER
    if not marker.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds other files; give the demo a folder of its own")
    for part in ("nodes", "aggregator"):
        if (folder / part).exists():
            shutil.rmtree(folder / part)
    marker.write_text("Everything in this folder is simulated. Nothing here was measured.\n")
