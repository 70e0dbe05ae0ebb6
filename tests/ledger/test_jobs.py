"""Jobs, reports and nodes: what the postings say under the names that are known."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger import schema
from wattkeeper.ledger.exported import account_totals
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import JobFilter, job, jobs
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.queries.report import DIMENSIONS, report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Component
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

NOW = T0 + 4 * SLOT
LABELS = {"job_id": "7_1", "user": "ada", "account": "lab", "partition": "gpu", "name": "train"}


@pytest.fixture
def deliver(intake: Intake) -> Callable[..., None]:
    """Deliver one node: holders by (info, windows, µJ each), one after the other."""

    def go(node: str, *held: tuple[HolderInfo, int, int], at_ms: int = T0) -> None:
        journal = Journal(name=f"journal-{node}", node=node)
        gpu = Meter(journal, 1, f"gpu/GPU-{node}", at_ms=at_ms)
        cpu = Meter(journal, 2, "cpu/0/package", Component.CPU, at_ms=at_ms)
        for meter in (gpu, cpu):
            meter.point()
            for number, (info, windows, uj) in enumerate(held, 16):
                journal.holders[number] = info
                meter.run(windows, (number, uj), (1, 100))
        journal.deliver(intake, NOW)
        intake.commit_sync()

    return go


def test_a_job_on_two_nodes(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """Holders of one id whose lives overlap are one job; its axes each sum to its energy."""
    deliver("n1", (holder("7", T0, **LABELS), 60, 2_000_000))
    deliver("n2", (holder("7", T0 + 30_000), 50, 2_000_000), at_ms=T0 + 30_000)
    found = job(ledger, "c", "7_1")
    assert found is not None
    assert found.energy_uj == 2 * 110 * 2_000_000
    assert sum(found.energy_by_component_uj.values()) == found.energy_uj
    assert {"counter": found.energy_uj} == found.energy_by_source_uj
    assert {"exclusive": found.energy_uj} == found.energy_by_split_uj
    assert (found.user, found.account, found.name) == ("ada", "lab", "train")
    assert (found.run, found.runs, found.nodes) == (1, 1, ["n1", "n2"])
    assert found.gpu_seconds == 1100
    assert (found.start_ms, found.as_of_ms) == (T0, T0 + 600_000)
    assert found.mean_watts == pytest.approx(440 / 600)
    assert found.peak_watts == pytest.approx(0.8)
    assert found.coverage == pytest.approx(1.0, abs=0.06)
    assert job(ledger, "c", "7") == found
    assert job(ledger, "c", "8") is None
    assert job(ledger, "other", "7") is None


def test_a_requeued_job_is_another_run(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """The same id born later, with time in between, is another run."""
    deliver(
        "n1",
        (holder("7", T0), 10, 1_000),
        (holder("8", T0 + 100_000), 10, 1_000),
        (holder("7", T0 + 200_000), 10, 3_000),
    )
    newest, first = job(ledger, "c", "7"), job(ledger, "c", "7", run=1)
    assert newest is not None
    assert first is not None
    assert (newest.run, newest.runs, newest.energy_uj) == (2, 2, 60_000)
    assert (first.run, first.runs, first.energy_uj) == (1, 2, 20_000)
    assert (first.end_ms, first.state) == (T0 + 100_000, "ENDED")
    assert (newest.end_ms, newest.state) == (None, "RUNNING")


def test_the_schedulers_word_changes_the_map_alone(
    ledger: Ledger, deliver: Callable[..., None]
) -> None:
    """Late names and times replace labels; no posting is touched."""
    deliver("n1", (holder("7", T0, **LABELS), 10, 1_000))
    with ledger.reading() as connection:
        before = connection.execute(sa.select(schema.posting)).all()
    info = WorkloadInfo(
        "c", "simulated", "7", "7_2", user="grace", account="ops", state="COMPLETED",
        start_ms=T0 - 500, end_ms=T0 + 99_000,
    )  # fmt: skip
    record_knowledge(ledger, "simulated", Knowledge([info, info]))
    found = job(ledger, "c", "7_2")
    assert found is not None
    assert (found.user, found.account, found.state) == ("grace", "ops", "COMPLETED")
    assert (found.partition, found.name) == ("gpu", "train")
    assert (found.start_ms, found.end_ms) == (T0 - 500, T0 + 99_000)
    assert job(ledger, "c", "7_1") is None
    with ledger.reading() as connection:
        assert connection.execute(sa.select(schema.posting)).all() == before


def test_a_holder_finds_the_run_that_the_scheduler_named(
    ledger: Ledger, deliver: Callable[..., None]
) -> None:
    """Names may come before the first window."""
    record_knowledge(
        ledger,
        "simulated",
        Knowledge([WorkloadInfo("c", "simulated", "7", "7", account="ops", start_ms=T0)]),
    )
    deliver("n1", (holder("7", T0 + 300), 10, 1_000))
    found = job(ledger, "c", "7")
    assert found is not None
    assert (found.account, found.energy_uj, found.runs) == ("ops", 20_000, 1)


def test_labels_that_come_later_fill_in(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """A holder is seen before its names are: the next entry of the same holder brings them."""
    deliver("n1", (holder("7", T0), 10, 1_000), (holder("7", T0, **LABELS), 10, 1_000))
    found = job(ledger, "c", "7_1")
    assert found is not None
    assert (found.user, found.account, found.runs, found.energy_uj) == ("ada", "lab", 1, 40_000)


@pytest.mark.parametrize("by", DIMENSIONS)
def test_reports_add_up_to_the_balance(
    ledger: Ledger, deliver: Callable[..., None], by: str
) -> None:
    """Rows of every dimension sum to what the balance says, whole and in part."""
    deliver("n1", (holder("7", T0, **LABELS), 120, 1_000), (holder("8", T0), 120, 1_000))
    deliver("n2", (holder("9", T0, user="grace"), 180, 3_000))
    for since, until in ((None, None), (T0 + SLOT, T0 + 2 * SLOT)):
        answer = report(ledger, by, since, until)
        total = balance(ledger, since, until).total_uj
        assert answer.total_uj == total > 0
        assert sum(row.energy_uj for row in answer.rows) == total


def test_report_by_user(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """Users first, then what is nobody's."""
    deliver("n1", (holder("7", T0, **LABELS), 10, 1_000), (holder("8", T0), 10, 5_000))
    rows = [(row.key, row.kind, row.energy_uj, row.jobs) for row in report(ledger, "user").rows]
    assert rows == [
        ("", "group", 100_000, 1),
        ("ada", "group", 20_000, 1),
        ("", "idle", 4_000, 0),
    ]


def test_whole_days_come_from_the_daily_sums(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """Days from the rollup and edges from postings meet without seam or overlap."""
    day = 86_400_000
    at_ms = T0 - T0 % day + day - 150_000
    deliver("n1", (holder("7", at_ms, **LABELS), 30, 1_000), at_ms=at_ms)
    midnight = at_ms + 150_000
    whole = report(ledger, "user", midnight - SLOT, midnight + day)
    assert whole.total_uj == 30 * 2 * 1_100
    assert report(ledger, "user", midnight, midnight + day).total_uj == 15 * 2 * 1_100


def test_unknown_dimension_names_the_known_ones(ledger: Ledger) -> None:
    """A wrong `by` is told which there are."""
    with pytest.raises(ValueError, match=r"by: 'colour' is none of user, account"):
        report(ledger, "colour")


def test_jobs_are_filtered(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """By user, account, state and time, the newest first, at most `limit`."""
    deliver(
        "n1",
        (holder("7", T0, **LABELS), 10, 1_000),
        (holder("8", T0 + 100_000, user="grace"), 10, 1_000),
    )
    found = {
        "all": JobFilter(),
        "user": JobFilter(user="ada"),
        "account": JobFilter(account="lab"),
        "running": JobFilter(state="running"),
        "since": JobFilter(since_ms=T0 + 150_000),
        "until": JobFilter(until_ms=T0 + 50_000),
        "limit": JobFilter(limit=1),
        "cluster": JobFilter(cluster="other"),
    }
    assert {name: [job.job_id for job in jobs(ledger, which)] for name, which in found.items()} == {
        "all": ["8", "7_1"],
        "user": ["7_1"],
        "account": ["7_1"],
        "running": ["8"],
        "since": ["8"],
        "until": ["7_1"],
        "limit": ["8"],
        "cluster": [],
    }


def test_account_totals_never_fall(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """When a job turns out to be another account's, the first one's total stays and says so."""
    deliver("n1", (holder("7", T0, **LABELS), 10, 1_000))
    (before,) = account_totals(ledger)
    assert (before.account, before.uj, before.taken_back_uj) == ("lab", 20_000, 0)
    record_knowledge(
        ledger, "simulated", Knowledge([WorkloadInfo("c", "simulated", "7", "7", account="ops")])
    )
    after = {total.account: (total.uj, total.taken_back_uj) for total in account_totals(ledger)}
    assert after == {"lab": (20_000, 20_000), "ops": (20_000, 0)}


def test_nodes_are_listed(ledger: Ledger, deliver: Callable[..., None]) -> None:
    """With their journal, how far they are booked and when they were heard."""
    deliver("n2", (holder("7", T0), 10, 1_000))
    deliver("n1", (holder("7", T0), 10, 1_000))
    first, second = nodes(ledger)
    assert (first.node, second.node) == ("n1", "n2")
    assert (first.journal, first.boot, first.meters) == ("journal-n1", "boot-1", 2)
    assert (first.seen_ms, first.booked_ms, first.skew_ms) == (NOW, T0 + 100_000, 0)
    assert (first.events, first.refused) == ({}, 0)
