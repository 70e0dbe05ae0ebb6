"""Instants of requests: RFC 3339, dates and relative times, snapped to the ledger's slots."""

import re
from datetime import UTC, datetime, tzinfo

from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.model import grid

_RELATIVE = re.compile(r"-?(\d+(?:\.\d+)?)(s|m|h|d|w)")
LATEST_MS = 4_102_444_800_000
"""2100."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse(text: str, now_ms: int, field: str, zone: tzinfo | None = None) -> int:
    """Return UTC milliseconds of `2026-11-23T20:15:00Z`, `2026-11-23`, `-24h` or `now`.

    What has no time zone of its own is of `zone`; without one, only days are, and of UTC.

    Raises:
        ProblemError: not an instant; names the parameter and shows how one looks.

    """
    if text == "now":
        return now_ms
    relative = _RELATIVE.fullmatch(text)
    if relative is not None:
        ago_ms = float(relative[1]) * _SECONDS[relative[2]] * 1000
        return _within(now_ms - round(min(ago_ms, LATEST_MS)), text, field)
    try:
        # A `+` in a query string arrives as a space unless the client escapes it.
        at = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 else text)
    except ValueError:
        raise ProblemError(400, "bad-time", _advice(text), field) from None
    if at.tzinfo is None:
        if "T" in text and zone is None:
            raise ProblemError(400, "bad-time", f"{text!r} has no time zone: append Z", field)
        at = at.replace(tzinfo=zone or UTC)
    return _within(round(at.timestamp() * 1000), text, field)


def _within(at_ms: int, text: str, field: str) -> int:
    if not 0 <= at_ms < LATEST_MS:
        raise ProblemError(400, "bad-time", f"{text[:80]!r} is not between 1970 and 2100", field)
    return at_ms


def _advice(text: str) -> str:
    return (
        f"{text[:80]!r} is not a time; write 2026-11-23T20:15:00Z, 2026-11-23, -24h or now"
        " (relative units: s, m, h, d, w)"
    )


def period(
    since: str | None,
    until: str | None,
    *,
    now_ms: int,
    slot_ms: int,
    usual_ms: int,
    zone: tzinfo | None = None,
) -> tuple[int, int]:
    """Return [since, until) in UTC milliseconds, widened to whole slots.

    Without `until` it ends with the slot that is open now; without `since` it is `usual_ms` long.

    Raises:
        ProblemError: not times, or `until` is not after `since`.

    """
    to_ms = parse(until, now_ms, "until", zone) if until is not None else now_ms
    from_ms = parse(since, now_ms, "since", zone) if since is not None else to_ms - usual_ms
    if to_ms <= from_ms:
        raise ProblemError(400, "bad-period", "until must be after since", "until")
    return grid.floor(from_ms, slot_ms), grid.ceil(to_ms, slot_ms)


def rfc3339(at_ms: int) -> str:
    """Return an instant as `2026-11-23T20:15:00Z`, with a fraction only where there is one."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    timespec = "milliseconds" if at_ms % 1000 else "seconds"
    return at.isoformat(timespec=timespec).replace("+00:00", "Z")
