"""Slurm as a scheduler: what is asked when, and what is told."""

import asyncio
import logging
from dataclasses import replace

import pytest

from wattkeeper.schedulers.base import NodeInfo, Scheduler, WorkloadInfo
from wattkeeper.schedulers.slurm import Slurm, SlurmOptions
from wattkeeper.schedulers.slurm_child import Answer
from wattkeeper.schedulers.slurm_wire import Done, Request

MINUTE_MS = 60_000
START_MS = 1_795_426_000_000
RUN = WorkloadInfo("c", "slurm", "7", "7", state="RUNNING", start_ms=START_MS, nodes=("n1",))
DONE = Done("demo", "", 0, "", doubt="", no_nodes="")


class Cluster:
    """A Slurm that a test says the answers of; `clock` is the time in UTC milliseconds."""

    def __init__(self) -> None:
        self.clock = START_MS
        self.running: list[WorkloadInfo] = []
        self.books: list[WorkloadInfo] = []
        self.nodes = [NodeInfo("c", "n1", 8, "IDLE")]
        self.done = DONE
        self.asked: list[Request] = []
        self.broken: dict[str, str] = {}
        self.slow = asyncio.Event()
        self.slow.set()

    async def fetch(self, request: Request) -> tuple[Answer, Done]:
        """Answer as the process does."""
        self.asked.append(request)
        if request.what == "ended":
            await self.slow.wait()
        if request.what in self.broken:
            raise OSError(self.broken[request.what])
        if request.what == "ended":
            return Answer(list(self.books)), DONE
        return Answer(list(self.running), list(self.nodes)), self.done

    def sweeps(self) -> list[Request]:
        """Return the questions to the accounts."""
        return [request for request in self.asked if request.what == "ended"]

    def scheduler(self, **more: object) -> Slurm:
        """Return a scheduler on it."""
        options = replace(SlurmOptions("c"), **more)  # type: ignore[arg-type]
        return Slurm(options, fetch=self.fetch, now_ms=lambda: self.clock)


@pytest.fixture
async def cluster() -> Cluster:
    """Start with nothing running."""
    return Cluster()


async def test_an_answer(cluster: Cluster) -> None:
    """What runs, the nodes, and the instant at which that was true: before the question."""
    slurm: Scheduler = cluster.scheduler()
    await slurm.start()
    cluster.running = [RUN]
    found = await slurm.ask(0)
    assert [RUN] == list(found.workloads)
    assert found.granted_ms == START_MS
    assert found.nodes == cluster.nodes
    assert (slurm.name, slurm.interval_s) == ("slurm", 30.0)
    await slurm.close()


async def test_one_question_each_time(cluster: Cluster) -> None:
    """The accounts only at the start, and then every ten minutes."""
    slurm = cluster.scheduler()
    for minute in range(25):
        cluster.clock = START_MS + minute * MINUTE_MS
        await slurm.ask(cluster.clock - MINUTE_MS)
    assert 25 + 3 == len(cluster.asked)
    first, second, _ = cluster.sweeps()
    assert first.since_ms == START_MS - 86_400_000 - MINUTE_MS
    assert second.since_ms == START_MS - MINUTE_MS
    assert second.slurm_cluster == "demo"


async def test_a_run_that_vanished(cluster: Cluster) -> None:
    """The accounts are asked at once, and again until they know; they lag by seconds."""
    slurm = cluster.scheduler()
    cluster.running = [RUN]
    await slurm.ask(0)
    cluster.running, cluster.clock = [], START_MS + MINUTE_MS
    assert [] == list((await slurm.ask(START_MS)).workloads)
    assert cluster.sweeps()[-1].since_ms == START_MS - MINUTE_MS
    over = replace(RUN, state="COMPLETED", end_ms=START_MS + 1000)
    cluster.books, cluster.clock = [over], START_MS + 2 * MINUTE_MS
    assert [replace(over, nodes=())] == list((await slurm.ask(START_MS)).workloads)
    cluster.clock += MINUTE_MS
    assert [] == list((await slurm.ask(START_MS)).workloads)
    assert 3 == len(cluster.sweeps())


async def test_one_word_for_a_run(cluster: Cluster) -> None:
    """In one answer slurmctld says COMPLETING, slurmdbd knows more: names and end."""
    slurm = cluster.scheduler()
    passing = replace(RUN, name='a "b"', state="COMPLETING", end_ms=START_MS + 1000)
    cluster.running = [passing]
    cluster.books = [replace(passing, name="a `b`", state="FAILED", end_ms=START_MS + 2000)]
    expected = replace(passing, state="FAILED", end_ms=START_MS + 2000)
    assert [expected] == list((await slurm.ask(0)).workloads)


async def test_an_answer_that_was_not_booked(cluster: Cluster) -> None:
    """Asked for the same instant again, it says all of it again."""
    slurm = cluster.scheduler()
    over = replace(RUN, state="COMPLETED", end_ms=START_MS + 1000)
    cluster.running = [over]
    assert [over] == list((await slurm.ask(0)).workloads)
    assert [over] == list((await slurm.ask(0)).workloads)
    assert [] == list((await slurm.ask(START_MS)).workloads)
    assert [] == list((await slurm.ask(START_MS)).workloads)  # nothing was told there


async def test_without_accounts(cluster: Cluster) -> None:
    """A run that vanished ended when it was last seen."""
    slurm = cluster.scheduler(accounts=False)
    cluster.running = [RUN]
    await slurm.ask(0)
    cluster.running, cluster.clock = [], START_MS + MINUTE_MS
    (told,) = (await slurm.ask(START_MS)).workloads
    assert (told.raw_id, told.start_ms, told.end_ms) == ("7", START_MS, START_MS)
    assert cluster.sweeps() == []


async def test_slow_accounts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of what runs do not wait for them; what they say stands in a later answer."""
    monkeypatch.setattr("wattkeeper.schedulers.slurm._PATIENCE_S", 0.01)
    slurm = cluster.scheduler()
    cluster.running = [RUN]
    cluster.slow.clear()
    over = replace(RUN, raw_id="3", start_ms=START_MS - 9000, end_ms=START_MS - 5000)
    cluster.books = [over]
    assert [RUN] == list((await slurm.ask(0)).workloads)
    assert [RUN] == list((await slurm.ask(0)).workloads)
    assert 1 == len(cluster.sweeps())
    cluster.slow.set()
    assert [RUN, over] == list((await slurm.ask(0)).workloads)
    cluster.slow.clear()
    cluster.clock += 20 * MINUTE_MS
    await slurm.ask(0)
    await slurm.close()  # lets go of the question that is under way


async def test_broken_accounts(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, asked again in two minutes from where they were known; names go on."""
    caplog.set_level(logging.INFO)
    slurm = cluster.scheduler()
    cluster.running, cluster.broken = [RUN], {"ended": "sacct failed (exit 1)"}
    for minute in range(5):
        cluster.clock = START_MS + minute * MINUTE_MS
        assert [RUN] == list((await slurm.ask(0)).workloads)
    assert 3 == len(cluster.sweeps())
    since_ms = cluster.sweeps()[-1].since_ms
    assert since_ms == START_MS + 4 * MINUTE_MS - 86_400_000 - MINUTE_MS
    cluster.broken, cluster.clock = {}, START_MS + 6 * MINUTE_MS
    await slurm.ask(0)
    assert ["slurm accounts: sacct failed (exit 1)", "slurm accounts: works again"] == [
        record.getMessage() for record in caplog.records
    ]


async def test_a_run_that_vanished_while_accounts_are_broken(cluster: Cluster) -> None:
    """It is waited for ten minutes, and then it ended when it was last seen."""
    slurm = cluster.scheduler()
    cluster.running, cluster.broken = [RUN], {"ended": "sacct failed (exit 1)"}
    await slurm.ask(0)
    cluster.running = []
    told = []
    for minute in range(1, 12):
        cluster.clock = START_MS + minute * MINUTE_MS
        told.append(len((await slurm.ask(0)).workloads))
    assert [0] * 9 + [1, 0] == told


async def test_a_dead_slurmctld(cluster: Cluster) -> None:
    """An error with Slurm's own words; afterwards nothing is forgotten."""
    slurm = cluster.scheduler()
    cluster.running = [RUN]
    await slurm.ask(0)
    cluster.broken, cluster.clock = {"live": "slurmctld is down"}, START_MS + MINUTE_MS
    with pytest.raises(OSError, match="slurmctld is down"):
        await slurm.ask(START_MS)
    cluster.broken, cluster.running, cluster.clock = {}, [], START_MS + 60 * MINUTE_MS
    over = replace(RUN, state="COMPLETED", end_ms=START_MS + 30 * MINUTE_MS)
    cluster.books = [over]
    assert [replace(over, nodes=())] == list((await slurm.ask(START_MS)).workloads)


async def test_what_is_not_known(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """Unreadable jobs: not every run is known. No nodes: the inventory is unknown, not empty."""
    slurm = cluster.scheduler()
    cluster.done = Done("demo", "", 2, "a job without job_id", doubt="", no_nodes="nodes: no")
    await slurm.ask(0)
    found = await slurm.ask(0)
    assert found.granted_ms is None
    assert found.nodes is None
    assert ["slurm nodes: nodes: no",
            "slurm jobs: 2 jobs could not be read, the first because: a job without job_id"] == [
        record.getMessage() for record in caplog.records
    ]  # fmt: skip
    assert found.complete_ms is None
    cluster.done = DONE
    assert (await slurm.ask(0)).granted_ms == START_MS


async def test_a_job_whose_gpus_cannot_be_told(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once; what is known of all the others does not wait until it ends."""
    slurm = cluster.scheduler()
    cluster.done = Done("demo", "", 0, "", doubt="job 7: gres_detail …", no_nodes="")
    await slurm.ask(0)
    assert (await slurm.ask(0)).granted_ms == START_MS
    said = [record.getMessage() for record in caplog.records]
    assert said == ["slurm gpus: GPUs are not known: job 7: gres_detail …"]


async def test_the_version_is_remembered(cluster: Cluster) -> None:
    """Slurmrestd's interface is found once."""
    slurm = cluster.scheduler(rest="unix:/run/rest.sock")
    cluster.done = replace_version("v0.0.44")
    await slurm.ask(0)
    await slurm.ask(0)
    live = [request for request in cluster.asked if request.what == "live"]
    assert ["", "v0.0.44"] == [request.version for request in live]


def replace_version(version: str) -> Done:
    """Return the last word of an answer of slurmrestd."""
    return Done("demo", version, 0, "", doubt="", no_nodes="")
