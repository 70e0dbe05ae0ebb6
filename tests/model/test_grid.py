"""The grid of windows and slots."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.model.grid import DAY_MS, SLOTS_MS, ceil, cells, floor

_AT = st.integers(-(10**13), 10**13)
_STEP = st.sampled_from([1, 1000, 10_000, *SLOTS_MS, DAY_MS])


@given(_AT, _STEP)
def test_an_instant_lies_in_its_cell(at_ms: int, step_ms: int) -> None:
    """Floor and ceiling are the grid lines around it, equal on a line."""
    assert floor(at_ms, step_ms) <= at_ms <= ceil(at_ms, step_ms)
    assert ceil(at_ms, step_ms) - floor(at_ms, step_ms) == (step_ms if at_ms % step_ms else 0)
    assert floor(at_ms, step_ms) % step_ms == 0


@given(_AT, st.integers(1, 10**8), st.sampled_from(SLOTS_MS))
def test_cells_cover_a_stretch_without_overlap(from_ms: int, length: int, step_ms: int) -> None:
    """Consecutive cells whose lengths sum to the stretch, none empty."""
    cut = list(cells(from_ms, from_ms + length, step_ms))
    assert sum(ms for _, ms in cut) == length
    assert [cell for cell, _ in cut] == [
        floor(from_ms, step_ms) + n * step_ms for n in range(len(cut))
    ]
    assert all(0 < ms <= step_ms for _, ms in cut)


@given(_AT, st.integers(0, 10**6), st.sampled_from(SLOTS_MS))
def test_a_backward_stretch_has_one_empty_cell(from_ms: int, back: int, step_ms: int) -> None:
    """A clock that stepped back still has a place to book to."""
    assert list(cells(from_ms, from_ms - back, step_ms)) == [(floor(from_ms, step_ms), 0)]
