"""Intervals by a wall clock: quarter hours as demand is billed, days, months; and when they count.

Every instant lies in exactly one interval of a kind, also where clocks are put forward or back: a
day then has 23 or 25 hours, and a quarter hour never more or less than 15 minutes.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_DAY_MINUTES = 1440


class Period(StrEnum):
    """What the energy of a budget is counted over."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Interval:
    """[start, end) in UTC milliseconds. `counts`: whether the calendar has it."""

    start_ms: int
    end_ms: int
    counts: bool = True

    @property
    def length_ms(self) -> int:
        """How long it is."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Calendar:
    """When something counts, by the clock of a time zone.

    `days`: weekdays, Monday is 0. `from_minute`, `to_minute`: of the day; where `to_minute` is not
    later it goes over midnight, and the hours after it belong to their own date. `holidays`: dates
    that do not count, `2026-12-25` or `12-25` of every year.
    """

    zone: ZoneInfo
    days: frozenset[int] = frozenset(range(7))
    from_minute: int = 0
    to_minute: int = _DAY_MINUTES
    holidays: frozenset[str] = frozenset()

    def counts(self, at_ms: int) -> bool:
        """Tell whether an instant (UTC milliseconds) counts."""
        local = _local(at_ms, self.zone)
        if local.weekday() not in self.days:
            return False
        if {f"{local:%Y-%m-%d}", f"{local:%m-%d}"} & self.holidays:
            return False
        minute = local.hour * 60 + local.minute
        if self.from_minute < self.to_minute:
            return self.from_minute <= minute < self.to_minute
        return minute >= self.from_minute or minute < self.to_minute


def billed_interval(at_ms: int, length_ms: int, calendar: Calendar) -> Interval:
    """Return the interval of an instant, aligned to the local hour; by its start it counts.

    Offsets of zones are whole multiples of 15 minutes, and so are the steps of their clocks: an
    interval of 15 or 30 minutes is never cut.
    """
    offset_ms = _offset_ms(at_ms, calendar.zone)
    start_ms = at_ms - (at_ms + offset_ms) % length_ms
    return Interval(start_ms, start_ms + length_ms, calendar.counts(start_ms))


def period_interval(at_ms: int, period: Period, zone: ZoneInfo) -> Interval:
    """Return the local day or month of an instant."""
    first = _local(at_ms, zone).date()
    if period is Period.DAY:
        following = first + timedelta(days=1)
    else:
        first = first.replace(day=1)
        following = next_month(first)
    return Interval(midnight_ms(first, zone), midnight_ms(following, zone))


def offsets_ms(zone: ZoneInfo, from_year: int, years: int) -> set[int]:
    """Return every offset from UTC that a zone has in some years, as seen once a week."""
    begin = datetime(from_year, 1, 1, tzinfo=UTC)
    weeks = (begin + timedelta(weeks=week) for week in range(years * 53))
    return {_offset_ms(round(at.timestamp() * 1000), zone) for at in weeks}


def _local(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone)


def _offset_ms(at_ms: int, zone: ZoneInfo) -> int:
    offset = _local(at_ms, zone).utcoffset() or timedelta()
    return offset // timedelta(milliseconds=1)


def next_month(first: date) -> date:
    """Return the first day of the month after that of a first day."""
    return (first + timedelta(days=31)).replace(day=1)


def midnight_ms(day: date, zone: tzinfo) -> int:
    """Return the first instant of a date; where its midnight was skipped, that of the skip."""
    return round(datetime.combine(day, time(), zone).timestamp() * 1000)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database. Blocks: it may be read from a file.

    Raises:
        ValueError: there is none of that name.

    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone; write one like Europe/Berlin or UTC") from None


def minute_of(text: str) -> int:
    """Return the minute of the day of `07:00`; `24:00` is its end.

    Raises:
        ValueError: no time of the day.

    """
    hours, colon, minutes = text.strip().partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2):
        raise ValueError(f"{text!r} is no time of the day; write it like 07:00")
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _DAY_MINUTES:
        raise ValueError(f"{text!r} is no time of the day; write it like 07:00")
    return minute
