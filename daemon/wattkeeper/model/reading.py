"""What a source says at one instant. A value that could not be read is missing, never zero."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Gauge(NamedTuple):
    """One live value for `/metrics` without a part in the books.

    `name` is the metric's name without the `wattkeeper_` prefix, with its unit:
    `gpu_temperature_celsius`. A name that ends in `_total` is exported as a counter.
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One meter at one instant.

    `boot_ns`: CLOCK_BOOTTIME when the value was taken. `energy_uj`: the raw hardware counter.
    `utilization_ppm`: parts per million of 1. `throttled_ms`: a counter of time spent throttled.
    """

    meter: str
    boot_ns: int
    energy_uj: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    temperature_mc: int | None = None
    utilization_ppm: int | None = None
    memory_used_bytes: int | None = None
    clock_khz: int | None = None
    throttled_ms: int | None = None
    gauges: tuple[Gauge, ...] = field(default=())
