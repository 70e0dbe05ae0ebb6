"""Figures as people read them, in the unit that fits: what commands print and the page shows."""

from datetime import datetime
from decimal import Decimal

UNKNOWN = "-"
SOURCES = {
    "counter": "counted by the hardware",
    "integrated": "added up from power readings",
    "estimated": "estimated",
}
"""How a figure was measured."""
SPLITS = {
    "exclusive": "alone on its devices",
    "shared": "shared by activity",
    "settled": "settled afterwards",
    "recovered": "recovered over an outage",
}
"""How a figure was told from others' on the same device."""
CLASSES = {
    "A": "counted, alone on its devices",
    "B": "counted, but for its edges or an outage",
    "C": "counted on shared devices, or added up from power readings",
    "D": "estimated, or a part of what was added up",
}
"""How sure a figure is: docs/accounting.md."""
_ENERGIES = ((3_600_000_000_000_000, "MWh"), (3_600_000_000_000, "kWh"), (3_600_000_000, "Wh"))
_MASSES = ((Decimal(1_000_000), "t"), (Decimal(1000), "kg"))


def energy(uj: int | str | None) -> str:
    """Return whole microjoules in the unit that fits: MWh, kWh, Wh or J."""
    if uj is None:
        return UNKNOWN
    value = int(uj)
    for size, unit in _ENERGIES:
        if abs(value) >= size:
            return f"{_digits(value / size)} {unit}"
    return f"{_digits(value / 1_000_000)} J"


def _digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def money(text: str | None, currency: str | None) -> str:
    """Return an amount with its currency; below a hundredth with as many digits as it needs."""
    if text is None:
        return UNKNOWN
    amount = Decimal(text)
    shown = f"{amount:,.2f}" if abs(amount) >= Decimal("0.1") or not amount else f"{amount:.4f}"
    return f"{shown} {currency or ''}".rstrip()


def carbon(text: str | None) -> str:
    """Return grams of CO2 equivalents as t, kg or g."""
    if text is None:
        return UNKNOWN
    grams = Decimal(text)
    size, unit = next(((size, unit) for size, unit in _MASSES if grams >= size), (Decimal(1), "g"))
    return f"{_digits(float(grams / size))} {unit}"


def watts(value: float | None) -> str:
    """Return power as `312 W`, `12.5 kW` or `10.2 MW`."""
    if value is None:
        return UNKNOWN
    if abs(value) >= 10_000_000:
        return f"{_digits(value / 1_000_000)} MW"
    if abs(value) >= 10_000:
        return f"{_digits(value / 1000)} kW"
    return f"{value:,.0f} W" if abs(value) >= 10 else f"{value:.1f} W"


def celsius(value: float | None) -> str:
    """Return a temperature as `71 °C`."""
    return UNKNOWN if value is None else f"{value:.0f} °C"


def gpus(count: float) -> str:
    """Return how many GPUs; a part of a shared one with two digits."""
    return f"{count:,.2f}".rstrip("0").rstrip(".")


def span(seconds: float | None) -> str:
    """Return a length of time as `h:mm:ss`."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def percent(ratio: float | None) -> str:
    """Return a ratio as percent; never 100 % for what is not complete."""
    if ratio is None:
        return UNKNOWN
    if 0.9995 <= ratio < 1:
        return "99.9 %"
    return f"{ratio * 100:.3g} %" if ratio < 1 else f"{ratio * 100:.0f} %"


def instant(text: str | None) -> str:
    """Return an RFC 3339 instant without its fraction: `2026-11-23 20:15:00Z`."""
    if text is None:
        return UNKNOWN
    whole = text.partition(".")[0].removesuffix("Z")
    return f"{whole.replace('T', ' ')}Z"


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two RFC 3339 instants, None if one is not known."""
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def clean(text: str) -> str:
    """Return text without control characters: a job's name must not drive what shows it."""
    return "".join(char if char.isprintable() else "�" for char in text)
