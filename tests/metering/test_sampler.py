"""Named events of a node's life: who pays, under which labels, and what stays unmeasured."""

from dataclasses import replace

import msgspec
import pytest

from tests.metering.build import GPU, SLOT_MS, WALL_NS, Node, check, gpu, job, on_gpu
from wattkeeper.holders.base import Claim
from wattkeeper.metering.book import BookState, Entry
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec
from wattkeeper.model.reading import Reading
from wattkeeper.model.window import ClockStep, Point, Policy, Split, Unmeasured

IDLE, GAP = f"@{Account.IDLE}", f"@{Account.GAP}"
WALL_MS = WALL_NS // 10**6


def test_a_quiet_hour_books_every_microjoule() -> None:
    """Without any fault the windows hold exactly what the hardware counted."""
    node = Node(claims=on_gpu(job(1)))
    node.tick()
    node.run(3600)
    node.finish()
    check(node.records, node.dictionary)
    assert {"1": node.true_uj} == node.booked()
    assert all(w.end_ms % 10_000 == 0 for w in node.windows[:-1])


def test_points_stand_on_every_slot_line() -> None:
    """Balance finds a closing reading at each slot line that the meter ran through."""
    node = Node()
    node.tick()
    node.run(1000)
    lines = [p.at_ms for p in node.records if isinstance(p, Point)][1:]
    first = (WALL_MS // SLOT_MS + 1) * SLOT_MS
    assert [first + n * SLOT_MS for n in range(4)] == lines


def test_a_stretch_that_begins_before_a_line_and_opens_behind_it_has_a_point_there() -> None:
    """First seen 400 ms before a slot line: the windows behind the line stand on a point on it."""
    node = Node()
    node.wall_ns += (SLOT_MS - WALL_MS % SLOT_MS - 400) * 10**6
    node.tick()
    node.run(30)
    node.finish()
    check(node.records, node.dictionary)
    assert 0 in [p.at_ms % SLOT_MS for p in node.records if isinstance(p, Point)]


def test_same_holder_after_a_restart_pays_as_recovered() -> None:
    """The counter's advance while the agent was down is its holder's, if it is the same one."""
    node = Node(claims=on_gpu(job(1, birth_ms=7)))
    node.tick()
    node.run(20)
    node.restart()
    node.pass_time(3_600_000)
    node.run(5)
    node.finish()
    check(node.records, node.dictionary)
    assert {"1": node.true_uj} == node.booked()
    (recovered,) = [w for w in node.windows if w.shares[0].split is Split.RECOVERED]
    assert 3_601_000 <= recovered.end_ms - recovered.start_ms <= 3_602_000


def test_another_birth_after_a_restart_leaves_a_gap() -> None:
    """A reused job id is another holder: what nobody saw is nobody's."""
    node = Node(claims=on_gpu(job(1, birth_ms=7)))
    node.tick()
    node.run(20)
    before = node.true_uj
    node.restart()
    node.claims = on_gpu(job(1, birth_ms=8))
    node.pass_time(600_000)
    node.tick()
    unseen = node.true_uj - before
    node.run(20)
    node.finish()
    check(node.records, node.dictionary)
    assert {"1": node.true_uj - unseen, GAP: unseen} == node.booked()


def test_who_came_while_a_meter_was_silent_pays_from_then_on_after_a_restart_too() -> None:
    """The count is older than the holder: what it advanced before nobody remembers."""
    node = Node(claims=on_gpu(job(1)))
    node.tick()
    node.run(10)
    node.run(10, answer=False)
    node.claims = on_gpu(job(2))
    node.run(10, answer=False)
    node.restart()
    node.run(10)
    node.finish()
    check(node.records, node.dictionary)
    watt_s = 300 * 10**6
    assert {"1": 10 * watt_s, GAP: 11 * watt_s, "2": 19 * watt_s} == node.booked()


def test_who_holds_nothing_after_a_reboot_is_known_at_once() -> None:
    """From when on a meter was held is told in the time of that boot."""
    node = Node(claims=on_gpu(job(1)))
    node.tick()
    node.run(10)
    node.claims = on_gpu()
    node.run(10)
    node.reboot(60_000)
    node.run(10)
    node.finish()
    check(node.records, node.dictionary)
    assert {"1", IDLE} == node.booked().keys()


def test_a_long_stall_with_the_agent_alive_stays_with_who_was_seen() -> None:
    """A hung read is no restart: the holders of the last look pay, changes in time."""
    node = Node(claims=on_gpu(job(1)))
    node.tick()
    node.run(10)
    for second in range(60):
        node.pass_time(1000)
        node.claims = on_gpu(job(2)) if second == 29 else node.claims
        node.tick(answer=False)
    node.run(10)
    node.finish()
    check(node.records, node.dictionary)
    watt_s = 300 * 10**6
    assert {"1": 40 * watt_s, "2": 40 * watt_s} == node.booked()


@pytest.mark.parametrize("by_ms", [-3_600_000, -60_000, 60_000, 3_600_000])
def test_a_clock_step_moves_labels_and_no_joules(by_ms: int) -> None:
    """The count is unbroken; windows behind the step carry the new time at once."""
    node = Node()
    node.tick()
    node.run(15)
    node.wall_ns += by_ms * 10**6
    node.run(15)
    node.finish()
    check(node.records, node.dictionary)
    assert {IDLE: node.true_uj} == node.booked()
    assert [by_ms] == [r.by_ms for r in node.records if isinstance(r, ClockStep)]
    assert node.windows[-1].end_ms == node.wall_ns // 10**6
    assert all(w.end_ms - w.start_ms <= 10_000 for w in node.windows)
    assert all(abs(w.end_ms - w.start_ms - w.covered_ms) <= 1_000 for w in node.windows)


@pytest.mark.parametrize("by_ms", [-3_600_000, -60_000, 60_000, 3_600_000])
def test_a_clock_step_while_the_agent_was_down_is_seen(by_ms: int) -> None:
    """The journal keeps the offset: neither an hour in one window nor an hour of zero length."""
    node = Node()
    node.tick()
    node.run(15)
    node.restart()
    node.wall_ns += by_ms * 10**6
    node.run(15)
    node.finish()
    check(node.records, node.dictionary)
    assert {IDLE: node.true_uj} == node.booked()
    assert [by_ms] == [r.by_ms for r in node.records if isinstance(r, ClockStep)]
    assert node.windows[-1].end_ms == node.wall_ns // 10**6
    assert all(w.end_ms - w.start_ms <= 10_000 for w in node.windows)


def test_a_reboot_with_a_clock_that_is_behind_is_dated_by_its_own_clock() -> None:
    """Labels go back with the clock, so that the aggregator can put them right by boot time."""
    node = Node()
    node.tick()
    node.run(15)
    node.reboot(down_ms=-86_400_000)
    node.tick()
    node.run(30)
    node.finish()
    check(node.records, node.dictionary)
    assert node.windows[-1].end_ms == node.wall_ns // 10**6
    assert node.windows[-1].boot_ms == node.boot_ns // 10**6
    assert {IDLE: node.true_uj} == node.booked()


def test_a_reboot_leaves_unmeasured_seconds_and_a_new_epoch() -> None:
    """Energy before the first reading of a boot cannot be known: said in seconds."""
    node = Node()
    node.tick()
    node.run(15)
    old_boot_ms = node.boot_ns // 10**6
    node.reboot(down_ms=120_000)
    node.tick()
    node.run(15)
    node.finish()
    check(node.records, node.dictionary)
    # What the old boot measured is told in the old boot's time.
    last = [r for r in node.records if isinstance(r, Point) and r.epoch == 1][-1]
    assert last.boot_ms == old_boot_ms
    assert [w.boot_ms for w in node.windows if w.epoch == 1][-1] == old_boot_ms
    (lost,) = [r for r in node.records if isinstance(r, Unmeasured)]
    assert (lost.reason, lost.end_ms - lost.start_ms) == ("rebooted", 120_000)
    assert {IDLE: node.true_uj} == node.booked()


def test_many_holders_end_up_in_other() -> None:
    """Beyond the cap the smallest shares are booked together, and still sum."""
    node = Node()
    claims = [Claim(job(n), weight=1 + n) for n in range(20)]
    node.claims = {GPU: claims}
    node.tick()
    node.run(30)
    node.finish()
    check(node.records, node.dictionary)
    assert all(len(w.shares) <= 9 for w in node.windows)
    assert f"@{Account.OTHER}" in node.booked()
    assert sum(node.booked().values()) == node.true_uj


def test_overhead_is_what_no_component_saw_and_owes_nothing_from_unmeasured_time() -> None:
    """A host meter that comes back in a new epoch does not pay for what it did not measure."""
    host = MeterSpec(MeterInfo("host/dcmi", Component.HOST, "simulated"), limit_mw=2_000_000)
    node = Node()
    host_uj = 0

    def tick(*, with_host: bool) -> None:
        nonlocal host_uj
        node.pass_time(1000)
        host_uj += 400 * 10**6
        readings = [Reading(GPU, node.boot_ns, energy_uj=node.raw_uj)]
        if with_host:
            readings.append(Reading("host/dcmi", node.boot_ns, energy_uj=host_uj))
        node.sampler.step([node.spec, host], readings, {}, node.boot_ns, node.wall_ns)
        node.records += node.sampler.take()

    for _ in range(21):
        tick(with_host=True)
    for _ in range(60):
        tick(with_host=False)
    host = replace(host, load="another")
    host_uj = 0
    for _ in range(21):
        tick(with_host=True)
    node.finish()
    check(node.records, node.dictionary)
    assert node.booked()[f"@{Account.OVERHEAD}"] == 40 * 100 * 10**6
    assert node.booked()[f"@{Account.COMPONENTS}"] == 40 * 300 * 10**6


def test_a_wrapping_counter_goes_on_and_one_that_could_have_wrapped_unseen_does_not() -> None:
    """One wrap is added up; a stall in which two fit is a new epoch, not a guess."""
    node = Node(spec=gpu(wrap_uj=2**36))
    node.tick()
    node.run(600)
    node.finish()
    assert node.true_uj > 2**36
    assert {IDLE: node.true_uj} == node.booked()
    node.pass_time(100_000)
    node.tick()
    check(node.records, node.dictionary)
    assert [step.reason for step in node.breaks] == ["counter could have wrapped unseen"]


def test_each_socket_has_its_own_claims() -> None:
    """`cpu/<socket>/*` goes before `cpu/*`, also for a die of the socket."""
    metered = {}
    for name in ("cpu/0/package", "cpu/1.1/package", "cpu/2/dram"):
        spec = MeterSpec(MeterInfo(name, Component.CPU, "simulated"))
        node = Node(spec=spec)
        node.claims = {
            "cpu/0/*": [Claim(job(1), 5), Claim(None, 0)],
            "cpu/1/*": [Claim(None, 5)],
            "cpu/*": [Claim(job(1), 5), Claim(None, 5)],
        }
        node.tick()
        node.run(20)
        node.finish()
        metered[name] = {payer for payer, uj in node.booked().items() if uj and payer != IDLE}
    assert metered == {
        "cpu/0/package": {"1"},
        "cpu/1.1/package": {f"@{Account.SYSTEM}"},
        "cpu/2/dram": {"1", f"@{Account.SYSTEM}"},
    }


def test_idle_parts_stand_in_the_window() -> None:
    """Allocated with no kernel for three of ten seconds: that part, and its time, of the share."""
    node = Node(claims={GPU: [Claim(job(1), allocated=True)]})
    node.wall_ns -= node.wall_ns % (10**10)
    node.tick(use_ppm=500_000)
    for second in range(10):
        node.pass_time(1000)
        node.tick(use_ppm=0 if second < 3 else 500_000)
    (window,) = node.windows
    (part,) = window.shares
    assert (part.uj, part.idle_uj, part.idle_ms) == (3_000_000_000, 900_000_000, 3_000)


def test_activity_counts_for_the_time_before_it_was_told() -> None:
    """Of the interval in which one stopped and the other began, the second look knows more."""
    node = Node()
    for weights in ((1, 0), (0, 1)):
        node.claims = {
            GPU: [Claim(job(n), w, 500_000, allocated=True) for n, w in enumerate(weights, 1)]
        }
        node.pass_time(1000)
        node.tick()
    node.finish()
    assert [*node.booked().items()] == [("2", 300_000_000), ("1", 0)]


def test_a_recovered_stretch_is_not_called_idle() -> None:
    """Nobody looked: that the GPU rests now does not say that it rested then."""
    node = Node(claims={GPU: [Claim(job(1), 0, allocated=True)]})
    node.tick(use_ppm=0)
    node.pass_time(120_000)
    node.tick(use_ppm=0)
    (part,) = node.windows[-1].shares
    assert (part.split, part.idle_uj, part.idle_ms) == (Split.RECOVERED, 0, 0)


def test_a_change_of_policy_takes_effect_with_the_next_window() -> None:
    """Also over a restart: a window is split by one policy."""
    half = [Claim(job(1), 5, 250_000, allocated=True), Claim(job(2), 5, 250_000, allocated=True)]
    node = Node(claims={GPU: half})
    node.wall_ns -= node.wall_ns % (10**10)
    node.tick()
    node.run(25)
    node.restart(Policy.HOLDERS)
    node.run(20)
    assert [window.policy for window in node.windows] == [0, 0, 0, 1]
    idle = [any(part.holder == Account.IDLE for part in w.shares) for w in node.windows]
    assert idle == [False, True, True, False]


def test_rest_is_learned_from_seconds_in_which_nothing_ran() -> None:
    """A GPU that is busy in every window, but not all of it; a single second says too little."""
    node = Node()
    node.wall_ns -= node.wall_ns % (10**10)
    node.tick()
    for still in (1, 3):
        for second in range(10):
            node.power_mw = 50_000 if second < still else 400_000
            node.pass_time(1000)
            node.tick(use_ppm=0 if second < still else 900_000)
        rest_mw = node.sampler.metered[GPU].book.state.rest_mw
        assert rest_mw == {1: 365_000, 3: 50_000}[still]


def test_gpus_of_one_model_rest_alike() -> None:
    """A GPU that was only ever seen busy rests as low as the one beside it was seen to."""
    labels = {"model": "H100"}
    specs = [
        MeterSpec(MeterInfo(f"gpu/{n}", Component.GPU, "simulated", labels), limit_mw=700_000)
        for n in range(2)
    ]
    node = Node()
    claims = {"gpu/1": [Claim(job(1), 3), Claim(job(2), 1)]}
    for second in range(40):
        at_ns, wall_ns = 10**12 + second * 10**9, WALL_NS + second * 10**9
        readings = [
            Reading("gpu/0", at_ns, second * 60_000_000),
            Reading("gpu/1", at_ns, second * 460_000_000),
        ]
        node.sampler.step(specs, readings, claims, at_ns, wall_ns)
    node.records += node.sampler.take()
    assert [part.uj for part in node.windows[-1].shares] == [3_300_000_000, 1_300_000_000]


def test_a_journal_from_before_idle_parts_and_policies_is_read() -> None:
    """Its open window goes on: nothing in it was idle, and it was split by `idle`."""
    entry = [16, 0, 5_000, 1_000, 2_000]
    opened = {"cell_ms": 0, "start_ms": 0, "first_uj": 0, "entries": {64: entry}, "tally": {}}
    encoded = msgspec.msgpack.encode({"number": 1, "open": opened, "claims": [{"holder": None}]})
    state = msgspec.msgpack.decode(encoded, type=BookState)
    assert state.open is not None
    assert state.open.policy is Policy.IDLE
    assert state.open.entries[64] == Entry(16, Split.EXCLUSIVE, 5_000, 1_000, 2_000, 0, 0)
