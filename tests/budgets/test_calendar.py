"""Every instant lies in one interval, across all changes of clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattkeeper.budgets.calendar import (
    Calendar,
    Interval,
    Period,
    billed_interval,
    minute_of,
    offsets_ms,
    period_interval,
)

BEGIN_MS = round(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000)
END_MS = round(datetime(2037, 1, 1, tzinfo=UTC).timestamp() * 1000)
QUARTER = 900_000
ZONES = st.sampled_from(
    sorted(zone for zone in available_timezones() if zone not in {"localtime", "Factory"})
)
INSTANTS = st.integers(BEGIN_MS, END_MS)
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN) -> int:
    """Return UTC milliseconds of a local time."""
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


@given(ZONES, INSTANTS, st.sampled_from([QUARTER, 2 * QUARTER]))
def test_every_instant_is_in_one_billed_interval(zone: str, at_ms: int, length_ms: int) -> None:
    """Of its full length, on the marks of the local clock, and its neighbours touch it."""
    calendar = Calendar(ZoneInfo(zone))
    found = billed_interval(at_ms, length_ms, calendar)
    assert found.start_ms <= at_ms < found.end_ms
    assert found.length_ms == length_ms
    for inside_ms in (found.start_ms, found.end_ms - 1):
        assert billed_interval(inside_ms, length_ms, calendar) == found
    assert billed_interval(found.start_ms - 1, length_ms, calendar).end_ms == found.start_ms
    assert billed_interval(found.end_ms, length_ms, calendar).start_ms == found.end_ms
    local = datetime.fromtimestamp(found.start_ms / 1000, ZoneInfo(zone))
    assert (local.minute % (length_ms // 60_000), local.second) == (0, 0)


@given(ZONES, INSTANTS, st.sampled_from(Period))
@example("America/Havana", at("2026-03-08T00:30", ZoneInfo("America/Havana")), Period.DAY)
@example("Asia/Beirut", at("2026-03-29T00:30", ZoneInfo("Asia/Beirut")), Period.DAY)
def test_every_instant_is_in_one_period(zone: str, at_ms: int, period: Period) -> None:
    """Which begins where the one before ends; its billed intervals add up to it."""
    local = ZoneInfo(zone)
    found = period_interval(at_ms, period, local)
    assert found.start_ms <= at_ms < found.end_ms
    assert period_interval(found.start_ms, period, local) == found
    assert period_interval(found.end_ms - 1, period, local) == found
    assert period_interval(found.end_ms, period, local).start_ms == found.end_ms
    if period is Period.DAY:
        calendar, total, next_ms = Calendar(local), 0, found.start_ms
        while next_ms < found.end_ms:
            one = billed_interval(next_ms, QUARTER, calendar)
            assert one.start_ms == next_ms
            total, next_ms = total + one.length_ms, one.end_ms
        assert total == found.length_ms


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)]
)
def test_days_around_a_change_of_the_clock(day: str, hours: int) -> None:
    """In Berlin."""
    found = period_interval(at(f"{day}T12:00"), Period.DAY, BERLIN)
    assert found == Interval(at(f"{day}T00:00"), at(f"{day}T00:00") + hours * 3_600_000)


def test_the_hour_that_comes_twice() -> None:
    """Both are of their own, and count alike."""
    first = billed_interval(at("2026-10-25T02:20"), QUARTER, Calendar(BERLIN))
    second = billed_interval(at("2026-10-25T02:20") + 3_600_000, QUARTER, Calendar(BERLIN))
    assert second.start_ms - first.start_ms == 3_600_000


WEEKDAYS = Calendar(BERLIN, frozenset(range(5)), 420, 1200, frozenset({"12-25", "2026-05-01"}))
NIGHTS = Calendar(BERLIN, from_minute=1320, to_minute=360)


@pytest.mark.parametrize(
    ("calendar", "when", "counts"),
    [
        (WEEKDAYS, "2026-11-27T07:00", True),
        (WEEKDAYS, "2026-11-27T06:59", False),
        (WEEKDAYS, "2026-11-27T19:59", True),
        (WEEKDAYS, "2026-11-27T20:00", False),
        (WEEKDAYS, "2026-11-28T12:00", False),
        (WEEKDAYS, "2026-12-25T12:00", False),
        (WEEKDAYS, "2026-05-01T12:00", False),
        (WEEKDAYS, "2025-05-01T12:00", True),
        (NIGHTS, "2026-11-27T23:00", True),
        (NIGHTS, "2026-11-27T05:59", True),
        (NIGHTS, "2026-11-27T06:00", False),
    ],
)
def test_what_counts(calendar: Calendar, when: str, counts: bool) -> None:
    """Weekdays, hours (also over midnight) and holidays, by the local clock."""
    assert calendar.counts(at(when)) is counts
    assert billed_interval(at(when), QUARTER, calendar).counts is (
        calendar.counts(at(when) - at(when) % QUARTER)
    )


@given(INSTANTS)
def test_a_week_of_office_hours(at_ms: int) -> None:
    """Five days of thirteen hours count, whatever the clock does meanwhile."""
    monday = datetime.fromtimestamp(at_ms / 1000, BERLIN).date()
    monday -= timedelta(days=monday.weekday())
    begin, end = at(f"{monday}T00:00"), at(f"{monday + timedelta(days=7)}T00:00")
    office = Calendar(BERLIN, frozenset(range(5)), 420, 1200)
    counted = sum(
        billed_interval(one, QUARTER, office).counts for one in range(begin, end, QUARTER)
    )
    assert counted == 5 * 13 * 4


def test_offsets() -> None:
    """Of summer and winter, also odd ones."""
    assert offsets_ms(BERLIN, 2026, 1) == {3_600_000, 7_200_000}
    assert offsets_ms(ZoneInfo("Asia/Kathmandu"), 2026, 1) == {20_700_000}


@pytest.mark.parametrize("text", ["7", "7:5", "24:01", "25:00", "aa:bb", "-1:00", "07:60"])
def test_no_time_of_the_day(text: str) -> None:
    """Says how one looks."""
    with pytest.raises(ValueError, match="write it like 07:00"):
        minute_of(text)
