"""An aggregator that a simulated fleet has delivered to, and its page."""

import asyncio
import io
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a fleet of 8 and one of 2,000 GPUs."""
    folder = tmp_path_factory.mktemp("page")
    ready: Future[Served] = Future()
    done = threading.Event()

    async def serve() -> Any:
        async with AsyncExitStack() as stack:
            centres = {
                name: await stack.enter_async_context(running(folder / name, fleet))
                for name, fleet in (("small", SMALL), ("large", LARGE))
            }
            ready.set_result(Served(asyncio.get_running_loop(), centres))
            await asyncio.to_thread(done.wait)

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(asyncio.run, serve())
        try:
            wait([serving, ready], return_when=FIRST_COMPLETED)
            yield ready.result(0) if ready.done() else serving.result()
        finally:
            done.set()
            serving.result(60)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the distribution's Chromium; its client keeps a loop, so it ends with its module."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A tab that notes what it should not do: errors in its console, questions to others."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", self._asked)

    def see(self, path: str) -> Page:
        """Go to a path and wait for its plots."""
        self.page.goto(f"{self.base}{path}")
        for plot in self.page.locator("figure.plot:not(.none) .canvas").all():
            expect(plot.locator(".uplot")).to_be_visible()
        return self.page

    def look_again(self) -> None:
        """Have the page bring itself up to date, as after a return to its tab."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.faults.append(request.url)


Visiting = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Browser, served: Served) -> Iterator[Visiting]:
    """Open a tab; at the end it must have done nothing wrong."""
    with ExitStack() as stack:

        def go(name: str = "small", *, width: int = 1280, **more: Any) -> Visit:
            context = chromium.new_context(viewport={"width": width, "height": 900}, **more)
            context.set_default_timeout(20_000)
            stack.callback(context.close)
            one = Visit(context.new_page(), served.url(name))
            stack.callback(lambda: visits.append(one))
            return one

        visits: list[Visit] = []
        yield go
    assert [one.faults for one in visits if one.faults] == []
