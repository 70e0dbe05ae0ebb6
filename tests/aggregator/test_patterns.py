"""Patterns of job ids and of nodes."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.aggregator import job_ids


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("123", ["123"]),
        ("123_4", ["123_4"]),
        ("123_[0-2,7]", ["123_0", "123_1", "123_2", "123_7"]),
        ("100-102", ["100", "101", "102"]),
        ("1, 2,2", ["1", "2"]),
        ("web-5c1f-0", ["web-5c1f-0"]),
        ("", []),
    ],
)
def test_job_ids(pattern: str, expected: list[str]) -> None:
    """Tasks, ranges, lists; a pod's name is no range."""
    assert expected == job_ids.expand(pattern)


@pytest.mark.parametrize("pattern", ["5-1", "1-99999", "1_[3-1]", "1_[,]", "1-900,2000-2900"])
def test_bad_job_ids(pattern: str) -> None:
    """Backward, endless or empty: an error, never a silent nothing."""
    with pytest.raises(ValueError, match=r"backward|more than|no task"):
        job_ids.expand(pattern)


@given(st.text(alphabet="0123456789_[]-, ab", max_size=20))
def test_job_ids_never_explode(pattern: str) -> None:
    """Any text gives at most LIMIT ids, or a ValueError."""
    with contextlib.suppress(ValueError):
        assert len(job_ids.expand(pattern)) <= job_ids.LIMIT
