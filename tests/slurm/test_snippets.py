"""Prolog and epilog as sites get them, run by Slurm, with an agent that is up, hung and down."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.programs import Program, until
from tests.slurm.cluster import Cluster
from tests.slurm.metering import Metering
from tests.slurm.story import Story

# One worker starts the cluster and runs them all.
pytestmark = [pytest.mark.slurm, pytest.mark.compiler, pytest.mark.xdist_group("slurm")]

NAME = "shipped"
BOUND_S = 1.0
SLACK_S = 1.5
"""For a busy machine: the scripts bound how long they wait, not when they are run."""
LEFT: dict[str, int] = {"up": 0, "hung": 2, "down": 2}
"""Marks that lie in the spool after a job, for the agent to find."""
STATES: dict[str, Callable[[Program], None]] = {
    "up": lambda _: None,
    "hung": lambda agent: agent.process.send_signal(signal.SIGSTOP),
    "down": lambda agent: agent.kill(),
}


@pytest.mark.parametrize("state", STATES)
def test_no_job_fails_or_waits(
    state: str, cluster: Cluster, metering: Metering, story: Story
) -> None:
    """The job completes, its node stays, and every mark is made though nobody takes it."""
    agent = metering.start_bystander(NAME)
    data_dir = cluster.folder / "agents" / NAME
    until("the agent listens", (data_dir / "control.sock").exists)
    log = cluster.folder / "log" / NAME
    log.touch()
    try:
        STATES[state](agent)
        job = cluster.submit("ada", "-p", "bare", work="true")
        until("both scripts have run", lambda: len(log.read_text().splitlines()) == 2)
        check(log, job)
        ask = ("squeue", "-h", "-t", "all", "-o", "%T", "-j", str(job))
        until("the job has completed", lambda: cluster.run(*ask) == "COMPLETED")
        assert "drain" not in cluster.run("sinfo", "-h", "-n", "n4", "-o", "%T")
        spool = data_dir / "marks"
        left = LEFT[state]
        until(f"{left} marks are left", lambda: len([*spool.glob("[0-9]*.json")]) == left)
    finally:
        log.unlink()
        agent.kill()
        for mark in data_dir.glob("marks/*.json"):
            mark.unlink()
        (data_dir / "control.sock").unlink(missing_ok=True)


def check(log: Path, job: int) -> None:
    """Compare what the scripts' ends and times were with what they promise."""
    for line, kind in zip(log.read_text().splitlines(), ("start", "end"), strict=True):
        said, number, code, before, after = line.split()
        assert (kind, str(job), "0") == (said, number, code)
        assert float(after) - float(before) < BOUND_S + SLACK_S
