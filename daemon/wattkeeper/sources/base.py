"""What every source of readings is to the sampler."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from wattkeeper.model.meter import MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding


class Source(Protocol):
    """Something that can be asked what its meters say.

    A source never raises for what hardware does: a device that cannot be read is left out of the
    answer and shows in `findings()` with its state, so one sick device never blinds the node.
    """

    @property
    def name(self) -> str:
        """Short name, as in the `source` label: `nvml`, `rapl`."""
        ...

    async def start(self) -> None:
        """Discover the meters. Called once, and returns also where there are none."""
        ...

    def meters(self) -> Sequence[MeterSpec]:
        """Return the meters known now. May change between reads: a lost GPU, a new driver load."""
        ...

    def gauges(self) -> Sequence[Gauge]:
        """Return live values that belong to no meter, as of the last read."""
        ...

    def findings(self) -> Sequence[Finding]:
        """Return the state of the source (first) and of each thing in it, as of the last read."""
        ...

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Read every meter; return what answered within `deadline_s` seconds."""
        ...

    async def close(self) -> None:
        """Let go of the devices, quickly; a device that hangs is abandoned."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A process on a device, with the host's PID. `sm_ppm`: its share of SM time, if known.

    `partition`: the UUID of the MIG device that it is on; `sm_ppm` is then how busy that one is.
    """

    pid: int
    sm_ppm: int | None = None
    partition: str | None = None


@runtime_checkable
class ProcessLister(Protocol):
    """A source that also knows which processes are on its devices."""

    def processes(self) -> Mapping[str, Sequence[DeviceProcess]]:
        """Processes per meter name, as of the last process list; a missing meter is unknown."""
        ...


@runtime_checkable
class Releasable(Protocol):
    """A source that can let go of its driver for upgrades, resets and MIG changes."""

    async def release(self, meter: str | None, for_s: float) -> Sequence[str]:
        """Close the driver for one meter, or all, and come back by UUID after `for_s` seconds.

        Returns the meters that were let go: all, where one alone cannot be.
        """
        ...
