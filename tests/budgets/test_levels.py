"""Levels are reached and left once, not at every flicker."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.budgets.levels import Hysteresis, Latch

HYSTERESIS = Hysteresis(raise_after_ms=20, clear_after_ms=50, clear_at=0.9)
IN_BAND = st.floats(0.9, 1.0, exclude_max=True)
ANY = st.none() | st.floats(0, 3)


@given(st.lists(IN_BAND), st.booleans())
def test_nothing_changes_inside_of_the_band(ratios: list[float], reached: bool) -> None:
    """However it swings there."""
    latch = Latch(1.0, HYSTERESIS, 0 if reached else None)
    assert not any(latch.see(one, one, at * 1000) for at, one in enumerate(ratios))


@given(st.lists(st.tuples(ANY, st.integers(0, 40))))
def test_a_change_has_lasted(seen: list[tuple[float | None, int]]) -> None:
    """A level is reached or left when what speaks for it has been seen without a break."""
    latch = Latch(1.0, HYSTERESIS)
    now, agreed_since = 0, None
    for ratio, pause in seen:
        now += pause
        reached = latch.since_ms is not None
        speaks = ratio is not None and (ratio < 0.9 if reached else ratio >= 1.0)
        agreed_since = (now if agreed_since is None else agreed_since) if speaks else None
        due = agreed_since is not None and now - agreed_since >= (50 if reached else 20)
        assert latch.see(ratio, ratio, now) == due
        if due:
            agreed_since = None
            assert latch.since_ms == (None if reached else now)


def test_what_is_not_known_clears_nothing() -> None:
    """A reading that is missing is no all-clear, and begins the waiting anew."""
    latch = Latch(1.0, HYSTERESIS, 0)
    assert not latch.see(0.1, 0.1, 100)
    assert not latch.see(None, None, 200)
    assert not latch.see(0.1, 0.1, 210)
    assert latch.see(0.1, 0.1, 260)
    assert latch.since_ms is None


def test_drop() -> None:
    """Where nothing is limited any more a level is left at once."""
    latch = Latch(1.0, HYSTERESIS, 5)
    assert (latch.drop(), latch.since_ms, latch.drop()) == (True, None, False)
