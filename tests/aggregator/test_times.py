"""Instants and periods of requests."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.times import parse, period, rfc3339

NOW = 1_800_000_123_456


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-24h", NOW - 86_400_000),
        ("90m", NOW - 5_400_000),
        ("-1.5d", NOW - 129_600_000),
        ("2w", NOW - 1_209_600_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T01:00:00Z", 3_600_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1970-01-01T00:00:00.250Z", 250),
    ],
)
def test_parse(text: str, expected: int) -> None:
    """RFC 3339, dates in UTC, relative times with or without their sign."""
    assert expected == parse(text, NOW, "since")


@given(st.text(max_size=40))
@example("-" + "9" * 400 + "d")
def test_anything_is_a_time_or_a_problem(text: str) -> None:
    """Garbage never gives another error than a problem that names the field."""
    fields = []
    try:
        parse(text, NOW, "until")
    except ProblemError as problem:
        fields.append(problem.field)
    assert fields in ([], ["until"])


@given(st.integers(0, 4_102_444_799_999))
def test_rfc3339_round_trip(at_ms: int) -> None:
    """What is shown can be asked for again."""
    assert at_ms == parse(rfc3339(at_ms), NOW, "since")


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.sampled_from([300_000, 900_000]))
def test_periods_widen_to_slots(since: int, length: int, slot: int) -> None:
    """The answer covers what was asked, in whole slots, less than a slot more at each end."""
    asked = rfc3339(since), rfc3339(since + length)
    low, high = period(*asked, now_ms=NOW, slot_ms=slot, usual_ms=slot)
    assert low <= since < low + slot
    assert high - slot < since + length <= high
    assert (low % slot, high % slot) == (0, 0)
