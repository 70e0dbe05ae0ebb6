"""A scheduler that watches a server of the tests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kube.server import ApiServer, serving
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo
from wattkeeper.schedulers.kubernetes import KubernetesScheduler
from wattkeeper.schedulers.kubernetes_access import Access
from wattkeeper.schedulers.kubernetes_mirror import Pace
from wattkeeper.schedulers.kubernetes_pods import Naming

NOW_MS = 1_795_430_000_000
FAST = Pace(first_s=0.001, longest_s=0.005, watch_s=60, chunk=2)
_DEADLINE_S = 10.0


@dataclass
class Watching:
    """A server and a scheduler that watches it. `ask` asks as the aggregator does."""

    server: ApiServer
    scheduler: KubernetesScheduler
    asked: int = 0
    told: dict[str, WorkloadInfo] = field(default_factory=dict)

    async def ask(self) -> Knowledge:
        """Ask; the answer is taken."""
        answer = await self.scheduler.ask(self.asked)
        self.asked += 1
        self.told.update({info.run: info for info in answer.workloads})
        return answer

    async def caught_up(self) -> None:
        """Wait until the scheduler has heard of everything that happened."""
        mirrors = self.scheduler._mirrors.values()
        async with asyncio.timeout(_DEADLINE_S):
            while not all(self._current(mirror.version) for mirror in mirrors):
                self.server.bookmark()
                await asyncio.sleep(0.001)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something."""
        async with asyncio.timeout(_DEADLINE_S):
            while not true():
                await asyncio.sleep(0.001)

    def _current(self, version: str | None) -> bool:
        return version is not None and int(version) >= self.server.store.version


def access(server: ApiServer, folder: Path) -> Access:
    """Return the way to a server, with its token in a file."""
    file = folder / "token"
    if not file.exists():
        file.write_text(server.token)
    return Access(server.url, token_file=file)


@asynccontextmanager
async def watching(
    server: ApiServer,
    folder: Path,
    *,
    naming: Naming | None = None,
    pace: Pace = FAST,
    interval_s: float = 15.0,
    node_selector: str = "",
) -> AsyncIterator[Watching]:
    """Start a server and a scheduler that watches it."""
    async with serving(server):
        scheduler = KubernetesScheduler(
            lambda: access(server, folder),
            Naming("c") if naming is None else naming,
            interval_s=interval_s,
            node_selector=node_selector,
            pace=pace,
            now_ms=lambda: NOW_MS,
        )
        await scheduler.start()
        try:
            yield Watching(server, scheduler)
        finally:
            await scheduler.close()
