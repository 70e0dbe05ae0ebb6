"""A job that runs: where, since when, and the energy that it truly used there."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from wattkeeper.simulation.chip import Demand
from wattkeeper.simulation.machine import CORES, DRAM_MW, Device, Machine
from wattkeeper.simulation.waveform import Pattern
from wattkeeper.simulation.workloads import NOTHING, JobPlan


@dataclass(slots=True)
class Place:
    """A job's part of one node: the machine and the indices of its GPUs there."""

    machine: Machine
    gpus: tuple[int, ...]


@dataclass(slots=True)
class Job:
    """One run of a job. `true_uj` is what it used per (node, meter), up to its end.

    Instants are in true milliseconds. `marked`: prolog and epilog told the nodes of its edges,
    the latter only with `epilog`. `idle_uj`: the part of `true_uj` in which nothing of it ran.
    `told`: the scheduler was asked while it ran, so it is known what it held.
    """

    plan: JobPlan
    start_ms: int
    places: list[Place]
    marked: bool
    end_ms: int
    epilog: bool = True
    running: bool = True
    state: str = "completed"
    told: bool = False
    true_uj: dict[tuple[str, str], int] = field(default_factory=dict)
    idle_uj: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The holder that the job is to the chips."""
        return f"{self.plan.job_id}/{self.plan.requeued}"

    def allocate(self, at_ms: int) -> None:
        """The job holds its devices from `at_ms` on, and asks nothing of them yet."""
        for device, demand in self._demands(busy=False):
            device.chip.attach(at_ms, self.key, demand)

    def launch(self, at_ms: int) -> None:
        """Its processes begin to work."""
        for device, demand in self._demands(busy=True):
            device.chip.attach(at_ms, self.key, demand)

    def finish(self, at_ms: int) -> None:
        """Its processes have ended; it still holds the devices."""
        self.allocate(at_ms)

    def release(self, at_ms: int) -> None:
        """It holds nothing any more; its true energy is known."""
        for place in self.places:
            for device in self.devices(place):
                meter = (place.machine.name, device.name)
                self.idle_uj[meter] = device.chip.idle_uj(at_ms, self.key)
                self.true_uj[meter] = device.chip.detach(at_ms, self.key)
        self.running, self.end_ms = False, at_ms

    def measure(self, at_ms: int) -> dict[tuple[str, str], int]:
        """Return its true energy per (node, meter) so far, for a job that still runs too."""
        if not self.running:
            return self.true_uj
        return {
            (place.machine.name, device.name): device.chip.true_uj(at_ms, self.key)
            for place in self.places
            for device in self.devices(place)
        }

    def measure_idle(self, at_ms: int) -> dict[tuple[str, str], int]:
        """Return, of `measure`, what it used while nothing of it ran."""
        if not self.running:
            return self.idle_uj
        return {
            (place.machine.name, device.name): device.chip.idle_uj(at_ms, self.key)
            for place in self.places
            for device in self.devices(place)
        }

    def devices(self, place: Place) -> Iterator[Device]:
        """Every device of which it holds a part at one place."""
        yield from (place.machine.gpus[index] for index in place.gpus)
        yield from place.machine.sockets
        yield from place.machine.drams

    def busy(self, at_ms: int) -> bool:
        """Whether its processes work at `at_ms`."""
        return self.busy_ms(at_ms - 1, at_ms) > 0

    def busy_ms(self, since_ms: int, until_ms: int) -> int:
        """Time for which its processes work in a stretch, in milliseconds."""
        until_ms = min(until_ms, self.end_ms)
        start_ms = self.start_ms
        return sum(
            max(0, min(until_ms, start_ms + to_ms) - max(since_ms, start_ms + from_ms))
            for from_ms, to_ms in self.plan.work_ms
        )

    def _demands(self, *, busy: bool) -> Iterator[tuple[Device, Demand]]:
        plan = self.plan
        shared = plan.shard_ppm > 0
        on_gpu = Demand(
            plan.gpu_power if busy else NOTHING,
            reserved_ppm=plan.shard_ppm or 1_000_000,
            exclusive=not shared,
            memory_bytes=plan.memory_bytes if busy else 0,
            idle=not busy,
        )
        for place in self.places:
            for index in place.gpus:
                yield place.machine.gpus[index], on_gpu
            sockets = len(place.machine.sockets)
            for device in (*place.machine.sockets, *place.machine.drams):
                each = plan.core_mw if device in place.machine.sockets else DRAM_MW
                power = Pattern((1, each * plan.cores // sockets)) if busy else NOTHING
                yield device, Demand(power, self.cpu_ppm(place), exclusive=False)

    def cpu_ppm(self, place: Place) -> int:
        """Its reserved part of the cores of one node."""
        return self.plan.cores * 1_000_000 // (CORES * len(place.machine.sockets))
