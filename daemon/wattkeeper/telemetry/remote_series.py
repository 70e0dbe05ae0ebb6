"""The series of a Prometheus-compatible engine: what they are called, and which sample a row is.

A row's samples stand at its last millisecond, made odd. Steps begin and end at even ones, so that a
range of a step's length holds the same rows whether the engine counts its ends in (Prometheus up to
2.x), or only the later one (Prometheus 3, VictoriaMetrics). Rows of the grid end on whole seconds:
theirs is exactly the last millisecond.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wattkeeper.model.window import Spread
from wattkeeper.telemetry.base import HOLDER_LABELS, METER_LABELS, Place, Row

PLACE_LABELS = (*METER_LABELS, "source")
"""Labels of every series: what makes a meter."""
ENERGY = "wattkeeper_window_energy_joules"
COVERED = "wattkeeper_window_covered_seconds"
THROTTLED = "wattkeeper_window_throttled_seconds"
SHARE = "wattkeeper_window_share_joules"
SHARE_IDLE = "wattkeeper_window_share_idle_joules"
POWER, TEMPERATURE, UTILIZATION, MEMORY, CLOCK = (
    f"wattkeeper_window_{what}"
    for what in (
        "power_watts", "temperature_celsius", "utilization_ratio", "memory_used_bytes",
        "clock_hertz",
    )
)  # fmt: skip
LEAST, MEAN, GREATEST = "_min", "_mean", "_max"

_SPREADS = (POWER, TEMPERATURE, UTILIZATION, MEMORY, CLOCK)
METER_SERIES = (
    ENERGY,
    COVERED,
    THROTTLED,
    *(f"{name}{end}" for name in _SPREADS for end in (LEAST, MEAN, GREATEST)),
)
"""Names of a meter's series, in the order of `meter_values`."""
SHARE_SERIES = (SHARE, SHARE_IDLE)
"""Names of a holder's series in a meter; of the second only what is not 0 is sent."""
_UNSEEN = (None, None, None)
_NO_STATS = (None,) * (1 + 3 * len(_SPREADS))

_MOST_BYTES = 512
"""Of a label's value. Engines cut or refuse longer ones, some from 1 KiB on."""


class Holder(NamedTuple):
    """Whose part of a meter a series is: the values of HOLDER_LABELS."""

    account: str
    manager: str
    workload: str
    birth_ms: str


def held(row: Row) -> Iterable[tuple[Holder, int, int]]:
    """Return what each holder has of a row, and what of it idle, in microjoules, once each."""
    found: dict[Holder, tuple[int, int]] = {}
    for part in row.parts:
        holder = Holder(part.account, part.manager, part.workload, str(part.birth_ms))
        uj, idle_uj = found.get(holder, (0, 0))
        found[holder] = (uj + part.uj, idle_uj + part.idle_uj)
    return [(holder, uj, idle_uj) for holder, (uj, idle_uj) in found.items()]


def sample_ms(row: Row) -> int:
    """Return when a row's samples stand."""
    return (row.end_ms - 1) | 1


def bounded(value: str) -> str:
    """Return a label's value as engines take it: UTF-8 and not too long.

    What is cut off goes into a digest at the end, so that two values never become one.
    """
    if value.isascii() and len(value) <= _MOST_BYTES:
        return value
    content = value.encode("utf-8", "replace")
    if len(content) > _MOST_BYTES:
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        start = content[: _MOST_BYTES - len(digest) - 1]
        return f"{start.decode('utf-8', 'ignore')}~{digest}"
    return content.decode()


def labels_of(place: Place, holder: Holder | None = None) -> Iterator[tuple[str, str]]:
    """Yield the labels of a meter's series, or of a holder's in it, by name, none of them empty."""
    found = dict(zip(PLACE_LABELS, place, strict=True))
    if holder is not None:
        found.update(zip(HOLDER_LABELS, holder, strict=True))
    for name in sorted(found):
        if found[name]:
            yield name, bounded(found[name])


def meter_values(row: Row) -> tuple[float | None, ...]:
    """Return what a row says of its meter, by METER_SERIES; None is not seen."""
    energy, covered = row.uj / 1e6, row.covered_ms / 1e3
    stats = row.stats
    if stats is None:
        return (energy, covered, *_NO_STATS)
    return (
        energy,
        covered,
        None if stats.throttled_ms is None else stats.throttled_ms / 1e3,
        *_scaled(stats.power_mw, 1, 1000),
        *_scaled(stats.temperature_mc, 1, 1000),
        *_scaled(stats.utilization_ppm, 1, 1_000_000),
        *_scaled(stats.memory_used_bytes, 1, 1),
        *_scaled(stats.clock_khz, 1000, 1),
    )


def _scaled(spread: Spread | None, times: int, over: int) -> tuple[float | None, ...]:
    if spread is None:
        return _UNSEEN
    least, mean, greatest = spread.least, spread.mean, spread.greatest
    return (least * times / over, mean * times / over, greatest * times / over)
