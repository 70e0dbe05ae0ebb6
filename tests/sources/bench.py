"""A source on a fake driver library, with little patience, for tests."""

import abc
import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from tests.fake_amd.library import FakeAmd
from tests.fake_nvml.library import FakeNvml
from wattkeeper.model.reading import Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.driver import DriverSource
from wattkeeper.sources.driver_patience import Patience

_CHILD = re.compile(rb"wattkeeper\.sources\.\w+_child")
DEADLINE_S = 0.5
QUICK = Patience(
    start_s=5,
    hello_s=2,
    attach_s=1,
    silent_s=0.2,
    end_s=2,
    retry_s=0.01,
    last_retry_s=0.05,
    steady_s=60,
)


Fake = TypeVar("Fake", bound=FakeNvml | FakeAmd)


class DriverBench(abc.ABC, Generic[Fake]):
    """A source and the hardware under it.

    `folder` is sysfs and procfs of it, `library` what the driver's library is found by. `lost`:
    the code of a lost GPU; `energy_call`: what reads the counter.
    """

    module: str
    lost: int
    energy_call: str

    def __init__(self, fake: Fake, library: Path, folder: Path) -> None:
        self.fake = fake
        self.library = library
        self.folder = folder
        self.source: DriverSource = self.build()

    @abc.abstractmethod
    def build(self, patience: Patience = QUICK) -> DriverSource:
        """Return another source on the same hardware."""

    async def read(self) -> dict[int, Reading]:
        """Return one tick's readings by the GPU's number in the driver's order."""
        return self.by_number(await self.source.read(DEADLINE_S))

    def by_number(self, readings: Sequence[Reading]) -> dict[int, Reading]:
        """Return readings by the GPU's number in the driver's order."""
        numbers = {self.fake.meter(i): i for i in range(16)}
        return {numbers[reading.meter]: reading for reading in readings}

    async def read_until(
        self, wanted: Callable[[dict[int, Reading]], bool], within_s: float = 10
    ) -> dict[int, Reading]:
        """Read until the readings are as wanted; fails after `within_s` seconds."""
        deadline = time.monotonic() + within_s
        while True:
            readings = await self.read()
            if wanted(readings):
                return readings
            assert time.monotonic() < deadline, self.source.findings()
            await asyncio.sleep(0.01)

    def finding(self, i: int | None = None) -> Finding:
        """Return the finding of GPU number `i`, or the source's own."""
        findings = self.source.findings()
        if i is None:
            return findings[0]
        return next(found for found in findings if found.subject == self.fake.meter(i))

    def states(self) -> list[State]:
        """Return the states of all GPUs in the driver's order."""
        return [self.finding(i).state for i in range(len(self.source.meters()))]


def child_pids(*, dead: bool = False) -> list[int]:
    """Return the running driver children of this process, with `dead` also unreaped ones."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        ours = bool(_CHILD.search(command)) or (dead and not command)
        if ours and parent == os.getpid():
            found.append(int(folder.name))
    return found


AnyBench = DriverBench[FakeNvml] | DriverBench[FakeAmd]
