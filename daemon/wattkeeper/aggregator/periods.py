"""Calendar time: `2026-03` in a time zone, and the days and months of a period."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo

from wattkeeper.aggregator import times
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.budgets.calendar import midnight_ms, next_month, zone_of
from wattkeeper.model import grid

HOUR_MS = 3_600_000
MAX_STEPS = 1500
"""Steps of one series: two months of hours, four years of days."""
_ADVICE = (
    "is no period; write 2026, 2026-Q1, 2026-03, 2026-W10, 2026-03-14, today, yesterday, "
    "this-month, last-month or this-year"
)
_YEAR = re.compile(r"\d{4}")
_QUARTER = re.compile(r"(\d{4})-Q([1-4])")
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_WEEK = re.compile(r"(\d{4})-W(\d{2})")


def zone(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA database. Blocks: it may be read from a file.

    Raises:
        ProblemError: there is no such zone.

    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return zone_of(name)
    except ValueError as error:
        detail = f"{name[:80]!r} {error}"
        raise ProblemError(400, "bad-timezone", detail, "timezone") from None


def calendar(text: str, now_ms: int, where: tzinfo) -> tuple[int, int]:
    """Return begin and end of a period in UTC milliseconds, by the calendar of a time zone.

    Raises:
        ProblemError: not a period.

    """
    try:
        first, after = _days(resolve(text, now_ms, where))
        begin_ms, end_ms = midnight_ms(first, where), midnight_ms(after, where)
    except (ValueError, OverflowError):
        raise ProblemError(400, "bad-period", f"{text[:80]!r} {_ADVICE}", "period") from None
    if begin_ms < 0 or end_ms > times.LATEST_MS:
        detail = f"{text[:80]!r} is not between 1970 and 2100, as 2026-03 is"
        raise ProblemError(400, "bad-period", detail, "period")
    return begin_ms, end_ms


def resolve(text: str, now_ms: int, where: tzinfo) -> str:
    """Return `yesterday`, `last-month` and their like as the day, month or year that they mean."""
    today = datetime.fromtimestamp(now_ms / 1000, where).date()
    named = {
        "today": today.isoformat(),
        "yesterday": (today - timedelta(days=1)).isoformat(),
        "this-month": f"{today:%Y-%m}",
        "last-month": f"{today.replace(day=1) - timedelta(days=1):%Y-%m}",
        "this-year": f"{today:%Y}",
    }
    return named.get(text, text)


def _days(text: str) -> tuple[date, date]:
    """Return the first day of a period and the first one after it."""
    if _YEAR.fullmatch(text):
        return date(int(text), 1, 1), date(int(text) + 1, 1, 1)
    if found := _QUARTER.fullmatch(text):
        first = date(int(found[1]), 3 * int(found[2]) - 2, 1)
        return first, next_month(next_month(next_month(first)))
    if found := _MONTH.fullmatch(text):
        first = date(int(found[1]), int(found[2]), 1)
        return first, next_month(first)
    if found := _WEEK.fullmatch(text):
        first = date.fromisocalendar(int(found[1]), int(found[2]), 1)
        return first, first + timedelta(days=7)
    first = date.fromisoformat(text)
    return first, first + timedelta(days=1)


def steps(step: str, since_ms: int, until_ms: int, where: tzinfo, slot_ms: int) -> list[int]:
    """Return the begins of the hours, days or months of a time, the first one at `since_ms`.

    They lie on slot lines: where an hour of the zone does not, at the line before.

    Raises:
        ProblemError: there are more than MAX_STEPS.

    """
    begins = [since_ms]
    for line in _lines(step, since_ms, where):
        at_ms = grid.floor(line, slot_ms)
        if at_ms >= until_ms:
            return begins
        if at_ms > begins[-1]:
            begins.append(at_ms)
        if len(begins) > MAX_STEPS:
            break
    detail = f"a series has at most {MAX_STEPS} steps; choose a longer step or a shorter time"
    raise ProblemError(400, "too-many-steps", detail, "series")


def _lines(step: str, since_ms: int, where: tzinfo) -> Iterator[int]:
    local = datetime.fromtimestamp(since_ms / 1000, where)
    if step == "hour":
        offset_ms = (local.utcoffset() or timedelta()) // timedelta(milliseconds=1)
        at_ms = grid.floor(since_ms + offset_ms, HOUR_MS) - offset_ms
        while True:
            at_ms += HOUR_MS
            yield at_ms
    day = local.date()
    while True:
        day = next_month(day.replace(day=1)) if step == "month" else day + timedelta(days=1)
        yield midnight_ms(day, where)
