"""Valuing energy: exact, additive, and honest about what was guessed."""

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.factors.series import Series, Value, constant
from wattkeeper.factors.units import RATE, decimal_text, price_unit, rate_text
from wattkeeper.factors.weights import apportion, value
from wattkeeper.model.microjoules import UJ_PER_KWH

SLOT = 900_000
SLOTS = 12

RATES = st.integers(-10 * RATE, 10 * RATE)
VALUES = st.lists(
    st.builds(Value, st.integers(0, SLOTS * SLOT), RATES, st.booleans()), min_size=1, max_size=12
)
SERIES = st.builds(
    Series.of,
    VALUES,
    holds_ms=st.none() | st.integers(1, 3 * SLOT),
    fallback=st.none() | RATES,
)
ENERGIES = st.dictionaries(
    st.integers(0, SLOTS - 1).map(lambda n: n * SLOT), st.integers(0, 10**15), max_size=SLOTS
)


def in_force(series: Series, at_ms: int) -> tuple[int, bool]:
    """Return the rate at an instant, and whether it is estimated, by the definition."""
    earlier = [value for value in series.values if value.at_ms <= at_ms]
    last = earlier[-1] if earlier else None
    if last and (series.holds_ms is None or at_ms < last.at_ms + series.holds_ms):
        return last.rate, last.estimated
    if series.fallback is not None:
        return series.fallback, True
    return (last or series.values[0]).rate, True


@given(SERIES, st.integers(0, SLOTS * SLOT), st.integers(1, SLOTS * SLOT))
def test_pieces_cover_a_time_without_a_hole(series: Series, since: int, length: int) -> None:
    """End to end, each with the rate that is in force at its begin and just before its end."""
    pieces = series.pieces(since, since + length)
    assert [since, *(piece.to_ms for piece in pieces[:-1])] == [p.from_ms for p in pieces]
    assert since + length == pieces[-1].to_ms
    for piece in pieces:
        for at_ms in (piece.from_ms, piece.to_ms - 1):
            assert in_force(series, at_ms) == (piece.rate, piece.estimated)


@given(SERIES, SERIES, ENERGIES)
def test_a_slot_weighs_its_mean_by_time(price: Series, pue: Series, energy: dict[int, int]) -> None:
    """Cost is energy times the mean of price and PUE over each slot, exactly."""
    own = value(price, None, pue, since_ms=0, until_ms=SLOTS * SLOT, slot_ms=SLOT)
    expected, guessed = Fraction(0), 0
    for slot, uj in energy.items():
        cuts = {slot, slot + SLOT}
        for series in (price, pue):
            cuts |= {p.from_ms for p in series.pieces(slot, slot + SLOT)}
        lines = sorted(cuts)
        for begin, end in pairwise(lines):
            (paid, one), (part, other) = in_force(price, begin), in_force(pue, begin)
            expected += Fraction(uj * (end - begin) * paid * part, SLOT * RATE * RATE * UJ_PER_KWH)
            guessed += uj * (end - begin) * (one or other)
    found = own.amount(energy)
    assert found.cost is not None
    assert expected == Fraction(found.cost, own.per_money * 10**6)
    assert (found.cost_guessed, found.carbon) == (guessed, None)


@given(SERIES, ENERGIES, st.integers(1, SLOTS - 1))
def test_amounts_add_up_over_any_split(series: Series, energy: dict[int, int], split: int) -> None:
    """Of two parts of a time, each valued by itself, to the last digit."""
    line = split * SLOT
    whole = value(series, series, None, since_ms=0, until_ms=SLOTS * SLOT, slot_ms=SLOT)
    first = value(series, series, None, since_ms=0, until_ms=line, slot_ms=SLOT)
    second = value(series, series, None, since_ms=line, until_ms=SLOTS * SLOT, slot_ms=SLOT)
    parts = (
        first.amount({at: uj for at, uj in energy.items() if at < line}),
        second.amount({at: uj for at, uj in energy.items() if at >= line}),
    )
    found = whole.amount(energy)
    assert found.cost == found.carbon == sum(part.cost or 0 for part in parts)
    assert found.cost_guessed == sum(part.cost_guessed for part in parts)


@given(st.lists(st.integers(-(10**20), 10**20), max_size=20), st.integers(1, 10**12))
def test_rounded_rows_add_up_to_the_rounded_whole(numerators: list[int], denominator: int) -> None:
    """Each within one unit of its exact value."""
    parts = apportion(numerators, denominator)
    whole = Fraction(sum(numerators), denominator)
    assert abs(sum(parts) - whole) <= Fraction(1, 2)
    for part, numerator in zip(parts, numerators, strict=True):
        assert abs(part - Fraction(numerator, denominator)) < 1


def test_constants_weigh_a_year_as_one_run() -> None:
    """Nothing is walked slot by slot where nothing changes."""
    year = 366 * 96 * SLOT
    own = value(constant(5), constant(7), None, since_ms=0, until_ms=year, slot_ms=SLOT)
    assert [(0, year)] == [(run.from_ms, run.to_ms) for run in own.runs]


def test_what_is_not_known_is_none() -> None:
    """No price, or a PUE that has no value yet: no cost, never 0."""
    nothing = Series(())
    for price, pue in ((None, None), (nothing, None), (constant(5), nothing)):
        own = value(price, None, pue, since_ms=0, until_ms=SLOT, slot_ms=SLOT)
        assert own.amount({0: 10}).cost is None


def test_a_price_as_people_know_it() -> None:
    """10 kWh at 0.2147 EUR, bought as 214.70 EUR/MWh."""
    unit = price_unit("EUR/MWh")
    rate = unit.rate(Decimal("214.70"))
    assert ("EUR/kWh", "0.2147") == (unit.base, rate_text(rate))
    own = value(constant(rate), None, None, since_ms=0, until_ms=SLOT, slot_ms=SLOT)
    cost = own.amount({0: 10 * UJ_PER_KWH}).cost
    assert cost is not None
    assert "2.147000" == decimal_text(apportion([cost], own.per_money)[0], 6)
    assert "-0.000001" == decimal_text(-1, 6)
