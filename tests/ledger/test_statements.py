"""Statements are kept as they were written, one after the other."""

from dataclasses import replace
from typing import Any

import pytest

from wattkeeper.aggregator.times import rfc3339
from wattkeeper.ledger.statements import (
    ClosedMeanwhileError,
    Statement,
    append,
    broken_links,
    canonical,
    digest,
    statements,
)
from wattkeeper.ledger.store import Ledger


def make(ledger: Ledger, after: Statement | None, period: str) -> Statement:
    """Append a statement."""
    number, previous = (after.number + 1, after.hash) if after else (1, None)
    body = {"number": number, "period": period, "previous": previous, "account": "Pässe ✓"}
    at_ms = number * 3_600_000
    times = (at_ms, at_ms + 1, at_ms + 1000)
    told = dict(zip(("since", "until", "closed"), map(rfc3339, times), strict=True))
    return append(ledger, after, body | told, times)


def test_a_chain(ledger: Ledger) -> None:
    """Each holds the hash of the one before; what is read is what was written."""
    first = make(ledger, None, "a")
    second = make(ledger, first, "b")
    assert statements(ledger) == [first, second]
    assert (first.hash, set()) == (second.previous, broken_links([first, second]))
    assert broken_links([second]) == {2}
    assert first.body.startswith('{"account":"Pässe ✓","closed":"1970')


def test_only_one_follows_another(ledger: Ledger) -> None:
    """Of two aggregators that close at once, one is told to try again."""
    first = make(ledger, None, "a")
    make(ledger, first, "b")
    for after in (None, first):
        with pytest.raises(ClosedMeanwhileError):
            make(ledger, after, "c")
    assert [1, 2] == [one.number for one in statements(ledger)]


@pytest.mark.parametrize(
    "column",
    ["number", "period", "since_ms", "until_ms", "closed_ms", "previous", "hash"],
)
def test_a_row_says_what_its_body_says(ledger: Ledger, column: str) -> None:
    """Whatever column of it is changed by hand, it is seen."""
    one = make(ledger, None, "a")
    was = getattr(one, column)
    other: Any = was + 1 if isinstance(was, int) else was + "0"
    changed = replace(one, **{column: other})
    assert (True, False) == (one.intact, changed.intact)


@pytest.mark.parametrize("since", [None, 5, "soon", "1970-01-01T01:00:01Z"])
def test_a_body_without_its_times(since: object) -> None:
    """Is not intact, whatever stands there."""
    told = {"number": 1, "period": "a", "previous": None, "since": since}
    text = canonical(told | {"until": "1970-01-01T02:00:00Z", "closed": "1970-01-01T02:00:00Z"})
    hour = 3_600_000
    assert not Statement(1, "a", hour, 2 * hour, 2 * hour, "", digest(text), text).intact


def test_one_text_for_a_body() -> None:
    """Whatever the order in which it was put together."""
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'
