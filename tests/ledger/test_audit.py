"""The audit log in the ledger, on both databases."""

from tests.ledger.books import T0

from wattkeeper.ledger.audit import Entry, append, changed, entries, expire, rename
from wattkeeper.ledger.store import Ledger


def entry(at_ms: int, what: str = "", act: str = "job") -> Entry:
    """Return an entry of an operator."""
    return Entry(at_ms, "ann", "operator", "10.0.0.1", act, what, "200")


def test_entries_come_back_and_go_when_they_are_old(ledger: Ledger) -> None:
    """The newest first, at most so many, of one kind."""
    append(ledger, [entry(T0), entry(T0 + 1, act="report"), entry(T0 + 2, "x\0y")])
    found = entries(ledger, T0, T0 + 10, {}, 2)
    assert found == [entry(T0 + 2, found[0].what), entry(T0 + 1, act="report")]
    assert entries(ledger, T0, T0 + 2, {"act": "job"}, 9) == [entry(T0)]
    expire(ledger, T0 + 2)
    assert len(entries(ledger, 0, T0 + 10, {}, 9)) == 1


def test_a_name_is_replaced_in_what_was_asked(ledger: Ledger) -> None:
    """As a word of its own, and nowhere else."""
    append(ledger, [entry(T0, "user=ines by=name"), entry(T0, "user=inesita"), entry(T0, "c/7")])
    with ledger.writing() as connection:
        rename(connection, "ines", "person~1")
    whats = {one.what for one in entries(ledger, T0, T0 + 1, {}, 9)}
    assert whats == {"user=person~1 by=name", "user=inesita", "c/7"}


def test_what_is_configured_is_compared(ledger: Ledger) -> None:
    """With what it was; what is the same is no news."""
    assert [one.what for one in changed(ledger, {"a": "1", "b": "2"}, T0)] == [
        "a: unset -> 1",
        "b: unset -> 2",
    ]
    assert changed(ledger, {"b": "2", "a": "1"}, T0) == []
    assert [one.what for one in changed(ledger, {"b": "3"}, T0)] == ["a: 1 -> unset", "b: 2 -> 3"]
    assert len(entries(ledger, T0, T0 + 1, {"act": "configuration"}, 9)) == 4
