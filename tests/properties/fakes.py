"""What an agent needs of a machine: counters, clocks, a kubelet; nothing of it is there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from tests.properties.stories import SLICES
from tests.sources.tree import FakeClock
from wattkeeper.holders.pod_answers import KubeletError, RefusedError
from wattkeeper.holders.pod_wire import PluginDevice, PodDevices
from wattkeeper.model.clock import NS_PER_MS
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec, Partition
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.base import DeviceProcess

BOOT_MS = 1_000_000
"""Boot time when a story begins."""
ZERO_MS = 1_800_000_000_000 + 260_000
"""UTC when it begins: a line of slots comes 40 s later."""


class Clock(FakeClock):
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now_ns = BOOT_MS * NS_PER_MS

    def wall_ns(self) -> int:
        """Return UTC."""
        return self.now_ns + (ZERO_MS - BOOT_MS) * NS_PER_MS


@dataclass
class Counters:
    """Meters of one kind, each with its counter and power; `mute`: none of them answers.

    `load` is how often their driver was loaded, `use_ppm` what they say of their utilization,
    `processes_on` who is on each.
    """

    clock: Clock
    component: Component
    meters_by_index: Sequence[str]
    name: str = "counters"
    mute: bool = False
    load: int = 0
    use_ppm: int | None = None
    power_mw: dict[str, int] = field(default_factory=dict)
    raw_uj: dict[str, int] = field(default_factory=dict)
    processes_on: dict[str, list[DeviceProcess]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to count."""
        self.power_mw = dict.fromkeys(self.meters_by_index, 100_000)
        self.reload()

    def reload(self) -> None:
        """Load the driver: every counter begins anew."""
        self.load += 1
        self.raw_uj = dict.fromkeys(self.meters_by_index, 5_000)

    def count(self, ms: int) -> None:
        """Count what is drawn in some milliseconds."""
        for meter, power_mw in self.power_mw.items():
            self.raw_uj[meter] += power_mw * ms

    async def start(self) -> None:
        """Nothing to find."""

    def meters(self) -> Sequence[MeterSpec]:
        """Return them; GPUs numbered as Slurm and the driver count."""
        gpus = self.component is Component.GPU
        return [
            MeterSpec(
                MeterInfo(meter, self.component, self.name, {"gpu": str(n)} if gpus else {}),
                limit_mw=700_000,
                load=f"load-{self.load}",
            )
            for n, meter in enumerate(self.meters_by_index)
        ]

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Read every counter."""
        return [
            Reading(
                meter, self.clock.now_ns, raw_uj, self.power_mw[meter], utilization_ppm=self.use_ppm
            )
            for meter, raw_uj in self.raw_uj.items()
            if not self.mute
        ]

    def processes(self) -> Mapping[str, Sequence[DeviceProcess]]:
        """Return who is on each meter."""
        return {meter: self.processes_on.get(meter, ()) for meter in self.meters_by_index}

    def partitions(self) -> Mapping[str, Partition]:
        """Return the MIG instances."""
        return SLICES

    def hurry(self) -> None:
        """Processes are listed at each look."""

    def gauges(self) -> Sequence[Gauge]:
        """Return none."""
        return []

    def findings(self) -> Sequence[Finding]:
        """Return that all is well."""
        return [Finding(self.name, State.OK, "")]

    async def close(self) -> None:
        """Nothing to let go of."""


class Kubelet:
    """The kubelet, while it is `up`. It also lists pods that have ended."""

    def __init__(self) -> None:
        self.pods: dict[str, PodDevices] = {}
        self.up = True

    async def list(self) -> tuple[PodDevices, ...]:
        """List all pods."""
        self._answer()
        return tuple(self.pods.values())

    async def get(self, namespace: str, name: str) -> PodDevices:
        """Return one pod."""
        self._answer()
        if name not in self.pods:
            raise RefusedError(f"pod {name} in namespace {namespace} not found")
        return self.pods[name]

    async def allocatable(self) -> tuple[PluginDevice, ...]:
        """Return nothing."""
        self._answer()
        return ()

    def _answer(self) -> None:
        if not self.up:
            raise KubeletError("away")


class Unwatched:
    """In place of inotify: a story says when the edges of cgroups are noticed."""

    failure = ""

    def __init__(self, on_edge: object) -> None:
        pass

    def start(self) -> None:
        """Watch nothing."""

    def add(self, folder: Path) -> None:
        """Watch nothing."""

    async def close(self) -> None:
        """Nothing is open."""


@contextmanager
def without_hardware(gpus: Counters, kubelet: Kubelet) -> Iterator[None]:
    """Put these where an agent looks for a driver, a kubelet, inotify and Slurm's commands."""
    with (
        patch("wattkeeper.agent.gpus.NvmlSource", lambda *_, **__: gpus),
        patch("wattkeeper.agent.slurm.squeue", lambda _node: None),
        patch("wattkeeper.holders.cgroups.TreeWatch", Unwatched),
        # Looks between the samples would come by the machine's own clock.
        patch("wattkeeper.holders.slurm_environ._RETRIES_MS", ()),
        patch("wattkeeper.holders.pod_listing._PATIENCE_S", 10.0),
        patch("wattkeeper.holders.pod_listing._is_there", lambda _socket: True),
        patch("wattkeeper.holders.pod_listing._client", lambda _socket: kubelet),
        patch("os.fsync", lambda _descriptor: None),
    ):
        yield
