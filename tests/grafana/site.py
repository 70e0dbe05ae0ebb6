"""A simulated site under a real Prometheus and a real Alertmanager.

Agents and aggregator are the real ones and answer over HTTP. What they expose gets the fleet's own
time as timestamps, so that minutes of the fleet are scraped in seconds, and rates are
what they would be.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tests.e2e.programs import free_port
from wattkeeper.agent.http import application
from wattkeeper.agent.transport import HttpTransport
from wattkeeper.aggregator.budget_config import BudgetSection
from wattkeeper.aggregator.config import AggregatorSettings, LedgerSection, MetricsSection
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.grid import floor
from wattkeeper.simulation.fleet import Fleet, Shape
from wattkeeper.simulation.member import Member
from wattkeeper.simulation.names import CLUSTER, SimulatedScheduler

NODES, GPUS = 3, 4
LASTS_S = 12 * 60
STEP_S, SLOT_S = 15, 300
"""Simulated time between two scrapes, and a slot of the books."""
SILENT, HOT = "sim003", "sim002"
"""A node whose agent ends before the fleet does; one of its rack whose cooling has failed, and that
has a meter of memory that never answers."""
_SILENT_S = 150
BUDGETS: dict[str, dict[str, Any]] = {
    "hall": {"watts": "1kW"},
    "feed": {"demand": "10kW", "group": "rack=r1"},
    "month": {"energy": "1MWh"},
}
"""The first is exceeded."""
GROUPS = {"rack": {"r1": ("sim001",), "r2": ("sim002", "sim003")}}


@dataclass(slots=True)
class Site:
    """The fleet, its aggregator and their addresses. `scrape` waits for a whole scrape."""

    folder: Path
    fleet: Fleet = field(init=False)
    aggregator: Aggregator = field(init=False)
    metrics_port: int = field(init=False, default_factory=free_port)
    scraped: dict[str, int] = field(init=False, default_factory=dict)
    """The fleet's time at which each was scraped last, UTC milliseconds."""
    _scheduler: SimulatedScheduler = field(init=False)
    _line_ms: int = field(init=False, default=0)
    """The instant of what the aggregator shows."""
    _news: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        start_s = time.time() // STEP_S * STEP_S - LASTS_S
        shape = Shape(NODES, GPUS, round(start_s * 1000), seed=3)
        self.fleet = Fleet(
            shape, self.folder, lambda _: HttpTransport(self.aggregator.url, None, 30)
        )
        for member in self.fleet.members.values():
            member.address = f"127.0.0.1:{free_port()}"
        for gpu in self.fleet.members[HOT].machine.gpus:
            gpu.chip._ambient_mc = 84_000
        self.fleet.members[HOT].machine.drams[1].answers = False
        settings = AggregatorSettings(
            listen="127.0.0.1:0",
            data_dir=self.folder / "aggregator",
            commit_interval=timedelta(milliseconds=100),
            ledger=LedgerSection(slot=timedelta(seconds=SLOT_S)),
            metrics=MetricsSection(identity="user"),
            groups=GROUPS,
            budgets={name: BudgetSection(**limit) for name, limit in BUDGETS.items()},
        )
        self._scheduler = SimulatedScheduler(self.fleet.cluster, self.fleet.time, 0.2)
        schedulers = [self._scheduler]
        self.aggregator = Aggregator(settings, schedulers, now_ms=lambda: self.fleet.time.now_ms)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything, nothing passes yet."""
        async with AsyncExitStack() as stack:
            await self.aggregator.start()
            stack.push_async_callback(self.aggregator.stop)
            await self.fleet.start()
            stack.push_async_callback(self.fleet.close)
            for member in self.fleet.members.values():
                await stack.enter_async_context(self._agent(member))
            await stack.enter_async_context(self._proxy())
            yield

    async def live(self) -> None:
        """Let the fleet's time come to the clock on the wall, a scrape at every step.

        At each line between two slots of the books, and at the end, everything up to the line is
        delivered: a second later, when the windows have closed.
        """
        steps = LASTS_S // STEP_S
        await self.fleet.second()
        for step in range(steps):
            if step == (LASTS_S - _SILENT_S) // STEP_S:
                await self.fleet.members[SILENT].kill()
            for _ in range(STEP_S):
                await self.fleet.second()
            if self.fleet.time.now_ms % (SLOT_S * 1000) == 1000 or step == steps - 1:
                await self.fleet.settle()
            await self.scrape()

    async def scrape(self) -> None:
        """Wait until every agent that lives and the aggregator were scraped at this instant.

        Every job has its name by then: a series that changes its labels would be there twice for
        five minutes, since samples with timestamps have no markers of staleness.
        """
        await self.aggregator.commit()
        known = self._scheduler.known(0)
        await asyncio.to_thread(record_knowledge, self.aggregator.ledger, CLUSTER, known)
        await self.aggregator.settle()
        await self.aggregator.budgeting.assess()
        self.aggregator.exporter.expire()
        now_ms = self.fleet.time.now_ms
        self._line_ms = floor(now_ms, STEP_S * 1000)
        wanted = {name: now_ms for name, member in self.fleet.members.items() if member.alive}
        wanted["aggregator"] = self._line_ms
        async with asyncio.timeout(30):
            while any(self.scraped.get(name, 0) < at_ms for name, at_ms in wanted.items()):
                self._news.clear()
                await self._news.wait()

    @asynccontextmanager
    async def _agent(self, member: Member) -> AsyncIterator[None]:
        """Serve an agent's own application; what it exposes gets the fleet's time."""
        assert member.agent is not None

        def at_ms() -> int:
            return self.fleet.time.now_ms if member.alive else 0

        app = application(member.agent)
        app.middlewares.append(self._stamping(member.machine.name, at_ms))

        port = int(member.address.rpartition(":")[2])
        async with _served(app, port):
            yield

    @asynccontextmanager
    async def _proxy(self) -> AsyncIterator[None]:
        """Serve what the aggregator says, its metrics with the fleet's time."""
        async with aiohttp.ClientSession() as session:

            async def forward(request: web.Request) -> web.Response:
                async with session.get(f"{self.aggregator.url}{request.path}") as answer:
                    kind = answer.headers["Content-Type"]
                    body = await answer.read()
                return web.Response(body=body, headers={"Content-Type": kind})

            app = web.Application(middlewares=[self._stamping("aggregator", lambda: self._line_ms)])
            app.router.add_get("/{path:.*}", forward)
            async with _served(app, self.metrics_port):
                yield

    def _stamping(self, name: str, now_ms: Callable[[], int]) -> Middleware:
        """Give what is exposed the time that `now_ms` says; answer nothing as long as that is 0."""

        @web.middleware
        async def stamp(request: web.Request, handler: Handler) -> web.StreamResponse:
            at_ms = now_ms()
            if not at_ms:
                raise web.HTTPServiceUnavailable
            answer = await handler(request)
            if request.path != "/metrics" or not isinstance(answer, web.Response):
                return answer
            assert isinstance(answer.body, bytes)
            lines = answer.body.decode().splitlines()
            text = "".join(
                f"{line}\n" if line.startswith("#") else f"{line} {at_ms}\n" for line in lines
            )
            self.scraped[name] = at_ms
            self._news.set()
            return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

        return stamp


@asynccontextmanager
async def _served(app: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()
