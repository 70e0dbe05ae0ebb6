"""Sums for budgets: by node and by workload, the same joules as reports have."""

from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.queries.spent import NodeSum, node_sums, nodes_now, work_sums
from wattkeeper.ledger.queries.whose import Whose, whose_holders
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS, floor
from wattkeeper.model.meter import Component

DAYS = 3


def fill(ledger: Ledger) -> Journal:
    """Book three days of two holders, idle, and what a host draws beyond them."""
    seven = holder("7", job_id="7", user="ann", account="lab", partition="gpu")
    journal = Journal(holders={16: seven, 17: holder("8", job_id="8", user="bo")})
    gpu = Meter(journal)
    host = Meter(journal, 2, "host/dcmi", Component.HOST)
    for meter in (gpu, host):
        meter.point()
    for _ in range(DAYS * DAY_MS // SLOT):
        gpu.window((16, 5_000), (17, 300), (1, 700), ms=SLOT)
        host.window((5, 6_000), (3, 50), ms=SLOT)
    intake = Intake(ledger)
    journal.deliver(intake, gpu.at_ms)
    intake.commit_sync()
    return journal


def test_sums_are_those_of_reports(ledger: Ledger) -> None:
    """Over whole days and edges, of nodes with overhead, and of workloads."""
    fill(ledger)
    since, until = T0 + SLOT, T0 + 2 * DAY_MS + 3 * SLOT
    expected = report(ledger, "node", since, until).total_uj
    slots = (until - since) // SLOT
    with ledger.reading() as reading:
        assert [NodeSum(0, "c", "n1", expected)] == list(node_sums(reading, since, until))
        assert expected == slots * 6_050
        by_whose = {row.whose: row.uj for row in work_sums(reading, since, until, ("8",))}
    assert by_whose == {
        Whose("c", "", "ann", "lab", "gpu"): slots * 5_000,
        Whose("c", "8", "bo"): slots * 300,
    }


def test_each_slot_and_each_day(ledger: Ledger) -> None:
    """Both tell the same sum apart; a slot that is not asked for is not in it."""
    fill(ledger)
    day = floor(T0, DAY_MS) + DAY_MS
    with ledger.reading() as reading:
        slots = list(node_sums(reading, day, day + DAY_MS, "slot"))
        days = list(node_sums(reading, day, day + DAY_MS, "day"))
        works = list(work_sums(reading, day, day + SLOT, each="slot"))
    assert [(day + number * SLOT, 6_050) for number in range(96)] == sorted(
        (row.at, row.uj) for row in slots
    )
    assert [(day // DAY_MS, 96 * 6_050)] == [(row.at, row.uj) for row in days]
    assert {(day, 5_000), (day, 300)} == {(row.at, row.uj) for row in works}


def test_nodes_and_whose(ledger: Ledger) -> None:
    """Component meters are counted, host meters are not; holders go by journal and number."""
    journal = fill(ledger)
    with ledger.reading() as reading:
        (node,) = nodes_now(reading)
    assert (node.node, node.meters, node.gpus, node.listed) == ("n1", 1, 1, False)
    assert node.booked_ms == T0 + DAYS * DAY_MS
    found = whose_holders(ledger, [(journal.name, 16), (journal.name, 99), ("other", 16)])
    assert found == {(journal.name, 16): Whose("c", "7", "ann", "lab", "gpu")}
