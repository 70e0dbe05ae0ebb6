"""One counter: advances, wraps, resets, lies and silence are told apart."""

from dataclasses import dataclass, field, replace

from hypothesis import example, given
from hypothesis import strategies as st

from tests.metering.build import GPU, gpu
from wattkeeper.metering.counter import Advance, Break, Counter, Identity, Step, begin
from wattkeeper.model.meter import MeterSpec, Method
from wattkeeper.model.reading import Reading

S = 10**9
IDENTITY = Identity("boot", "nonce")


@dataclass
class Bench:
    """A counter under test and everything it has said."""

    spec: MeterSpec = field(default_factory=gpu)
    at_ns: int = 100 * S
    steps: list[Step] = field(default_factory=list)
    counter: Counter = field(init=False)

    def __post_init__(self) -> None:
        first = Reading(GPU, self.at_ns, energy_uj=0, power_mw=300_000)
        state = begin(first, self.spec, IDENTITY)
        assert state is not None
        self.counter = Counter(state, IDENTITY, 10 * S)

    def read(self, uj: int | None, mw: int | None = 300_000, after_s: float = 1) -> list[Step]:
        """Take a reading `after_s` seconds later."""
        self.at_ns += int(after_s * S)
        steps = self.counter.advance(Reading(GPU, self.at_ns, uj, mw), self.spec)
        self.steps += steps
        return steps

    @property
    def advances(self) -> list[Advance]:
        """Every advance so far."""
        return [step for step in self.steps if isinstance(step, Advance)]

    @property
    def reasons(self) -> list[str]:
        """Why epochs began."""
        return [step.reason for step in self.steps if isinstance(step, Break)]


def test_one_bad_reading_loses_nothing() -> None:
    """A glitch in either direction is waited out and the advance spans it."""
    for glitch in (0, 10**15):
        bench = Bench()
        bench.read(300_000_000)
        assert bench.read(glitch) == []
        (step,) = bench.read(900_000_000)
        assert isinstance(step, Advance)
        assert (step.uj, step.to_ns - step.from_ns) == (600_000_000, 2 * S)
        assert bench.reasons == []


def test_two_consistent_readings_make_a_reset() -> None:
    """A backward counter opens an epoch where it was first seen; between is unmeasured."""
    bench = Bench()
    bench.read(3_000_000_000, after_s=10)
    bench.read(10_000_000)
    broken, step = bench.read(310_000_000)
    assert isinstance(broken, Break)
    assert isinstance(step, Advance)
    assert (
        broken.reason, broken.gapless, broken.total_uj,
    ) == ("counter was reset", False, 10_000_000)  # fmt: skip
    assert (broken.at_ns, 300_000_000) == (step.from_ns, step.uj)


def test_an_answer_given_twice_confirms_nothing() -> None:
    """A stale copy of a bad reading is the same reading, not a second one."""
    bench = Bench()
    bench.read(300_000_000)
    bench.read(0)
    assert bench.read(0, after_s=0) == []
    (step,) = bench.read(900_000_000)
    assert isinstance(step, Advance)
    assert bench.reasons == []


def test_a_good_reading_refutes_the_suspect() -> None:
    """A glitch long ago does not make a later single bad reading the second one."""
    bench = Bench()
    bench.read(300_000_000)
    bench.read(0)
    bench.read(300_000_000)
    assert bench.read(5_000_000) == []
    assert bench.reasons == []


def test_a_stuck_counter_is_replaced_by_power_and_never_booked_twice() -> None:
    """It stands still at load: integrated power from the last good value on; then trusted again."""
    bench = Bench()
    for n in range(1, 4):
        bench.read(n * 300_000_000)
    for _ in range(10):
        bench.read(900_000_000)
    assert [s.method for s in bench.steps if isinstance(s, Break)] == [Method.INTEGRATED]
    for n in range(1, 8):
        bench.read(900_000_000 + 10**9 + n * 300_000_000)
    assert bench.reasons[-1] == "counter trusted again"
    assert bench.counter.state.method is Method.COUNTER
    assert all(step.gapless for step in bench.steps if isinstance(step, Break))
    total = sum(step.uj for step in bench.advances)
    assert total == 20 * 300_000_000
    _contiguous(bench.steps)


def test_a_resting_device_is_not_stuck() -> None:
    """Too little power to move the counter: waited out, then one advance."""
    bench = Bench()
    bench.read(300_000_000, mw=100, after_s=20)
    for _ in range(30):
        assert bench.read(300_000_000, mw=100) == []
    (step,) = bench.read(303_000_000, mw=100)
    assert isinstance(step, Advance)
    assert step.uj == 3_000_000


def test_quarantine_with_power_only_just_back_has_no_empty_advance() -> None:
    """A lying counter and no power for long: integration begins at this very reading."""
    bench = Bench()
    bench.read(300_000_000)
    for n in range(12):
        bench.read((n % 2) * 10**15, mw=None)
    steps = bench.read(0, mw=300_000, after_s=3)
    assert [Break] == [type(step) for step in steps]
    assert all(step.to_ns > step.from_ns for step in bench.advances)
    assert [Advance] == [type(step) for step in bench.read(10**15)]


def test_a_hole_in_power_does_not_end_quarantine_nor_count_as_covered() -> None:
    """Power was unseen for a minute: unmeasured, and the liar is not believed for it."""
    bench = Bench()
    bench.read(300_000_000)
    for _ in range(8):
        bench.read(300_000_000)
    assert bench.counter.state.method is Method.INTEGRATED
    (broken,) = bench.read(300_000_000, after_s=60)
    assert isinstance(broken, Break)
    assert (broken.method, broken.gapless) == (Method.INTEGRATED, False)
    assert bench.counter.state.quarantine
    (step,) = bench.read(300_000_000)
    assert isinstance(step, Advance)
    assert (step.uj, step.to_ns - step.from_ns) == (300_000_000, S)


def test_power_unseen_at_a_good_reading_is_not_integrated_twice() -> None:
    """Integrated energy never reaches back before the counter's last good value."""
    bench = Bench()
    bench.read(300_000_000)
    bench.read(2_700_000_000, mw=None, after_s=8)
    for _ in range(9):
        bench.read(2_700_000_000)
    integrated = [step for step in bench.advances if step.from_ns >= 110 * S]
    assert (
        sum(step.to_ns - step.from_ns for step in integrated),
        sum(step.uj for step in integrated),
    ) == (8 * S, 2_400_000_000)


def test_epochs_by_boot_load_and_method_differ() -> None:
    """A driver load, a reboot and a counter that is gone are each a new epoch."""
    bench = Bench()
    bench.read(300_000_000)
    bench.spec = replace(bench.spec, load="B")
    bench.read(5)
    bench.spec = replace(bench.spec, method=Method.INTEGRATED)
    bench.read(None)
    assert bench.reasons == ["driver reloaded", "counter no longer offered"]
    epochs = [step.epoch for step in bench.steps if isinstance(step, Break)]
    assert len(set(epochs)) == 2
    rebooted = Counter(bench.counter.state, Identity("boot 2", "nonce"), 10 * S)
    (broken,) = rebooted.advance(Reading(GPU, 7, None, 100), bench.spec)
    assert isinstance(broken, Break)
    assert broken.reason == "rebooted"


_HISTORY = st.lists(
    st.tuples(
        st.sampled_from([0.2, 1.0, 1.0, 1.0, 7.0, 40.0]),
        st.sampled_from(["", "", "", "", "glitch", "stuck", "no energy", "no power", "reset"]),
        st.integers(50_000, 700_000),
    ),
    max_size=60,
)


@example([(0.2, "no energy", 50_000), (7.0, "reset", 50_000)], None)
@given(_HISTORY, st.sampled_from([None, 2**38]))
def test_never_more_than_was_drawn(
    history: list[tuple[float, str, int]], wrap_uj: int | None
) -> None:
    """Booked energy is at most the truth, and counted and integrated time never overlap."""
    bench = Bench(spec=gpu(wrap_uj=wrap_uj))
    raw = truth = seen = 0
    stood = False
    for after_s, what, mw in history:
        uj = int(mw * after_s * 1000)
        truth += uj
        raw += 0 if what == "stuck" else uj
        raw = raw % wrap_uj if wrap_uj else raw
        raw = 0 if what == "reset" else raw
        shown = None if what == "no energy" else 10**14 if what == "glitch" else raw
        stood |= shown == seen  # a reset at nought looks as if it were stuck
        seen = seen if shown is None else shown
        # Power is told as the mean since the last reading, at both of its ends.
        bench.at_ns += 1
        bench.read(shown, mw=None if what == "no power" else mw, after_s=after_s)
    _contiguous(bench.steps)
    counted = sum(step.uj for step in bench.advances)
    lies = {what for _, what, _ in history} & {"stuck", "glitch", "no power"}
    wraps = wrap_uj is not None and "reset" in {what for _, what, _ in history}
    if not lies and not wraps and not stood:
        assert counted <= truth
    bound_uj = ((bench.at_ns - 100 * S) + S * len(history)) * 1050 // 1000
    assert counted <= bound_uj, "more than the meter can draw"


def _contiguous(steps: list[Step]) -> None:
    """Advances join within an epoch, never run backward, and the count only grows."""
    upto, total = 100 * S, 0
    for step in steps:
        if isinstance(step, Break):
            assert step.at_ns >= upto
            if step.gapless:
                assert step.at_ns == upto
            upto, total = step.at_ns, step.total_uj
        else:
            assert step.from_ns == upto < step.to_ns
            assert step.uj >= 0
            assert total + step.uj == step.total_uj
            upto, total = step.to_ns, step.total_uj
