"""An aggregator on a port of its own, with a clock that the test sets."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blockbuster import blockbuster_ctx
from pydantic import SecretStr

from tests.aggregator.feeding import START_MS, Feeder
from tests.aggregator.past import Past
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.delivery import wire
from wattkeeper.telemetry.duck import DuckStore


@dataclass
class Centre:
    """A running aggregator and a client of it."""

    aggregator: Aggregator
    session: aiohttp.ClientSession
    clock: list[int]
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": wire.CONTENT_TYPE})

    async def deliver(self, batch: wire.Batch, **headers: str) -> tuple[int, Any]:
        """Post a batch; return status and body."""
        return await self.post(wire.pack(batch), **headers)

    async def post(self, body: bytes, **headers: str) -> tuple[int, Any]:
        """Post a body as it is."""
        url = f"{self.aggregator.url}/v1/windows"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = io.BytesIO(body)
        async with self.session.post(url, data=data, headers={**self.headers, **named}) as answer:
            return answer.status, await answer.json(content_type=None)

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        """Ask; return status and body."""
        async with self.session.get(f"{self.aggregator.url}{path}", params=query) as answer:
            return answer.status, await answer.json(content_type=None)

    async def text(self, path: str) -> str:
        """Ask for text."""
        async with self.session.get(f"{self.aggregator.url}{path}") as answer:
            assert answer.status == 200
            return await answer.text()

    async def aggregator_again(self) -> None:
        """Start it anew after a stop, on another port."""
        self.aggregator = Aggregator(self.aggregator.settings, now_ms=lambda: self.clock[0])
        await self.aggregator.start()

    async def fed(self, feeder: Feeder | None = None, windows: int = 180) -> Feeder:
        """Deliver half an hour of a node, and commit."""
        feeder = feeder or Feeder()
        records = feeder.run(windows)
        self.clock[0] = max(self.clock[0], feeder.at_ms)
        snapshot = feeder.snapshot(advertise=f"{feeder.node}:9745")
        status, body = await self.deliver(feeder.batch(records, snapshot))
        assert status == 200, body
        assert await self.aggregator.commit()
        return feeder


def settings(folder: Path, **more: Any) -> AggregatorSettings:
    """Return settings of an aggregator that commits only when told to."""
    return AggregatorSettings(
        listen="127.0.0.1:0", data_dir=folder, commit_interval=timedelta(hours=1), **more
    )


@asynccontextmanager
async def started(aggregator: Aggregator) -> AsyncIterator[Aggregator]:
    """Start an aggregator, and stop it in any case: a socket left open fails some later test."""
    await aggregator.start()
    try:
        yield aggregator
    finally:
        await aggregator.stop()


@pytest.fixture(autouse=True)
def _nothing_blocks_the_loop() -> Iterator[None]:
    """Fail where the package blocks the event loop; a lock held for a few µs is no blocking."""
    with blockbuster_ctx("wattkeeper") as watch:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            if name in watch.functions:
                watch.functions[name].deactivate()
        yield


@pytest.fixture
async def centre(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Centre]:
    """Run an aggregator; parametrize indirectly for other settings."""
    more: dict[str, Any] = getattr(request, "param", {})
    clock = [START_MS]
    chosen = await asyncio.to_thread(settings, tmp_path / "data", **more)  # time zones are files
    aggregator = Aggregator(chosen, now_ms=lambda: clock[0])
    await aggregator.start()
    async with aiohttp.ClientSession() as session:
        running = Centre(aggregator, session, clock)
        yield running
    await running.aggregator.stop()


@pytest.fixture(scope="session", params=["memory", "duck"])
def past(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Past]:
    """Books and history of two jobs, to be read only: by the reference, and as it is kept."""
    folder = tmp_path_factory.mktemp("past")
    store = DuckStore(folder / "history") if request.param == "duck" else None
    with Past(folder, store) as opened:
        yield opened.two_jobs()
    if store is not None:
        store.close()


@pytest.fixture(scope="session")
def remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """The same in memory alone, for properties of what is done with a store's answers."""
    with Past(tmp_path_factory.mktemp("past")) as opened:
        yield opened.two_jobs()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Past]:
    """The same, to be changed."""
    with Past(tmp_path) as opened:
        yield opened.two_jobs()


TOKEN = {"token": SecretStr("s3cret")}
