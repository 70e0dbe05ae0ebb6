"""Statements are kept as they were written, one after the other."""

import pytest

from wattkeeper.ledger.statements import (
    ClosedMeanwhileError,
    Statement,
    append,
    broken_links,
    canonical,
    statements,
)
from wattkeeper.ledger.store import Ledger


def make(ledger: Ledger, after: Statement | None, period: str) -> Statement:
    """Append a statement."""
    number, previous = (after.number + 1, after.hash) if after else (1, None)
    body = {"number": number, "period": period, "previous": previous, "account": "Pässe ✓"}
    return append(ledger, after, body, (number, number + 1, number + 2))


def test_a_chain(ledger: Ledger) -> None:
    """Each holds the hash of the one before; what is read is what was written."""
    first = make(ledger, None, "a")
    second = make(ledger, first, "b")
    assert statements(ledger) == [first, second]
    assert (first.hash, set()) == (second.previous, broken_links([first, second]))
    assert broken_links([second]) == {2}
    assert first.body.startswith('{"account":"Pässe ✓","number":1,')


def test_only_one_follows_another(ledger: Ledger) -> None:
    """Of two aggregators that close at once, one is told to try again."""
    first = make(ledger, None, "a")
    make(ledger, first, "b")
    for after in (None, first):
        with pytest.raises(ClosedMeanwhileError):
            make(ledger, after, "c")
    assert [1, 2] == [one.number for one in statements(ledger)]


def test_one_text_for_a_body() -> None:
    """Whatever the order in which it was put together."""
    assert canonical({"b": [1, None], "a": "ü"}) == '{"a":"ü","b":[1,null]}'
