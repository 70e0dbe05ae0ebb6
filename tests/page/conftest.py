"""An aggregator that a simulated fleet has delivered to, and its page."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.aggregator.conftest import Centre, settings
from tests.page.feeding import SimulatedFleet
from wattkeeper.aggregator.runtime import Aggregator, wall_ms
from wattkeeper.delivery import wire

SMALL = SimulatedFleet(nodes=1, slots=96, end_ms=wall_ms())
LARGE = SimulatedFleet(nodes=250, slots=4, end_ms=wall_ms())


@asynccontextmanager
async def running(folder: Path, fleet: SimulatedFleet, **more: Any) -> AsyncIterator[Centre]:
    """Run an aggregator that has what a fleet delivered."""
    clock = [fleet.end_ms + 3000]
    racks = {"groups": {"rack": fleet.racks}} if fleet.nodes > 2 else {}
    aggregator = Aggregator(settings(folder, **racks, **more), now_ms=lambda: clock[0])
    await aggregator.start()
    async with aiohttp.ClientSession() as session:
        for batch in fleet.batches():
            url = f"{aggregator.url}/v1/windows"
            headers = {"Content-Type": wire.CONTENT_TYPE}
            async with session.post(url, data=io.BytesIO(wire.pack(batch)), headers=headers) as ack:
                assert ack.status == 200, await ack.text()
        assert await aggregator.commit()
        yield Centre(aggregator, session, clock)
    await aggregator.stop()


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator of one node with eight GPUs, and a day of history."""
    async with running(tmp_path / "data", SMALL) as centre:
        yield centre


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator that nobody delivered to, and that keeps no history."""
    fleet = SimulatedFleet(nodes=0, slots=1, end_ms=wall_ms())
    async with running(tmp_path / "data", fleet, telemetry={"url": "none"}) as centre:
        yield centre


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serve a fleet of 8 and one of 2,000 GPUs from a loop of their own; addresses by size."""
    folder = tmp_path_factory.mktemp("page")
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        opened = [running(folder / str(fleet.nodes), fleet) for fleet in (SMALL, LARGE)]
        centres = [loop.run_until_complete(one.__aenter__()) for one in opened]
        names = ("small", "large")
        yield {name: c.aggregator.url for name, c in zip(names, centres, strict=True)}
        for one in opened:
            loop.run_until_complete(one.__aexit__(None, None, None))
