"""The history of breaches on both databases."""

from wattkeeper.ledger import breaches
from wattkeeper.ledger.breaches import Told
from wattkeeper.ledger.store import Ledger


def test_a_breach_from_its_start_to_its_end(ledger: Ledger) -> None:
    """Reached, worse, told, left, told; then it is history."""
    first = breaches.reach(ledger, "site", "hard", 1000, 1.01, 0.5, "{}")
    second = breaches.reach(ledger, "site", "warn", 1000, 0.95, None, "")
    assert breaches.reached_now(ledger) == [first, second]
    breaches.worsen(ledger, first.id, 1.25, 1.0, '{"a": 1}')
    breaches.tell(ledger, [first.id], Told.REACHED)
    breaches.leave(ledger, [first.id], 5000)
    assert breaches.reached_now(ledger) == [second]
    (left,) = breaches.untold(ledger, 5000)
    assert (left.id, left.worst, left.coverage, left.detail, left.to_ms, left.told) == (
        first.id, 1.25, 1.0, '{"a": 1}', 5000, Told.REACHED,
    )  # fmt: skip
    assert breaches.untold(ledger, 5001) == []
    breaches.tell(ledger, [first.id], Told.LEFT)
    assert breaches.untold(ledger, 0) == []
    assert {"site": [second, breaches.history(ledger, ["site"], 5)["site"][1]]} == (
        breaches.history(ledger, ["site", "other"], 5)
    )
    assert [second] == breaches.history(ledger, ["site"], 1)["site"]


def test_states_are_replaced(ledger: Ledger) -> None:
    """In the order in which they were given; those that are gone are not there."""
    breaches.put_states(ledger, {"b": "1", "a": "2"}, 10)
    assert ["1", "2"] == breaches.states(ledger)
    breaches.put_states(ledger, {"a": "3"}, 20)
    assert ["3"] == breaches.states(ledger)
