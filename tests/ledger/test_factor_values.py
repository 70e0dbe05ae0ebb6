"""What was fetched of a factor is kept, and stays what it was."""

from wattkeeper.ledger.factor_values import FactorValue, keep_factor, kept_factor
from wattkeeper.ledger.store import Ledger

HOUR = 3_600_000


def kept(ledger: Ledger, since: int, until: int) -> list[tuple[int, int, bool]]:
    """Return what is kept of a time, without its source."""
    return [value[:3] for value in kept_factor(ledger, "carbon", "g/kWh", since, until)]


def test_an_estimate_is_replaced_by_a_measured_value_only(ledger: Ledger) -> None:
    """Computing again uses the same values; what was told as measured never changes."""
    first = [FactorValue(0, 100, True, "a"), FactorValue(HOUR, 200, False, "a")]
    assert 2 == keep_factor(ledger, "carbon", "g/kWh", first, 1)
    again = [FactorValue(0, 110, True, "b"), FactorValue(HOUR, 210, False, "b")]
    assert 0 == keep_factor(ledger, "carbon", "g/kWh", again, 2)
    measured = [FactorValue(0, 120, False, "b"), FactorValue(2 * HOUR, 300, True, "b")]
    assert 2 == keep_factor(ledger, "carbon", "g/kWh", measured, 3)
    assert 0 == keep_factor(ledger, "carbon", "g/kWh", [], 4)
    expected = [(0, 120, False), (HOUR, 200, False), (2 * HOUR, 300, True)]
    assert expected == kept(ledger, 0, 3 * HOUR)


def test_what_is_known_of_a_time(ledger: Ledger) -> None:
    """The value before its begin comes with it, or the first one after it; of its unit alone."""
    assert [] == kept(ledger, 0, HOUR)
    values = [FactorValue(hour * HOUR, hour, False, "a") for hour in (2, 4, 6)]
    keep_factor(ledger, "carbon", "g/kWh", values, 1)
    keep_factor(ledger, "carbon", "USD/kWh", [FactorValue(3 * HOUR, 9, False, "a")], 1)
    keep_factor(ledger, "price", "g/kWh", [FactorValue(3 * HOUR, 9, False, "a")], 1)
    assert [2, 4] == [at // HOUR for at, _, _ in kept(ledger, 3 * HOUR, 5 * HOUR)]
    assert [6] == [at // HOUR for at, _, _ in kept(ledger, 9 * HOUR, 10 * HOUR)]
    assert [2] == [at // HOUR for at, _, _ in kept(ledger, 0, HOUR)]
