"""Periods of a calendar, in the time zones that people live in."""

from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattkeeper.aggregator.periods import MAX_STEPS, calendar, steps, zone
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.times import LATEST_MS, parse, rfc3339

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")
SANTIAGO = ZoneInfo("America/Santiago")
NOW = parse("2026-03-29T22:30:00Z", 0, "now")
"""Monday in Berlin already; clocks went forward there that night."""
SLOT = 900_000


@pytest.mark.parametrize(
    ("text", "where", "begin", "end"),
    [
        ("2026", UTC, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-Q4", UTC, "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-03", BERLIN, "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        ("2024-02", UTC, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2026-12", KOLKATA, "2026-11-30T18:30:00Z", "2026-12-31T18:30:00Z"),
        ("2026-W01", UTC, "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"),
        ("2026-03-29", BERLIN, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("today", BERLIN, "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"),
        ("today", UTC, "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
        ("yesterday", BERLIN, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("this-month", UTC, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
        ("last-month", UTC, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("this-year", UTC, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        # Clocks skip midnight there: the day begins at 1 o'clock.
        (
            "2026-09-06",
            ZoneInfo("America/Santiago"),
            "2026-09-06T04:00:00Z",
            "2026-09-07T03:00:00Z",
        ),
    ],
)
def test_periods(text: str, where: tzinfo, begin: str, end: str) -> None:
    """Begin and end are local midnights; the day on which clocks change has 23 hours."""
    assert (begin, end) == tuple(map(rfc3339, calendar(text, NOW, where)))


ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Tokyo"), ZoneInfo("Etc/GMT+12")])


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{4}(-W?[0-9]{2})?", fullmatch=True), ZONES)
@example("9999", UTC)
@example("2026-W54", UTC)
@example("2026-13", UTC)
@example("0000-01", UTC)
@example("0001", ZoneInfo("Asia/Tokyo"))
@example("1970", ZoneInfo("Asia/Tokyo"))
def test_anything_is_a_period_or_a_problem(text: str, where: tzinfo) -> None:
    """The problem shows how one looks; a period is between 1970 and 2100."""
    said = []
    try:
        begin, end = calendar(text, NOW, where)
    except ProblemError as problem:
        said.append(problem.detail)
        begin, end = 0, 1
    assert 0 <= begin < end <= LATEST_MS
    assert all("2026-03" in detail for detail in said)


@given(st.integers(1971, 2090), st.integers(1, 12), st.sampled_from([UTC, BERLIN, KOLKATA]))
def test_months_neither_overlap_nor_leave_a_hole(year: int, month: int, where: tzinfo) -> None:
    """One ends when the next begins, and a year is its twelve months."""
    _, end = calendar(f"{year}-{month:02}", NOW, where)
    later = f"{year + month // 12}-{month % 12 + 1:02}"
    assert end == calendar(later, NOW, where)[0]


@pytest.mark.parametrize("where", [UTC, BERLIN, KOLKATA])
@pytest.mark.parametrize(("step", "count"), [("hour", 743), ("day", 31), ("month", 1)])
def test_steps_of_a_month(step: str, count: int, where: tzinfo) -> None:
    """Local hours, days and months, on slot lines; March has an hour less in Berlin."""
    since, until = calendar("2026-03", NOW, where)
    found = steps(step, since, until, where, SLOT)
    assert since == found[0]
    assert count + (step == "hour" and where is not BERLIN) == len(found)
    assert all(a < b < until and b % SLOT == 0 for a, b in pairwise(found))
    if step == "day":
        assert {0} == {datetime.fromtimestamp(at / 1000, where).hour for at in found}


def test_half_an_hour_off_with_slots_of_an_hour() -> None:
    """Where local hours are no slot lines, the line before counts."""
    since = parse("2026-03-01", NOW, "since")
    found = steps("day", since, since + 3 * 86_400_000, KOLKATA, 3_600_000)
    assert ["2026-03-01T00:00:00Z", "2026-03-01T18:00:00Z", "2026-03-02T18:00:00Z",
            "2026-03-03T18:00:00Z"] == [rfc3339(at) for at in found]  # fmt: skip


def test_too_many_steps() -> None:
    """A series is bounded."""
    with pytest.raises(ProblemError, match="longer step"):
        steps("hour", 0, (MAX_STEPS + 1) * 3_600_000, UTC, SLOT)
    assert MAX_STEPS == len(steps("hour", 0, MAX_STEPS * 3_600_000, UTC, SLOT))


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "", "Europe", "\0"]
)
def test_no_such_time_zone(name: str) -> None:
    """Nothing but zones is read."""
    with pytest.raises(ProblemError, match="Europe/Berlin"):
        zone(name)


def test_times_without_a_zone_are_local() -> None:
    """If a zone was named."""
    for text in ("2026-03-30", "2026-03-30T00:00:00"):
        assert "2026-03-29T22:00:00Z" == rfc3339(parse(text, NOW, "since", BERLIN))
    assert "2026-03-30T00:00:00Z" == rfc3339(parse("2026-03-30T00:00Z", NOW, "since", BERLIN))
