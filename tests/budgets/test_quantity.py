"""Power and energy as people write them."""

import pytest

from wattkeeper.budgets.quantity import energy_uj, power_mw


@pytest.mark.parametrize(
    ("text", "mw"), [("400W", 400_000), ("1.2 MW", 1_200_000_000), (" 0.001kW ", 1000)]
)
def test_power(text: str, mw: int) -> None:
    """With its unit."""
    assert power_mw(text) == mw


@pytest.mark.parametrize(
    ("text", "uj"), [("1kWh", 36 * 10**11), ("40MWh", 144 * 10**15), ("3.6MJ", 36 * 10**11)]
)
def test_energy(text: str, uj: int) -> None:
    """Exact, also beyond what a float can hold."""
    assert energy_uj(text) == uj


@pytest.mark.parametrize("text", ["400", "kW", "-1kW", "1 kw", "4kWh", "1e3W", ""])
def test_no_power(text: str) -> None:
    """Says how one looks."""
    with pytest.raises(ValueError, match="write a number and its unit"):
        power_mw(text)


def test_nothing() -> None:
    """No limit at all is a mistake."""
    with pytest.raises(ValueError, match="more than nothing"):
        power_mw("0kW")
