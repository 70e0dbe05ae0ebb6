"""Whatever happens to a node: the records it leaves are whole, and the points agree with them."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.metering.build import GPU, SLOT_MS, Node, check, gpu, job, on_gpu
from wattkeeper.holders.base import Claim
from wattkeeper.model.window import ClockStep, Policy

_LENGTHS = st.one_of(
    st.integers(1, 3_000), st.integers(3_000, 30_000), st.integers(30_000, 4_000_000)
)
_EVENTS = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 25)),
    st.tuples(st.just("tick"), _LENGTHS),
    st.tuples(st.just("silent"), _LENGTHS),
    st.tuples(st.just("no energy"), _LENGTHS),
    st.tuples(st.just("no power"), _LENGTHS),
    st.tuples(st.just("stuck"), _LENGTHS),
    st.tuples(st.just("glitch"), st.integers(-(10**13), 10**13)),
    st.tuples(st.just("twice"), st.integers(-(10**13), 10**13)),
    st.tuples(st.just("reset"), st.integers(0, 10**12)),
    st.tuples(st.just("clock"), st.integers(-4_000_000, 4_000_000)),
    st.tuples(st.just("slew"), st.integers(-400, 400)),
    st.tuples(st.just("holders"), st.integers(0, 7)),
    st.tuples(st.just("allocated"), st.integers(0, 511)),
    st.tuples(st.just("use"), st.integers(-1, 1)),
    st.tuples(st.just("policy"), st.integers(0, 1)),
    st.tuples(st.just("restart"), _LENGTHS),
    st.tuples(st.just("restart elsewhen"), st.integers(-4_000_000, 4_000_000)),
    st.tuples(st.just("reboot"), st.integers(-4_000_000, 4_000_000)),
    st.tuples(st.just("driver"), _LENGTHS),
    st.tuples(st.just("power"), st.integers(0, 700_000)),
)


def _happen(node: Node, kind: str, value: int) -> None:  # noqa: C901, PLR0912, PLR0915 -- a table
    match kind:
        case "run":
            node.run(value)
        case "tick":
            node.pass_time(value)
            node.tick()
        case "silent":
            node.pass_time(value)
            node.tick(answer=False)
        case "no energy":
            node.pass_time(value)
            node.tick(energy=False)
        case "no power":
            node.pass_time(value)
            node.tick(power=False)
        case "stuck":
            for _ in range(8):
                node.pass_time(max(1, value // 8), counting=False)
                node.tick()
        case "glitch":
            node.pass_time(1000)
            node.tick(off_uj=value)
        case "twice":
            node.pass_time(1000)
            node.tick(off_uj=value)
            node.tick(off_uj=value)
        case "reset":
            node.raw_uj = value
        case "clock" | "slew":
            node.wall_ns += value * 10**6
        case "holders":
            node.claims = on_gpu(*(job(n) for n in range(3) if value >> n & 1))
        case "allocated":
            # Three bits each for: allocated, busy, in a MIG instance.
            node.claims = {
                GPU: [
                    Claim(job(n), value >> n + 3 & 1, 142_857 if value >> n + 6 & 1 else None,
                          allocated=True)
                    for n in range(3)
                    if value >> n & 1
                ]
            }  # fmt: skip
        case "use":
            node.use_ppm = None if value < 0 else value * 500_000
        case "policy":
            node.restart(Policy(value))
        case "restart":
            node.restart()
            node.pass_time(value)
        case "restart elsewhen":
            node.restart()
            node.wall_ns += value * 10**6
            node.pass_time(1500)
        case "reboot":
            node.reboot(value)
        case "driver":
            node.pass_time(value)
            node.spec = replace(node.spec, load=f"load-{node.boot_ns}")
            node.raw_uj = 0
        case "power":
            node.power_mw = value


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_EVENTS, min_size=1, max_size=30),
    st.sampled_from([None, 2**32, 2**41]),
    st.integers(1, 40_000),
)
def test_records_are_whole_whatever_happens(
    events: list[tuple[str, int]], wrap_uj: int | None, before_line_ms: int
) -> None:
    """Counts join, shares sum, points agree, slot lines are kept, nothing is booked but counts."""
    node = Node(spec=gpu(wrap_uj=wrap_uj))
    node.wall_ns += (SLOT_MS - node.wall_ns // 10**6 % SLOT_MS - before_line_ms) * 10**6
    node.tick()
    for kind, value in events:
        _happen(node, kind, value)
    node.run(3)
    node.finish()
    check(node.records, node.dictionary)
    state = node.sampler.metered[GPU].book.state
    assert state.booked_uj == sum(window.energy_uj for window in node.windows)
    assert all(step.by_ms for step in node.records if isinstance(step, ClockStep))
