"""One whole simulated run: a fleet, its centre and its faults, from the start to the verdict."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.simulation.centre import Centre
from wattkeeper.simulation.faults import Fault, schedule
from wattkeeper.simulation.fleet import SECOND_MS, Fleet, Shape
from wattkeeper.simulation.injector import Injector
from wattkeeper.simulation.names import SimulatedScheduler
from wattkeeper.simulation.verify import Verdict, verify
from wattkeeper.simulation.wire import Wire

_COMMIT_MS = 10_000

Progress = Callable[[Fleet], None]


@dataclass(slots=True)
class Campaign:
    """A run of `lasts_ms` milliseconds in `folder`, with or without faults."""

    shape: Shape
    lasts_ms: int
    folder: Path
    with_faults: bool = True

    async def run(self, progress: Progress = lambda _: None) -> Verdict:
        """Run it to its end and hold the books against the truth."""
        fleet = Fleet(self.shape, self.folder, lambda member: Wire(member, centre))
        scheduler = SimulatedScheduler(fleet.cluster, fleet.time)
        centre = Centre(self.folder / "centre", fleet.time, scheduler)
        faults = self._faults(fleet)
        injector = Injector(
            faults, fleet.members, fleet.cluster, centre, scheduler, self.shape.seed
        )
        await fleet.start()
        end_ms = fleet.time.now_ms + self.lasts_ms
        while fleet.time.now_ms < end_ms:
            await self._second(fleet, centre, injector)
            progress(fleet)
        await fleet.close()
        await asyncio.to_thread(centre.commit)
        centre.learn(fleet.time.start_ms)
        assert centre.ledger is not None
        verdict = verify(
            centre.ledger, fleet.machines, fleet.cluster.jobs, faults, fleet.time.now_ms
        )
        centre.close()
        return verdict

    def _faults(self, fleet: Fleet) -> list[Fault]:
        if not self.with_faults:
            return []
        return schedule(self.shape.seed, list(fleet.members), fleet.time.now_ms, self.lasts_ms)

    async def _second(self, fleet: Fleet, centre: Centre, injector: Injector) -> None:
        until_ms = fleet.time.now_ms // SECOND_MS * SECOND_MS + SECOND_MS
        while injector.next_ms <= until_ms:
            await fleet.until(injector.next_ms)
            await fleet.mark(await injector.step())
        await fleet.second()
        if until_ms % _COMMIT_MS == 0:
            centre.commit()
