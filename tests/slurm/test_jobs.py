"""Real Slurm, real programs: every job pays what its GPUs drew, whatever happened to it."""

import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.e2e.programs import until
from tests.slurm.cluster import ACCOUNTS
from tests.slurm.edges import truth
from tests.slurm.files import CLUSTER
from tests.slurm.gpus import Gpus
from tests.slurm.metering import Metering
from tests.slurm.story import ARRAY, Job, Story

# One worker starts the cluster and runs them all.
pytestmark = [pytest.mark.slurm, pytest.mark.compiler, pytest.mark.xdist_group("slurm")]

_MARKED = (
    "exclusive", "left", "right", "short", "idle", "cancelled", "two_nodes", "agent_killed",
    "no_slurmctld",
)  # fmt: skip
_BARE = ("bare", "bare_step", "bare_idle")
_SECOND_NS = 1_000_000_000
ENDED = {"COMPLETED", "CANCELLED", "REQUEUED"}


class Books:
    """What the aggregator says after everything has settled: jobs by id and run."""

    def __init__(self, story: Story, metering: Metering) -> None:
        self._metering = metering
        self.tasks = story.tasks("array")
        of_one = [job for name, job in story.jobs.items() if name != "array"]
        self.ids = [job.id for job in (*of_one, *self.tasks)]
        self._last: object = None
        until("the books have settled", self._settled, deadline_s=60)

    def job(self, job: Job, run: int | None = None) -> Any:
        """Return a run of a job, the newest by default."""
        which = "" if run is None else f"?run={run}"
        return self._metering.ask(f"/v1/jobs/{CLUSTER}/{job.id}{which}")

    def _settled(self) -> bool:
        """Tell whether every job has ended and nothing has changed for three seconds."""
        answer = self._metering.ask("/v1/jobs") or {"jobs": []}
        jobs = answer["jobs"]
        last = self._last
        self._last = {(job["job_id"], job["run"]): job["energy_uj"] for job in jobs}
        open_ = [job for job in jobs if job["state"] not in ENDED]
        known = {job["job_id"] for job in jobs} >= set(self.ids)
        time.sleep(3)
        return last == self._last and known and not open_


@pytest.fixture(scope="module")
def books(story: Story, metering: Metering) -> Books:
    """Wait until the books have settled."""
    return Books(story, metering)


def gpu_uj(job: Any) -> int:
    """Return the energy of a job's GPUs."""
    return int(job["energy_by_component_uj"]["gpu"])


@pytest.mark.parametrize("name", _MARKED)
def test_a_job_pays_what_its_gpus_drew(name: str, story: Story, gpus: Gpus, books: Books) -> None:
    """Within one step of the counter and the edges that its prolog and epilog wrote down."""
    job = story.jobs[name]
    stays = story.stays(job)
    found = books.job(job)
    assert gpu_uj(found) in truth(gpus, stays)
    assert sorted({stay.node for stay in stays}) == found["nodes"]
    assert (found["runs"], found["coverage"]) == (1, 1.0)


@pytest.mark.parametrize("name", _BARE)
def test_a_job_without_marks_pays_too(name: str, story: Story, gpus: Gpus, books: Books) -> None:
    """Where no prolog marks, cgroups, environments and Slurm's word say who held which GPU."""
    job = story.jobs[name]
    found = books.job(job)
    assert gpu_uj(found) in truth(gpus, story.stays(job), slack_ns=_SECOND_NS)
    assert (["n4"], 1) == (found["nodes"], found["runs"])


def test_every_task_of_an_array_pays_its_own(story: Story, gpus: Gpus, books: Books) -> None:
    """Twenty tasks, two seconds each; the last one carries the number of the array itself."""
    assert len(books.tasks) == ARRAY
    for task in books.tasks:
        found = books.job(task)
        assert gpu_uj(found) in truth(gpus, story.stays(task)), task
        assert found["array"] == story.jobs["array"].id


@pytest.mark.parametrize(
    ("name", "nodes", "slack_ns"),
    [("requeued", ["n3", "n2"], 0), ("requeued_here", ["n3", "n3"], _SECOND_NS)],
)
def test_a_requeued_job_is_two_runs(
    name: str, nodes: list[str], slack_ns: int, story: Story, gpus: Gpus, books: Books
) -> None:
    """Each with its own node, edges and joules, also where slurmd leaves out the second prolog."""
    job = story.jobs[name]
    stays = story.stays(job)
    runs = [books.job(job, run) for run in (1, 2)]
    assert [2, 2] == [run["runs"] for run in runs]
    assert [[node] for node in nodes] == [run["nodes"] for run in runs]
    assert ["REQUEUED", "COMPLETED"] == [run["state"] for run in runs]
    for run, stay in zip(runs, stays, strict=True):
        assert gpu_uj(run) in truth(gpus, [stay], slack_ns)


@pytest.mark.parametrize("name", ["idle", "bare_idle"])
def test_allocated_but_idle(name: str, story: Story, gpus: Gpus, books: Books) -> None:
    """Who sleeps on a GPU pays for it, and is told that all of it was for nothing."""
    found = books.job(story.jobs[name])
    assert int(found["energy_uj"]) == int(found["allocated_idle_uj"]) > 0


def test_work_is_not_idle(story: Story, gpus: Gpus, books: Books) -> None:
    """Of a job that works, only the moments before and after its work are idle."""
    for name in ("exclusive", "left", "right", "two_nodes"):
        found = books.job(story.jobs[name])
        assert int(found["allocated_idle_uj"]) < 0.4 * int(found["energy_uj"])


def test_users_and_accounts(story: Story, metering: Metering, books: Books) -> None:
    """`wattkeeper jobs` names everyone as slurmdbd does."""
    rows = {row["job_id"]: row for row in metering.rows("jobs", "--all")}
    expected = {
        job.id: (job.user, ACCOUNTS[job.user], name)
        for name, job in story.jobs.items()
        if name != "array"
    } | {task.id: ("eve", "physics", "array") for task in books.tasks}
    found = {id_: (rows[id_]["user"], rows[id_]["account"], rows[id_]["name"]) for id_ in expected}
    assert expected == found


def test_the_books_balance(story: Story, metering: Metering, books: Books) -> None:
    """To the microjoule, after an agent was killed and slurmctld was away."""
    done = metering.cli("balance", "--format", "json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["residual_uj"], answer["problems"]) == (0, "0", [])
    assert {"0"} == {meter["gap_uj"] for meter in answer["meters"]}
    assert {0.0} == {meter["unmeasured_seconds"] for meter in answer["meters"]}
    assert len(answer["meters"]) == 16


def test_reports_add_up(story: Story, metering: Metering, books: Books) -> None:
    """Users and accounts of a report have what their jobs have, and all of it was measured."""
    jobs = (metering.ask("/v1/jobs") or {})["jobs"]
    for by in ("user", "account"):
        expected: Counter[str] = Counter()
        for job in jobs:
            expected[job[by]] += int(job["energy_uj"])
        report = metering.ask(f"/v1/report?by={by}")
        rows = [row for row in report["rows"] if row["kind"] == "group"]
        assert expected == {row["key"]: int(row["energy_uj"]) for row in rows}


def test_metrics_name_the_job(story: Story, metering: Metering, books: Books) -> None:
    """A job that has just ended is on `/metrics`, with its user and account, and its joules."""
    job = story.jobs["no_slurmctld"]
    lines = metering.metrics().splitlines()
    info = [line for line in lines if line.startswith("wattkeeper_workload_info{")]
    (own,) = [line for line in info if f'job_id="{job.id}"' in line]
    assert 'account="physics"' in own
    assert 'user="ada"' in own
    energy = [line for line in lines if line.startswith("wattkeeper_job_energy_joules_total{")]
    assert any(f'workload="{job.number}"' in line for line in energy)


def test_the_command_shows_the_job(story: Story, metering: Metering, books: Books) -> None:
    """`wattkeeper job ID` prints what the API says."""
    job = story.jobs["two_nodes"]
    done = metering.cli("job", job.id, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["energy_uj"] == books.job(job)["energy_uj"]
