"""Aggregators that a simulated fleet has delivered to, also from a thread of their own."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.aggregator.conftest import Centre, settings, started
from tests.page.feeding import SimulatedFleet
from wattkeeper.aggregator.runtime import Aggregator, wall_ms
from wattkeeper.delivery import wire

SMALL = SimulatedFleet(nodes=1, slots=96, end_ms=wall_ms())
LARGE = SimulatedFleet(nodes=250, slots=2, end_ms=wall_ms())


SETTINGS: dict[str, Any] = {
    "budgets": {
        "site": {"watts": "6kW", "raise_after": "0s"},
        "physics": {"demand": "4kW", "account": "physics", "inside": "site", "raise_after": "0s"},
        "month": {"energy": "5MWh", "per": "month"},
    },
    "factors": {
        "price": {"value": "0.21", "unit": "EUR/kWh", "source": "contract"},
        "carbon": {"value": "380", "source": "Grid & Co"},
    },
}
"""What power costs and emits, and budgets that eight GPUs at work are near to and over."""


@asynccontextmanager
async def running(
    folder: Path, fleet: SimulatedFleet, *, port: int = 0, **more: Any
) -> AsyncIterator[Centre]:
    """Run an aggregator that has what a fleet delivered."""
    clock = [fleet.end_ms + 3000]
    racks = {"groups": {"rack": fleet.racks}} if fleet.nodes > 2 else {}
    given = settings(folder, **racks, **more).model_copy(update={"listen": f"127.0.0.1:{port}"})
    async with (
        started(Aggregator(given, now_ms=lambda: clock[0])) as aggregator,
        aiohttp.ClientSession() as session,
    ):
        for batch in fleet.batches():
            url = f"{aggregator.url}/v1/windows"
            headers = {"Content-Type": wire.CONTENT_TYPE}
            async with session.post(url, data=io.BytesIO(wire.pack(batch)), headers=headers) as ack:
                assert ack.status == 200, await ack.text()
        assert await aggregator.commit()
        assert await aggregator.budgeting.assess()
        yield Centre(aggregator, session, clock)


@dataclass
class Served:
    """Fleets that are served from a thread of their own, by name."""

    loop: asyncio.AbstractEventLoop
    centres: dict[str, Centre]

    def url(self, name: str) -> str:
        """Return where a fleet's page is."""
        return self.centres[name].aggregator.url

    def deliver(self, name: str, batch: wire.Batch) -> None:
        """Deliver a batch."""
        delivery = self.centres[name].deliver(batch)
        status, _ = asyncio.run_coroutine_threadsafe(delivery, self.loop).result(30)
        assert status == 200


@contextmanager
def serving(
    folder: Path, fleets: Mapping[str, SimulatedFleet], *, port: int = 0
) -> Iterator[Served]:
    """Serve fleets until the block ends."""
    ready: Future[Served] = Future()
    done = threading.Event()

    async def serve() -> Any:
        async with AsyncExitStack() as stack:
            centres = {
                name: await stack.enter_async_context(
                    running(folder / name, fleet, port=port, **SETTINGS)
                )
                for name, fleet in fleets.items()
            }
            ready.set_result(Served(asyncio.get_running_loop(), centres))
            await asyncio.to_thread(done.wait)

    with ThreadPoolExecutor(1) as pool:
        serves = pool.submit(asyncio.run, serve())
        try:
            wait([serves, ready], return_when=FIRST_COMPLETED)
            yield ready.result(0) if ready.done() else serves.result()
        finally:
            done.set()
            serves.result(60)
