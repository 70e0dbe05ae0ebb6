"""One GPU, two agents of one machine under two names: its joules are booked once."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, Journal, Meter, holder
from tests.postgresql.fixtures import empty

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.window import EpochInfo

NOW = T0 + 4 * SLOT
SILENT_MS = 61_000
FIRST_UJ, WINDOW_UJ = 1_000_000, 5_000


def agent(node: str, late_ms: int = 0, boot: str = "boot-1") -> Meter:
    """Return the GPU as an agent reads it that began a little later: 500 µJ in a second."""
    meter = Meter(
        Journal(name=f"journal-{node}", node=node, boot=boot),
        at_ms=T0 + late_ms, uj=FIRST_UJ + late_ms // 2,
    )  # fmt: skip
    meter.journal.holders[16] = holder("7")
    meter.point()
    return meter


def run(meter: Meter, windows: int) -> None:
    """Meter whole windows, cut at slot lines."""
    for _ in range(windows):
        ms = min(10_000, SLOT - meter.at_ms % SLOT)
        meter.window((16, ms // 2), ms=ms)


def measured_uj(ledger: Ledger) -> int:
    """Return what the books of all nodes say that the counter has advanced."""
    answer = balance(ledger)
    assert answer.problems == []
    assert answer.residual_uj == 0
    return sum(row.measured_uj for row in answer.meters)


def test_the_second_one_waits_and_raises_the_alarm(ledger: Ledger, intake: Intake) -> None:
    """It is refused as long as the first one delivers; both nodes are marked."""
    one, two = agent("n1"), agent("n2")
    run(one, 30)
    run(two, 30)
    one.journal.deliver(intake, NOW)
    for _ in range(3):
        with pytest.raises(Refusal, match="gpu/GPU-1 is claimed by n1 and n2, both live") as why:
            two.journal.deliver(intake, NOW)
        assert why.value.kind == "two-live-meters"
        run(one, 10)
        one.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert [row.events for row in nodes(ledger)] == [{"conflict": 1}, {"conflict": 1}]
    assert measured_uj(ledger) == 60 * WINDOW_UJ


def test_it_goes_on_where_the_first_one_ended(ledger: Ledger, intake: Intake) -> None:
    """What both have metered is the first one's, also after a restart of the aggregator."""
    one, two = agent("n1"), agent("n2", late_ms=50_000)
    run(one, 30)
    run(two, 100)
    one.journal.deliver(intake, NOW)
    intake.accept(two.journal.batch(1, 60, NOW), NOW + SILENT_MS)
    intake.commit_sync()
    again = Intake(ledger)
    two.journal.deliver(again, NOW + SILENT_MS)
    again.commit_sync()
    by_node = {row.node: (row.workload_uj, row.gap_uj) for row in balance(ledger).meters}
    assert by_node == {"n1": (30 * WINDOW_UJ, 0), "n2": (two.uj - one.uj, 0)}
    assert measured_uj(ledger) == two.uj - FIRST_UJ


def test_another_boot_is_another_count(ledger: Ledger, intake: Intake) -> None:
    """A GPU that was moved while its old node lives on: an alarm, and both counts are booked."""
    one, two = agent("n1"), agent("n2", boot="boot-2")
    two.journal.epochs[1] = EpochInfo("boot-2", "load")
    run(one, 30)
    run(two, 30)
    one.journal.deliver(intake, NOW)
    two.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert [row.events for row in nodes(ledger)] == [{"conflict": 1}, {"conflict": 1}]
    assert measured_uj(ledger) == 60 * WINDOW_UJ


LEDGER = Ledger.open("sqlite://")
"""In memory, emptied before each example: opening one compiles every statement anew."""
TURNS = st.lists(st.tuples(st.sampled_from(["n1", "n2"]), st.booleans()), max_size=12)


def test_nobody_is_kept_from_delivering_by_a_node_that_makes_itself_its_twin(
    ledger: Ledger, intake: Intake
) -> None:
    """It names another's GPU, and that one's boot only when the GPU stands under its own name."""
    one = agent("n1")
    run(one, 6)
    one.journal.deliver(intake, NOW)
    stranger = agent("n2", boot="boot-2")
    stranger.journal.epochs[1] = EpochInfo("boot-2", "load")
    run(stranger, 6)
    stranger.journal.deliver(intake, NOW)
    twin = Meter(Journal(name="journal-3", node="n2", boot="boot-1"), at_ms=T0, uj=FIRST_UJ)
    twin.point()
    run(twin, 12)
    with pytest.raises(Refusal, match="claimed by n1 and n2"):
        twin.journal.deliver(intake, NOW)
    run(one, 6)
    one.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert next(row.events for row in nodes(ledger)) == {"conflict": 1}


def test_a_gpu_that_was_moved_stands_where_it_is(ledger: Ledger, intake: Intake) -> None:
    """As soon as its former node is silent: from then on a twin of the new one is refused."""
    one, two, twin = agent("n1"), agent("n2", boot="boot-2"), agent("n3", boot="boot-2")
    for meter in (two, twin):
        meter.journal.epochs[1] = EpochInfo("boot-2", "load")
    run(one, 6)
    one.journal.deliver(intake, NOW)
    for late_ms in (1_000, SILENT_MS):
        run(two, 12)
        two.journal.deliver(intake, NOW + late_ms)
    run(twin, 12)
    with pytest.raises(Refusal, match="claimed by n2 and n3"):
        twin.journal.deliver(intake, NOW + SILENT_MS)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(late_ms=st.integers(0, 40).map(lambda n: 500 * n), turns=TURNS)
def test_no_joule_is_booked_twice(late_ms: int, turns: list[tuple[str, bool]]) -> None:
    """Whoever delivers when, and falls silent when: all books together have at most the count."""
    intake = Intake(empty(LEDGER))
    agents = {"n1": agent("n1"), "n2": agent("n2", late_ms)}
    now_ms = NOW
    for name, waits in turns:
        for meter in agents.values():
            run(meter, 7)
        now_ms += SILENT_MS if waits else 1_000
        try:
            agents[name].journal.deliver(intake, now_ms)
        except Refusal as why:
            assert why.kind == "two-live-meters"  # noqa: PT017 -- it need not be raised
    intake.commit_sync()
    assert measured_uj(LEDGER) <= max(meter.uj for meter in agents.values()) - FIRST_UJ
