"""The truth must be true: integrals are exact, additive, and counters are their floor."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.simulation.counter import Counter, CounterKind
from wattkeeper.simulation.waveform import Pattern, Waveform

pieces = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 700_000)), min_size=1, max_size=5)
changes = st.lists(st.tuples(st.integers(1, 2_000), pieces), max_size=6)
START = 1_000


def build(first: list[tuple[int, int]], later: list[tuple[int, list[tuple[int, int]]]]) -> Waveform:
    """Put patterns one after the other."""
    wave = Waveform(START, Pattern(*first))
    at_ms = START
    for after, parts in later:
        at_ms += after
        wave.change(at_ms, Pattern(*parts))
    return wave


@given(pieces, changes, st.integers(0, 3_000))
def test_integral_is_the_sum_of_every_millisecond(
    first: list[tuple[int, int]], later: list[tuple[int, list[tuple[int, int]]]], lasts: int
) -> None:
    """A milliwatt for a millisecond is a microjoule: nothing is rounded."""
    wave = build(first, later)
    by_hand = sum(wave.power_mw(at) for at in range(START, START + lasts))
    assert by_hand == wave.energy_uj(START + lasts)


@given(pieces, changes, st.integers(0, 9_000), st.integers(0, 9_000))
def test_integral_never_falls_and_starts_at_zero(
    first: list[tuple[int, int]],
    later: list[tuple[int, list[tuple[int, int]]]],
    one: int,
    other: int,
) -> None:
    """Energy only grows."""
    wave = build(first, later)
    early, late = sorted((one, other))
    assert wave.energy_uj(START) == 0
    assert wave.energy_uj(START - 500) == 0
    assert wave.energy_uj(START + early) <= wave.energy_uj(START + late)


@given(pieces, changes, st.integers(0, 9_000), st.integers(0, 9_000))
def test_forgetting_the_past_changes_no_later_integral(
    first: list[tuple[int, int]],
    later: list[tuple[int, list[tuple[int, int]]]],
    forget: int,
    after: int,
) -> None:
    """Memory is freed; what comes after counts on."""
    wave, kept = build(first, later), build(first, later)
    wave.forget_before(START + forget)
    at_ms = START + forget + after
    assert kept.energy_uj(at_ms) == wave.energy_uj(at_ms)
    assert kept.power_mw(at_ms) == wave.power_mw(at_ms)


def test_a_change_drops_what_was_planned_after_it() -> None:
    """A planned slowdown does not happen to a job that ended before."""
    wave = Waveform(0, Pattern((1, 100)))
    wave.change(5_000, Pattern((1, 900)))
    wave.change(1_000, Pattern((1, 10)))
    assert wave.energy_uj(10_000) == 100_000 + 10 * 9_000


@given(
    pieces,
    changes,
    st.builds(CounterKind, st.sampled_from((1, 20, 50, 100)), st.sampled_from((1, 61, 1_000))),
    st.lists(st.integers(0, 12_000), min_size=2, max_size=12),
)
def test_counter_is_the_floor_of_the_integral_at_its_last_step(
    first: list[tuple[int, int]],
    later: list[tuple[int, list[tuple[int, int]]]],
    kind: CounterKind,
    instants: list[int],
) -> None:
    """Quantised in time and in value, never ahead of the truth, never falling."""
    wave = build(first, later)
    counter = Counter(wave, kind, phase_ms=17)
    last = 0
    for at_ms in sorted(START + instant for instant in instants):
        updated = counter.updated_ms(at_ms)
        assert 0 <= at_ms - updated < kind.step_ms
        value = counter.read_uj(at_ms)
        assert wave.energy_uj(updated) // kind.unit_uj * kind.unit_uj == value
        assert last <= value
        last = value


def test_counter_wraps_and_resets_like_hardware() -> None:
    """RAPL begins again at its range; a driver load begins again where it is told to."""
    wave = Waveform(0, Pattern((1, 1_000)))
    counter = Counter(wave, CounterKind(1, 1, wrap_uj=70_000))
    assert counter.read_uj(100) == 100_000 % 70_000
    counter.reset(100, 5)
    assert counter.read_uj(101) == 1_005
    assert counter.read_uj(200) - counter.read_uj(200) // 70_000 * 70_000 == 30_000 + 5
