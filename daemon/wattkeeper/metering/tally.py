"""Least, mean and greatest of what is seen in a window besides energy."""

import msgspec

from wattkeeper.model.reading import Reading
from wattkeeper.model.window import Spread, Stats


class Range(msgspec.Struct, array_like=True):
    """A running least, sum, number and greatest."""

    least: int
    total: int
    number: int
    greatest: int

    def add(self, value: int) -> None:
        """Take one more value."""
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)
        self.total += value
        self.number += 1

    def spread(self) -> Spread:
        """Return it as it stands in a window."""
        return Spread(self.least, self.total // self.number, self.greatest)


class Tally(msgspec.Struct):
    """What has been seen so far in the open window; None is not seen."""

    power_mw: Range | None = None
    temperature_mc: Range | None = None
    utilization_ppm: Range | None = None
    memory_used_bytes: Range | None = None
    clock_khz: Range | None = None
    throttled_ms: int | None = None

    def add(self, reading: Reading, power_mw: int | None, throttled_ms: int | None) -> None:
        """Take a reading, its power (measured, or from its energy) and new throttled time."""
        self.power_mw = _more(self.power_mw, power_mw)
        self.temperature_mc = _more(self.temperature_mc, reading.temperature_mc)
        self.utilization_ppm = _more(self.utilization_ppm, reading.utilization_ppm)
        self.memory_used_bytes = _more(self.memory_used_bytes, reading.memory_used_bytes)
        self.clock_khz = _more(self.clock_khz, reading.clock_khz)
        if throttled_ms is not None:
            self.throttled_ms = (self.throttled_ms or 0) + throttled_ms

    def stats(self) -> Stats:
        """Return it as it stands in a window."""
        return Stats(
            _spread(self.power_mw),
            _spread(self.temperature_mc),
            _spread(self.utilization_ppm),
            _spread(self.memory_used_bytes),
            _spread(self.clock_khz),
            self.throttled_ms,
        )


def _spread(seen: Range | None) -> Spread | None:
    return None if seen is None else seen.spread()


def _more(seen: Range | None, value: int | None) -> Range | None:
    if value is None:
        return seen
    if seen is None:
        return Range(value, value, 1, value)
    seen.add(value)
    return seen
