"""Readings of a simulated node, so that real agent code meters a fleet whose truth is known."""

from collections.abc import Sequence
from typing import Protocol

from wattkeeper.model.meter import MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State


class SimulatedNode(Protocol):
    """The devices of one node, as a simulation gives them. Every method returns at once."""

    def meters(self) -> Sequence[MeterSpec]:
        """The meters that the node has now."""
        ...

    def readings(self) -> Sequence[Reading]:
        """What they say at this instant; a meter that does not answer is left out."""
        ...

    def gauges(self) -> Sequence[Gauge]:
        """Live values that belong to no meter."""
        ...


class SimulatedSource:
    """A source whose devices are computed. Everything it says is marked as simulated."""

    name = "simulated"

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._silent: list[str] = []

    async def start(self) -> None:
        """Nothing to discover: the simulation knows its devices."""

    def meters(self) -> Sequence[MeterSpec]:
        """Return the meters of the simulated node."""
        return self._node.meters()

    def gauges(self) -> Sequence[Gauge]:
        """Return the simulated host's live values."""
        return self._node.gauges()

    def findings(self) -> Sequence[Finding]:
        """Return the source's state, and one finding for each meter that was silent."""
        count = len(self._node.meters())
        return [
            Finding(self.name, State.OK, f"{count} simulated meters: no figure here is measured"),
            *(Finding(meter, State.STALE, "simulated: no answer") for meter in self._silent),
        ]

    async def read(self, deadline_s: float) -> Sequence[Reading]:  # noqa: ARG002 never waits
        """Read every simulated meter at this instant; answers at once, whatever the deadline."""
        readings = self._node.readings()
        meters = self._node.meters()
        self._silent = []
        if len(readings) < len(meters):
            answered = {reading.meter for reading in readings}
            self._silent = [spec.info.name for spec in meters if spec.info.name not in answered]
        return readings

    async def close(self) -> None:
        """Nothing to let go of."""
