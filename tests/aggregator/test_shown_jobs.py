"""Which jobs `/metrics` shows, until when, and that what it shows never falls."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import START_MS, STEP_MS, Feeder
from tests.aggregator.test_metrics import samples
from wattkeeper.aggregator.shown_jobs import ShownJobs
from wattkeeper.ledger import schema
from wattkeeper.ledger.exported import account_totals
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.shown import newest_workload
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

ENERGY = "wattkeeper_job_energy_joules_total"
INFO = "wattkeeper_workload_info"
MINUTE_MS = 60_000


async def scrape(centre: Centre) -> str:
    """Scrape with a new look at the books."""
    centre.aggregator.exporter.expire()
    return await centre.text("/metrics")


async def tell(centre: Centre, *runs: WorkloadInfo) -> None:
    """Let the scheduler say this."""
    await asyncio.to_thread(
        record_knowledge,
        centre.aggregator.ledger,
        "slurm",
        Knowledge(runs),
        now_ms=centre.clock[0],
    )


def ended(at_ms: int) -> WorkloadInfo:
    """Return the feeder's job after its end."""
    return WorkloadInfo(
        "west", "slurm", "123", "123", state="COMPLETED", start_ms=START_MS, end_ms=at_ms
    )


def job_feeder(number: int, **labels: str) -> Feeder:
    """Return a node with a job of its own."""
    raw = str(100 + number)
    return Feeder(
        node=f"n{number}",
        journal=f"j{number}",
        raw_id=raw,
        uuid=f"GPU-{number}",
        labels={"job_id": raw, "account": "physics", **labels},
    )


async def test_an_ended_job_leaves_after_two_scrapes_and_its_time(centre: Centre) -> None:
    """Neither time alone nor scrapes alone let it go."""
    feeder = await centre.fed()
    await tell(centre, ended(feeder.at_ms))
    for _ in range(5):
        assert len(samples(await scrape(centre), INFO)) == 1, "scrapes alone"
    centre.clock[0] += 6 * MINUTE_MS
    assert samples(await scrape(centre), INFO) == {}


@pytest.mark.parametrize("running", [True, False], ids=["seen running", "never seen"])
async def test_an_ended_job_is_scraped_twice_however_late(centre: Centre, running: bool) -> None:
    """Also by a scraper that comes by once in ten minutes."""
    feeder = await centre.fed()
    if running:
        await scrape(centre)
    await tell(centre, ended(feeder.at_ms))
    shown = []
    for _ in range(4):
        centre.clock[0] += 10 * MINUTE_MS
        shown.append(len(samples(await scrape(centre), ENERGY)))
    assert shown == [2, 2, 0, 0]


async def test_figures_that_change_are_scraped_twice_again(centre: Centre) -> None:
    """What was booked after the end begins the wait anew."""
    feeder = await centre.fed()
    await tell(centre, ended(feeder.at_ms + 10 * STEP_MS))
    await scrape(centre)
    await scrape(centre)
    centre.clock[0] += 6 * MINUTE_MS
    await centre.fed(feeder, windows=3)
    assert len(samples(await scrape(centre), INFO)) == 1
    centre.clock[0] += 6 * MINUTE_MS
    assert len(samples(await scrape(centre), INFO)) == 1, "shown once like that"
    assert samples(await scrape(centre), INFO) == {}


async def test_jobs_that_end_before_anybody_hears_of_them(centre: Centre) -> None:
    """A node comes back with the windows of a job that ended two hours ago: it is shown too."""
    await scrape(centre)
    centre.clock[0] = START_MS + 120 * MINUTE_MS
    await centre.fed(windows=30)
    await tell(centre, ended(START_MS + 30 * STEP_MS))
    assert samples(await scrape(centre), ENERGY)["west", "gpu", "slurm", "123"] == 30 * 4000


@pytest.mark.parametrize("centre", [{"metrics": {"max_jobs": 2}}], indirect=True)
async def test_running_jobs_come_first(centre: Centre) -> None:
    """By what they used lately; those that have ended come last, and the rest is counted."""
    feeders = [job_feeder(number) for number in range(4)]
    for number, feeder in enumerate(feeders):
        await centre.fed(feeder, windows=3 + number)
    end_ms = feeders[3].at_ms
    over = WorkloadInfo("west", "slurm", "103", "103", start_ms=START_MS, end_ms=end_ms)
    await tell(centre, over)
    text = await scrape(centre)
    assert {key[-1] for key in samples(text, ENERGY)} == {"101", "102"}
    assert samples(text, "wattkeeper_jobs_omitted") == {(): 2.0}


async def test_totals_outlive_a_restart_and_a_correction(centre: Centre) -> None:
    """What was shown before the restart is the least that is shown after it."""
    await centre.fed()
    before = samples(await scrape(centre), ENERGY)

    def take_back() -> None:
        with centre.aggregator.ledger.writing() as connection:
            for table in (schema.posting, schema.rollup):
                connection.execute(sa.update(table).where(table.c.holder > 16).values(uj=1))

    await asyncio.to_thread(take_back)
    await centre.aggregator.stop()
    await centre.aggregator_again()
    assert before
    assert before == samples(await scrape(centre), ENERGY)


async def test_a_requeued_job_is_one_series(centre: Centre) -> None:
    """Its newest run has the id: two series alike would break every join."""
    await centre.fed()
    again_ms = START_MS + 2 * MINUTE_MS
    first = WorkloadInfo(
        "west", "slurm", "123", "123", run="0", partition="a",
        start_ms=START_MS, end_ms=START_MS + MINUTE_MS,
    )  # fmt: skip
    second = WorkloadInfo("west", "slurm", "123", "123", run="1", partition="b", start_ms=again_ms)
    await centre.fed(Feeder(node="n2", journal="j2", uuid="GPU-2", birth_ms=again_ms))
    await tell(centre, first, second)
    text = await scrape(centre)
    assert text.count(f"{INFO}{{") == 1
    assert 'partition="b"' in text


async def test_a_job_is_found_by_every_id_that_nodes_have(centre: Centre) -> None:
    """With SLUIDs in cgroups the number joins too, and figures stand under one of them only."""
    await centre.fed(Feeder(raw_id="sNNVC4SNBDJC00", labels={"account": "physics"}))
    known = WorkloadInfo(
        "west", "slurm", "123", "123", other_id="sNNVC4SNBDJC00", start_ms=START_MS
    )
    await tell(centre, known)
    text = await scrape(centre)
    info = {key[-1] for key in samples(text, INFO)}
    assert info == {"123", "sNNVC4SNBDJC00"}
    assert {key[-1] for key in samples(text, ENERGY)} == {"123"}


@dataclass
class Fleet:
    """Two nodes, a ledger and what was exported of it so far."""

    ledger: Ledger
    cap: int
    now_ms: int = START_MS
    feeders: list[Feeder] = field(default_factory=lambda: [job_feeder(0), job_feeder(1)])
    jobs: dict[tuple[int, str], int] = field(default_factory=dict)
    accounts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.intake = Intake(self.ledger)
        self.restart()
        self.window()

    def window(self) -> None:
        """Deliver one more window of every meter."""
        for feeder in self.feeders:
            self.intake.accept(feeder.batch(feeder.run(1)), self.now_ms)

    def commit(self) -> None:
        """Book what was delivered."""
        self.intake.commit_sync()

    def restart(self) -> None:
        """Forget what is not on disk."""
        self.shown = ShownJobs(
            self.ledger,
            newest=newest_workload(self.ledger),
            max_jobs=self.cap,
            ended_for_ms=5 * MINUTE_MS,
            now_ms=lambda: self.now_ms,
        )

    def later(self) -> None:
        """Let time pass."""
        self.now_ms += 4 * MINUTE_MS

    def end(self) -> None:
        """Let the scheduler say that one of the jobs is over."""
        over = WorkloadInfo("west", "slurm", "100", "100", end_ms=self.now_ms)
        record_knowledge(self.ledger, "slurm", Knowledge([over]), now_ms=self.now_ms)

    def take(self) -> None:
        """Correct the books: half of it was not."""
        self._correct(lambda c: {"uj": c.uj // 2, "idle_uj": 0, "idle_ms": 0})

    def idle(self) -> None:
        """Correct the books: all of it was idle."""
        self._correct(lambda c: {"idle_uj": c.uj, "idle_ms": c.ms})

    def _correct(self, values: Callable[[Any], dict[str, Any]]) -> None:
        with self.ledger.writing() as connection:
            for table in (schema.posting, schema.rollup):
                mine = sa.update(table).where(table.c.holder > 16)
                connection.execute(mine.values(values(table.c)))

    def look(self) -> None:
        """Scrape; nothing is less than it was."""
        found, _ = self.shown.look()
        self.shown.scraped(found)
        for one in found:
            for part, uj in (*one.energy_uj.items(), ("idle", one.idle_uj)):
                assert self.jobs.get((one.job.id, part), 0) <= uj
                self.jobs[one.job.id, part] = uj
        for total in account_totals(self.ledger):
            now = (total.uj, total.idle_uj, total.idle_gpu_ms)
            was = self.accounts.get(total.account, (0, 0, 0))
            assert all(before <= after for before, after in zip(was, now, strict=True))
            self.accounts[total.account] = now


ACTIONS = ("window", "commit", "look", "take", "idle", "restart", "later", "end")


@settings(max_examples=25, deadline=None)
@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=20), cap=st.integers(1, 3))
def test_exported_totals_never_fall(actions: Sequence[str], cap: int) -> None:
    """In any order of windows, commits, corrections, ends, looks and restarts."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "ledger.sqlite")
        centre = Fleet(ledger, cap)
        for action in ("commit", "look", *actions, "commit", "look", "restart", "look"):
            getattr(centre, action)()
        assert centre.jobs
        assert centre.accounts
        ledger.close()
