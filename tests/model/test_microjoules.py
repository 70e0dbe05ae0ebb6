"""Splitting whole microjoules: nothing lost, nothing negative, nearly proportional."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.model.microjoules import share, spread

_TOTALS = st.integers(0, 10**23)
_WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=20).filter(any)


@given(_TOTALS, _WEIGHTS)
def test_share_is_exact_and_within_one_microjoule(total: int, weights: list[int]) -> None:
    """The parts sum to the total; each is next to its exact value; nothing for no weight."""
    parts = share(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        exact = Fraction(total * weight, sum(weights))
        assert abs(part - exact) < 1
        assert part >= 0
        assert part == 0 or weight > 0


@given(_TOTALS, _WEIGHTS)
def test_share_gives_more_weight_no_less(total: int, weights: list[int]) -> None:
    """A larger weight never gets less, and the answer does not change."""
    parts = share(total, weights)
    ranked = sorted(zip(weights, parts, strict=True))
    for (w, a), (v, b) in pairwise(ranked):
        assert w == v or a <= b
    assert parts == share(total, weights)


@pytest.mark.parametrize(("total", "weights"), [(1, []), (1, [0, 0]), (-1, [1]), (1, [2, -1])])
def test_share_refuses_what_cannot_be_split(total: int, weights: list[int]) -> None:
    """No weight, or something negative, is an error that shows what was asked."""
    with pytest.raises(ValueError, match="cannot split"):
        share(total, weights)


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=12), _WEIGHTS)
def test_spread_keeps_both_margins(rows: list[int], weights: list[int]) -> None:
    """Rows keep their sums, columns are those of the total, cells are near their exact value."""
    cells = spread(rows, weights)
    assert [sum(row) for row in cells] == rows
    assert [sum(column) for column in zip(*cells, strict=True)] == share(sum(rows), weights)
    for row, parts in zip(rows, cells, strict=True):
        for part, weight in zip(parts, weights, strict=True):
            assert part >= 0
            assert abs(part - Fraction(row * weight, sum(weights))) <= len(weights) + len(rows)


@given(st.integers(0, 10**15), _WEIGHTS)
def test_spread_of_one_row_is_share(total: int, weights: list[int]) -> None:
    """A point and a window of one holder agree in every slot."""
    assert spread([total], weights) == [share(total, weights)]
