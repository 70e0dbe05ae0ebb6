"""Durations and addresses as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.values import (
    format_duration,
    host_of,
    host_port,
    milliseconds,
    parse_duration,
    why_not,
)


@given(st.integers(1, 10**12))
def test_durations_round_trip(ms: int) -> None:
    """What is shown can be written."""
    value = timedelta(milliseconds=ms)
    assert ms == milliseconds(parse_duration(format_duration(value)))


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("1.5s", 1500), ("1h30m", 5_400_000), ("7d", 604_800_000)]
)
def test_durations(text: str, ms: int) -> None:
    """Numbers with units, one after the other."""
    assert ms == milliseconds(parse_duration(text))


@pytest.mark.parametrize("text", ["", "10", "10 s", "s", "-5s", "5x", "5m3", "1e3s", "ms"])
def test_no_durations(text: str) -> None:
    """A number without its unit is no duration: seconds or milliseconds? Nobody knows."""
    with pytest.raises(ValueError, match="number and its unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9746", ("127.0.0.1", 9746)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("node-1.example:65535", ("node-1.example", 65535)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """Host and port; an empty host is every interface."""
    assert expected == host_port(text)


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1:80", "h:٣"])
def test_no_addresses(text: str) -> None:
    """Each is an error that shows how one looks."""
    with pytest.raises(ValueError, match="is not an address"):
        host_port(text)


def test_what_is_told_of_an_address() -> None:
    """Scheme, host and port; nothing in which a secret may stand, in an error's words either."""
    url = "https://ann:s3cret@hooks.example:8443/s3cret?key=s3cret"
    assert host_of(url) == "https://hooks.example:8443"
    assert why_not(ValueError(f"{url} is odd"), url) == "https://hooks.example:8443 is odd"
    assert why_not(TimeoutError(), url) == "no answer in time"
