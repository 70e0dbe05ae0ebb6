"""Forecasts: their arithmetic, and how far off they are on a simulated fleet."""

import pytest
from benchmarks.forecast import DAY, demand, period, power
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.budgets.forecast import LEAST_ERRORS, Trail, errors_of, forecast

MINUTE = 60_000
VALUES = st.lists(st.floats(0, 1e6), max_size=60)


@given(st.floats(0, 1e15), st.integers(0, 10**8), st.floats(0, 1e6), VALUES)
def test_what_is_used_stays_used(used: float, rest: int, watts: float, errors: list[float]) -> None:
    """The band holds the forecast, and never goes below what is used already."""
    found = forecast(used, rest, watts, [one - 5e5 for one in errors], "how")
    assert found.uj >= used
    if found.low_uj is None or found.high_uj is None:
        assert len(errors) < LEAST_ERRORS
    else:
        assert used <= found.low_uj <= found.uj <= found.high_uj


@given(VALUES, st.integers(1, 8), st.integers(1, 8))
def test_errors_of_a_method(values: list[float], window: int, horizon: int) -> None:
    """One for each place in the past at which both lie in what is remembered."""
    found = errors_of(values, window, horizon)
    assert len(found) == max(0, len(values) - window - horizon + 1)
    for at, error in enumerate(found, start=window):
        ahead, before = values[at : at + horizon], values[at - window : at]
        expected = sum(ahead) / horizon - sum(before) / window
        assert error == pytest.approx(expected, abs=1e-3)


def test_a_trail() -> None:
    """Means of steps; short gaps are filled, long ones begin anew; the last minute is lately."""
    trail = Trail()
    assert trail.lately() is None
    for at, watts in ((0, 100), (4_000, 200), (10_000, 300), (35_000, 600)):
        trail.add(at, watts)
    assert trail.values() == [150, 300, 600, 600]
    assert trail.lately() == 412.5
    trail.add(10 * MINUTE, 50)
    assert trail.values() == [50]
    for step in range(10_000):
        trail.add(11 * MINUTE + step * 10_000, step)
    assert (len(trail.values()), trail.lately()) == (2880, 9996.5)


@pytest.mark.parametrize(("minutes", "p95"), [(15, (0.06, 0.04, 0.02)), (30, (0.08, 0.05, 0.03))])
def test_demand_of_a_simulated_fleet(minutes: int, p95: tuple[float, ...]) -> None:
    """Of 16 GPUs, over a week: 95 of 100 forecasts are that close, and the band holds most."""
    found = demand(power(0, 16, 7), minutes)
    for most, errors in zip(p95, found.values(), strict=True):
        assert errors.quantile(0.95) < most
        assert errors.holds is not None
        assert errors.holds > 0.84


def test_months_of_a_simulated_fleet() -> None:
    """Of four weeks, by the mean of the last seven days; and by a day, which is worse."""
    watts = power(0, 16, 70)
    week, day = period(watts, 28, 7, 28), period(watts, 28, 1, 28)
    for fraction, most in ((0.25, 0.08), (0.5, 0.06), (0.75, 0.04)):
        assert week[fraction].quantile(0.95) < most
    assert week[0.25].quantile(0.95) < day[0.25].quantile(0.95)
    assert len(watts) == 70 * DAY
