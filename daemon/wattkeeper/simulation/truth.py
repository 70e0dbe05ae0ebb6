"""The books of a simulated fleet held against the truth, meter by meter."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.balance import MeterBalance
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.simulation.faults import AGENT_DOWN, Fault, Kind
from wattkeeper.simulation.machine import Device, Machine

EDGE_MS = 120
"""A counter is brought up to date at least this often, so an edge is known this well."""
WINDOW_MS = 10_000
"""An open window stays on the node."""
LOST_MS = 26_000
"""An open window, a delivery and a commit may be lost with an agent and its files, not more."""

_NEW_LOAD = frozenset({Kind.RELOADED, Kind.RELOADED_PAST, Kind.REBOOTED})
_NEW_COUNT = frozenset({Kind.REBOOTED, Kind.WIPED, Kind.CLONED})
"""A count with wraps added up is known to the journal only."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A stretch of true time that the ledger says it cannot know."""

    from_ms: int
    to_ms: int
    reason: str


def unmeasured(
    ledger: Ledger, machines: Sequence[Machine]
) -> dict[tuple[str, str], list[Unmeasured]]:
    """Return what the ledger calls unmeasured, in true time, by (node, meter)."""
    clocks = {machine.name: machine.clock for machine in machines}
    gap, meter, node = schema.gap.c, schema.meter.c, schema.node.c
    query = sa.select(node.name, meter.name, gap.from_ms, gap.to_ms, gap.reason).where(
        gap.meter == meter.id, meter.node == node.id, gap.uj == 0
    )
    found: dict[tuple[str, str], list[Unmeasured]] = {}
    with ledger.engine.connect() as connection:
        for node_name, meter_name, from_ms, to_ms, reason in connection.execute(query):
            clock = clocks[node_name]
            stretch = Unmeasured(clock.true_of(from_ms), clock.true_of(to_ms), reason)
            found.setdefault((node_name, meter_name), []).append(stretch)
    return found


def booked_until(ledger: Ledger, machines: Sequence[Machine]) -> dict[tuple[str, str], int]:
    """Return up to when each meter's books go, in true time, by (node, meter)."""
    clocks = {machine.name: machine.clock for machine in machines}
    meter, node = schema.meter.c, schema.node.c
    query = sa.select(node.name, meter.name, meter.end_ms).where(meter.node == node.id)
    with ledger.engine.connect() as connection:
        return {
            (node_name, meter_name): clocks[node_name].true_of(end_ms)
            for node_name, meter_name, end_ms in connection.execute(query)
        }


class Judge:
    """Finds every difference between books and truth that hardware does not excuse."""

    def __init__(
        self,
        machines: Sequence[Machine],
        faults: Sequence[Fault],
        stretches: Mapping[tuple[str, str], Sequence[Unmeasured]],
        ends: Mapping[tuple[str, str], int],
        end_ms: int,
    ) -> None:
        self._devices = {
            (machine.name, device.name): device
            for machine in machines
            for device in machine.devices
        }
        self._clocks = {machine.name: machine.clock for machine in machines}
        self._faults = faults
        self._stretches = stretches
        self._ends = ends
        self._end_ms = end_ms

    def differences(self, rows: Sequence[MeterBalance]) -> Iterator[str]:
        """Say in words what is wrong with the books of each meter; nothing if nothing is."""
        for row in rows:
            where = f"{row.node} {row.meter}"
            if row.residual_uj:
                yield f"{where}: residual {row.residual_uj} µJ"
            yield from (f"{where}: {problem}" for problem in row.problems)
            if row.component == Component.HOST:
                continue
            device = self._devices.get((row.node, row.meter))
            if device is None:
                yield f"{where}: there is no such meter on this node"
                continue
            end_ms = self._ends[row.node, row.meter]
            if not -WINDOW_MS <= end_ms - self._end_ms <= 0:
                yield f"{where}: books end {self._end_ms - end_ms} ms before the end"
            yield from self._energy(where, device, row, end_ms)
            yield from self._time(where, device, row, end_ms)
            yield from self._causes(where, device, row)

    def _energy(self, where: str, device: Device, row: MeterBalance, end_ms: int) -> Iterator[str]:
        """Measured joules, and the true ones of unmeasured time, are all that was drawn."""
        wave = device.chip.wave
        stretches = self._stretches.get((row.node, row.meter), ())
        unseen = sum(wave.energy_uj(s.to_ms) - wave.energy_uj(s.from_ms) for s in stretches)
        drawn = wave.energy_uj(end_ms) - wave.energy_uj(device.since_ms)
        off = row.measured_uj + unseen - drawn
        slack = device.chip.kind.peak_mw * EDGE_MS * (1 + len(stretches))
        clock = self._clocks[row.node]
        for at_ms in (end_ms, *(edge for s in stretches for edge in (s.from_ms, s.to_ms))):
            # The grid is that of the node's clock; it reads at whole true seconds.
            near_ms = clock.off_second_ms(at_ms)
            slack += wave.energy_uj(at_ms + near_ms) - wave.energy_uj(at_ms - near_ms)
        if abs(off) > slack:
            yield f"{where}: books and unmeasured time are {off} µJ off what was drawn"

    def _time(self, where: str, device: Device, row: MeterBalance, end_ms: int) -> Iterator[str]:
        """Covered and unmeasured time are all the time there was."""
        lived_s = (end_ms - device.since_ms) / 1000
        off_s = row.covered_seconds + row.unmeasured_seconds - lived_s
        if abs(off_s) > 1:
            yield f"{where}: covered and unmeasured time are {off_s:+.1f} s off {lived_s} s"
        said_s = sum(s.to_ms - s.from_ms for s in self._stretches.get((row.node, row.meter), ()))
        if abs(row.unmeasured_seconds - said_s / 1000) > 0.01:
            yield f"{where}: {row.unmeasured_seconds} s unmeasured, reasons given for {said_s} ms"

    def _causes(self, where: str, device: Device, row: MeterBalance) -> Iterator[str]:
        """Time is unmeasured where a count was truly broken, and nowhere else."""
        stretches = list(self._stretches.get((row.node, row.meter), ()))
        for fault in self._faults:
            if fault.node != row.node or fault.kind not in AGENT_DOWN:
                continue
            match = [s for s in stretches if s.from_ms <= fault.until_ms and s.to_ms >= fault.at_ms]
            if breaks_count(fault, device) and not match:
                yield f"{where}: nothing is unmeasured through: {fault.describe()}"
            for stretch in match:
                stretches.remove(stretch)
                excess_ms = stretch.to_ms - stretch.from_ms - (fault.until_ms - fault.at_ms)
                if not may_break_count(fault, device):
                    yield f"{where}: unmeasured ({stretch.reason}) through: {fault.describe()}"
                elif not -1_000 <= excess_ms <= LOST_MS:
                    yield f"{where}: unmeasured {excess_ms} ms too long: {fault.describe()}"
        yield from (f"{where}: unmeasured without a cause: {stretch}" for stretch in stretches)


def breaks_count(fault: Fault, device: Device) -> bool:
    """Whether nobody can know the joules that the device counted through the fault."""
    if device.spec.wrap_uj is None:
        return fault.kind in _NEW_LOAD
    least_ms = device.spec.wrap_uj // (device.spec.limit_mw or 1)
    return fault.kind in _NEW_COUNT or fault.until_ms - fault.at_ms > least_ms * 2


def may_break_count(fault: Fault, device: Device) -> bool:
    """Whether a careful agent may say that it cannot know them."""
    if device.spec.wrap_uj is None:
        return fault.kind in _NEW_LOAD
    least_ms = device.spec.wrap_uj // (device.spec.limit_mw or 1)
    return fault.kind in _NEW_COUNT or fault.until_ms - fault.at_ms > least_ms // 2
