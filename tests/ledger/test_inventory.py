"""What schedulers say of their nodes, and what follows for coverage."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from tests.ledger.books import SLOT, T0, Journal, Meter

from wattkeeper.ledger import inventory, schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.expected import LATE_MS
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, NodeInfo

END = T0 + 4 * SLOT


@pytest.fixture
def meter_node(intake: Intake) -> Callable[..., None]:
    """Deliver a node's GPUs, metered from `from_ms` to `to_ms` as idle."""

    def go(name: str, gpus: int = 1, from_ms: int = T0, to_ms: int = END) -> None:
        journal = Journal(name=f"journal-{name}", node=name)
        for number in range(1, gpus + 1):
            meter = Meter(journal, number, f"gpu/GPU-{name}-{number}", at_ms=from_ms)
            meter.point()
            while meter.at_ms < to_ms:
                meter.window((1, 1_000), ms=SLOT)
        journal.deliver(intake, max(END, to_ms))
        intake.commit_sync()

    return go


def say(ledger: Ledger, at_ms: int, *nodes: NodeInfo, scheduler: str = "slurm") -> None:
    """Let a scheduler answer with its whole inventory."""
    record_knowledge(ledger, scheduler, Knowledge(nodes=nodes), now_ms=at_ms)


def node(name: str, gpus: int | None = 1, state: str = "IDLE", expected: bool = True) -> NodeInfo:
    """Return a node of cluster c."""
    return NodeInfo("c", name, gpus, state, expected)


def words(ledger: Ledger) -> list[tuple[object, ...]]:
    """Return the intervals of the inventory, in seconds since T0."""
    table = schema.inventory.c
    query = sa.select(table.node, table.state, table.from_ms, table.to_ms).order_by(table.id)
    with ledger.reading() as connection:
        return [
            (
                row.node,
                row.state,
                (row.from_ms - T0) // 1000,
                row.to_ms and (row.to_ms - T0) // 1000,
            )
            for row in connection.execute(query)
        ]


def test_only_changes_are_written(ledger: Ledger) -> None:
    """An interval for each expectation, closed when it changes or the node is gone."""
    say(ledger, T0, node("n1"), node("n2"))
    say(ledger, T0 + 30_000, node("n1"), node("n2"))
    assert words(ledger) == [("n1", "IDLE", 0, None), ("n2", "IDLE", 0, None)]
    say(ledger, T0 + 60_000, node("n1", gpus=2, state="DOWN"))
    assert words(ledger) == [
        ("n1", "IDLE", 0, 60),
        ("n2", "IDLE", 0, 60),
        ("n1", "DOWN", 60, None),
    ]
    say(ledger, T0 + 10_000, node("n9"))
    with ledger.reading() as connection:
        assert inventory.until_ms(connection) == {"c": T0 + 60_000}
        assert list(inventory.newest(connection)) == [("c", "n1")]


def test_states_come_and_go_without_growth(ledger: Ledger) -> None:
    """A node's state changes with every job; only the newest is told."""
    for number, state in enumerate(("IDLE", "ALLOCATED", "MIXED", "IDLE+DRAIN")):
        say(ledger, T0 + number * 30_000, node("n1", state=state))
    assert words(ledger) == [("n1", "IDLE+DRAIN", 0, None)]
    assert [row.scheduler_state for row in nodes(ledger)] == ["IDLE+DRAIN"]


def test_a_node_without_an_agent_lowers_coverage(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """Its GPUs are expected from when the scheduler told of them, and it is named."""
    meter_node("n1", gpus=2)
    assert balance(ledger).coverage == 1
    say(ledger, T0, node("n1", 2), node("n2", 2, "MIXED"))
    say(ledger, END + LATE_MS, node("n1", 2), node("n2", 2, "MIXED"))
    answer = balance(ledger)
    assert (answer.coverage, answer.expected_seconds) == (0.5, 4 * 3600)
    (missing,) = answer.missing_nodes
    assert (missing.node, missing.state, missing.gpus, missing.metered_gpus) == (
        "n2", "MIXED", 2, 0,
    )  # fmt: skip
    assert (missing.expected_seconds, missing.covered_seconds) == (2 * 3600, 0)
    assert report(ledger, "user").coverage == answer.coverage
    assert answer.balanced


def test_a_cpu_node_without_an_agent_counts_as_one_meter(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """No scheduler knows how many sockets have a counter; one is sure."""
    meter_node("n1")
    for at_ms in (T0, END + LATE_MS):
        say(ledger, at_ms, node("n1"), node("n2", 0), node("n3", None))
    answer = balance(ledger)
    assert answer.coverage == pytest.approx(1 / 3)
    assert [row.node for row in answer.missing_nodes] == ["n2", "n3"]


def test_nothing_is_expected_of_what_is_powered_down(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """Neither of a node without an agent nor of one whose meters are known."""
    meter_node("n1")
    meter_node("n2", to_ms=T0 + SLOT)
    down = node("n2", state="POWERED_DOWN", expected=False)
    say(ledger, T0, node("n1"), node("n2"))
    say(ledger, T0 + SLOT, node("n1"), down, node("n3", 8, "FUTURE", expected=False))
    say(ledger, END + LATE_MS, node("n1"), down, node("n3", 8, "FUTURE", expected=False))
    answer = balance(ledger)
    assert (answer.coverage, answer.missing_nodes) == (1, [])


def test_an_agent_that_came_late_or_lost_a_gpu(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """What the inventory has is expected before the first window, and beyond the meters seen."""
    meter_node("n1", gpus=1, from_ms=T0 + 2 * SLOT)
    meter_node("n2", gpus=1)
    for at_ms in (T0, END + LATE_MS):
        say(ledger, at_ms, node("n1", 2), node("n2", 1))
    answer = balance(ledger)
    assert answer.expected_seconds == 3 * 3600
    assert answer.coverage == 0.5
    (missing,) = answer.missing_nodes
    assert (missing.node, missing.gpus, missing.metered_gpus) == ("n1", 2, 1)
    assert missing.covered_seconds == 1800


def test_a_replaced_gpu_is_not_missed(ledger: Ledger, intake: Intake) -> None:
    """The scheduler says how many there are: the new one stands for the one that fell silent."""
    journal = Journal(node="n1")
    old = Meter(journal, 1, "gpu/GPU-old")
    new = Meter(journal, 2, "gpu/GPU-new", at_ms=T0 + SLOT)
    for meter, to_ms in ((old, T0 + SLOT), (new, END)):
        meter.point()
        while meter.at_ms < to_ms:
            meter.window((1, 1_000), ms=SLOT)
    journal.deliver(intake, END)
    intake.commit_sync()
    assert balance(ledger).coverage == pytest.approx(4 / 7)
    for at_ms in (T0, END + LATE_MS):
        say(ledger, at_ms, node("n1", 1))
    assert balance(ledger).coverage == 1


def test_when_every_agent_is_gone_time_goes_on(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """Without the scheduler nobody would say that anything is missing."""
    meter_node("n1", to_ms=T0 + 2 * SLOT)
    assert balance(ledger, T0, END).coverage == 1
    say(ledger, T0, node("n1"))
    say(ledger, END + LATE_MS, node("n1"))
    assert balance(ledger, T0, END).coverage == 0.5
    assert balance(ledger, T0 + 2 * SLOT, END).coverage == 0
    assert [row.node for row in balance(ledger, T0 + 2 * SLOT, END).missing_nodes] == ["n1"]


def test_what_no_scheduler_says_any_more_is_not_expected(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """The inventory holds up to its scheduler's last word, and no longer."""
    meter_node("n1")
    say(ledger, T0, node("n1"), node("n2"))
    say(ledger, T0 + SLOT, node("n1"), node("n2"))
    assert balance(ledger).expected_seconds == 5 * SLOT / 1000


def test_nodes_without_an_agent_are_listed(ledger: Ledger, meter_node: Callable[..., None]) -> None:
    """With the scheduler's state, beside those that deliver."""
    meter_node("n1")
    say(ledger, T0, node("n1", 1, "MIXED"), node("n0", 4, "DOWN"))
    absent, present = nodes(ledger)
    assert (absent.node, absent.seen_ms, absent.meters) == ("n0", None, 0)
    assert (absent.scheduler_state, absent.gpus_expected, absent.expected) == ("DOWN", 4, True)
    assert (present.node, present.scheduler_state, present.seen_ms) == ("n1", "MIXED", END)


def test_reports_and_balances_cover_alike_over_days(
    ledger: Ledger, meter_node: Callable[..., None]
) -> None:
    """Whole days come from daily sums in a report, slot by slot in a balance."""
    day = 86_400_000
    begin = T0 - T0 % day + day - 2 * SLOT
    end = begin + 4 * SLOT + 2 * day
    meter_node("n1", from_ms=begin, to_ms=end)
    meter_node("n2", from_ms=begin, to_ms=begin + 50 * SLOT)
    for at_ms in (begin, end + LATE_MS):
        say(ledger, at_ms, node("n1"), node("n2"), node("n3"))
    for since, until in ((begin, end), (begin + SLOT, end - SLOT), (begin, begin + day)):
        covered = balance(ledger, since, until).coverage
        assert covered is not None
        assert 0.3 < covered < 0.7
        assert report(ledger, "user", since, until).coverage == covered
