"""Who is entitled to a stretch of an idle GPU."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.ledger.entitlement import Entitled, entitle

GRANTS = st.lists(
    st.builds(
        lambda holder, begin, length: Entitled(holder, begin, begin + length),
        st.integers(16, 19),
        st.integers(0, 120),
        st.integers(0, 80),
    ),
    max_size=6,
)


def test_in_proportion_to_time() -> None:
    """A grant over a quarter of the stretch gets a quarter; the rest is nobody's."""
    assert entitle(100, 200, 4_000, [Entitled(16, 175, 900)]) == {16: (1_000, 25)}


def test_nobody() -> None:
    """A stretch outside every grant is nobody's."""
    assert entitle(100, 200, 4_000, [Entitled(16, 200, 300), Entitled(17, 0, 100)]) == {}
    assert entitle(100, 200, 4_000, []) == {}


def test_one_after_the_other() -> None:
    """Two jobs and the time between them."""
    grants = [Entitled(16, 0, 130), Entitled(17, 150, 900)]
    assert entitle(100, 200, 1_000, grants) == {16: (300, 30), 17: (500, 50)}


def test_at_once_in_equal_parts() -> None:
    """A GPU that was granted to three at once for a while is theirs in equal parts then."""
    grants = [Entitled(16, 0, 200), Entitled(17, 140, 200), Entitled(18, 170, 200)]
    found = entitle(100, 200, 6_000, grants)
    assert found == {16: (2_400 + 900 + 600, 65), 17: (1_500, 25), 18: (600, 10)}


def test_twice_the_same_is_once() -> None:
    """A holder with two grants of one GPU is one holder."""
    grants = [Entitled(16, 0, 170), Entitled(16, 130, 200), Entitled(17, 150, 200)]
    assert entitle(100, 200, 1_000, grants) == {16: (750, 75), 17: (250, 25)}


@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 10**12), GRANTS)
def test_never_more_than_was_booked_and_never_outside(
    begin: int, length: int, uj: int, grants: list[Entitled]
) -> None:
    """Whatever the grants: within the stretch, within each holder's, and in any order."""
    end = begin + length
    found = entitle(begin, end, uj, grants)
    held = {at: {g.holder for g in grants if g.from_ms <= at < g.to_ms} for at in range(begin, end)}
    claimed = sum(1 for holders in held.values() if holders)
    assert sum(part for part, _ in found.values()) <= uj
    assert abs(sum(ms for _, ms in found.values()) - claimed) <= len(grants) * 2
    for holder, (part_uj, part_ms) in found.items():
        own = [1 / len(holders) for holders in held.values() if holder in holders]
        assert own
        assert abs(part_ms - sum(own)) <= 2 * len(grants) + 1
        assert abs(part_uj - uj * sum(own) / length) <= 2 * len(grants) + 1 + uj / 10**9
    assert entitle(begin, end, uj, grants[::-1]) == found
    if claimed == length:
        assert sum(part for part, _ in found.values()) == uj
        assert sum(ms for _, ms in found.values()) == length
