"""An aggregator that a simulated fleet has delivered to, and its page in a browser."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.aggregator.conftest import Centre
from tests.page.feeding import SimulatedFleet
from tests.page.serving import LARGE, SETTINGS, SMALL, Served, running, serving
from wattkeeper.aggregator.runtime import wall_ms


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator of one node with eight GPUs, and a day of history."""
    async with running(tmp_path / "data", SMALL, **SETTINGS) as centre:
        yield centre


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator that nobody delivered to, and that keeps no history."""
    fleet = SimulatedFleet(nodes=0, slots=1, end_ms=wall_ms())
    async with running(tmp_path / "data", fleet, telemetry={"url": "none"}) as centre:
        yield centre


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a fleet of 8 and one of 2,000 GPUs."""
    with serving(tmp_path_factory.mktemp("page"), {"small": SMALL, "large": LARGE}) as fleets:
        yield fleets


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
