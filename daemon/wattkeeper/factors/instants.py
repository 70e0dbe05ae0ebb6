"""Instants as tables and answers write them."""

from datetime import UTC, date, datetime
from decimal import Decimal

from wattkeeper.factors.units import modest

_LATEST_MS = 4_102_444_800_000
"""2100; a number of seconds is far below it, one of milliseconds above 1970's first weeks."""
_SECONDS_MS = 100_000_000_000
"""Numbers below are seconds since 1970, from here on milliseconds (March 1973)."""


def instant_ms(text: object) -> int:
    """Return UTC milliseconds of `2026-01-01T00:00:00+01:00`, `2026-01-01` (UTC) or a Unix time.

    Raises:
        ValueError: not an instant, or one without a time zone.

    """
    if isinstance(text, Decimal) and not modest(text):
        at_ms = _LATEST_MS
    elif isinstance(text, int | Decimal) and not isinstance(text, bool):
        at_ms = int(text * 1000) if text < _SECONDS_MS else int(text)
    elif isinstance(text, str):
        at_ms = _written(text)
    else:
        raise ValueError(f"{str(text)[:40]!r} is no time")
    if not 0 <= at_ms < _LATEST_MS:
        raise ValueError(f"{str(text)[:40]!r} is not between 1970 and 2100")
    return at_ms


def _written(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time; write 2026-01-01T00:00:00Z") from None
    if at.tzinfo is None:
        if len(text) > len(date.min.isoformat()):
            raise ValueError(f"{text[:40]!r} has no time zone; append Z, or +01:00")
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
