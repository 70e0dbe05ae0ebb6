"""Merging: joules and what checks them are conserved, whatever is merged."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metering.build import GPU, Node, check, job
from wattkeeper.holders.base import Claim
from wattkeeper.metering.merge import HOUR_MS, merge
from wattkeeper.model.window import ClockStep, Policy, Record, Tombstone, Unmeasured, Window

_EVENTS = st.tuples(
    st.sampled_from(["run", "run", "run", "stall", "holders", "clock", "reset", "restart"]),
    st.integers(1, 600),
)


def records(events: list[tuple[str, int]]) -> Node:
    """Return a node with the records of some hours."""
    node = Node()
    node.tick()
    for kind, value in events:
        match kind:
            case "run":
                for _ in range(value):
                    node.pass_time(5000)
                    node.tick(use_ppm=value % 2)
            case "stall":
                node.pass_time(value * 10_000)
            case "holders":
                claims = [Claim(job(n), 1, allocated=True) for n in range(value % 3)]
                node.claims = {GPU: claims}
            case "clock":
                node.wall_ns += (value - 300) * 10**9
            case "reset":
                node.raw_uj = 0
                node.tick()
                node.run(2)
            case "restart":
                node.restart(Policy(value % 2))
                node.pass_time(1000)
                node.tick()
    node.finish()
    return node


def _sums(mine: list[Record]) -> dict[tuple[int, int, int, int], list[int]]:
    sums: dict[tuple[int, int, int, int], list[int]] = {}
    for window in mine:
        if isinstance(window, Window):
            for part in window.shares:
                key = (window.epoch, window.policy, part.holder, part.split)
                before = sums.get(key, [0, 0, 0])
                own = (part.uj, part.idle_uj, part.idle_ms)
                sums[key] = [a + b for a, b in zip(before, own, strict=True)]
    return sums


@settings(max_examples=40, deadline=None)
@given(st.lists(_EVENTS, min_size=1, max_size=12))
def test_merging_conserves_everything(events: list[tuple[str, int]]) -> None:
    """Shares and times are kept, the points still check, merging again changes nothing."""
    node = records(events)
    before = node.records
    after = merge(before)
    check(after, node.dictionary)
    assert _sums(after) == _sums(before)
    for kind in (Unmeasured, ClockStep, Tombstone):
        assert [r for r in after if isinstance(r, kind)] == [
            r for r in before if isinstance(r, kind)
        ]
    merged = [r for r in after if isinstance(r, Window)]
    assert sum(w.covered_ms for w in merged) == sum(w.covered_ms for w in node.windows)
    assert len(after) <= len(before) + 2
    assert merge(after) == after


def test_an_hour_becomes_one_window_per_meter() -> None:
    """Two hours of windows leave at most three merged ones, none crossing an hour."""
    node = records([("run", 600), ("run", 840)])
    merged = [r for r in merge(node.records) if isinstance(r, Window)]
    assert len(merged) == 3
    assert all(w.start_ms // HOUR_MS == (w.end_ms - 1) // HOUR_MS for w in merged)
    seen = [w.stats.power_mw for w in merged if w.stats and w.stats.power_mw]
    assert {300_000} == {value for spread in seen for value in (spread.least, spread.greatest)}


def test_a_tombstone_breaks_a_run_and_stays() -> None:
    """What stands for a lost record is not merged over."""
    node = records([("run", 100)])
    windows = node.windows
    mine: list[Record] = [*windows[:5], Tombstone(1, "lost"), *windows[6:]]
    after = merge(mine)
    assert Tombstone(1, "lost") in after
    assert sum(w.energy_uj for w in after if isinstance(w, Window)) == sum(
        w.energy_uj for w in mine if isinstance(w, Window)
    )


def test_merging_as_windows_come_leaves_no_more_than_merging_at_once() -> None:
    """A journal that stays too large is merged again and again: nothing piles up in it."""
    node = records([("run", 600), ("run", 840)])
    merged: list[Record] = []
    for begin in range(0, len(node.records), 4):
        merged = merge([*merged, *node.records[begin : begin + 4]])
    check(merged, node.dictionary)
    assert _sums(node.records) == _sums(merged)
    assert len(merge(node.records)) == len(merged)
