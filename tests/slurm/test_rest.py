"""Both ways to ask a real Slurm, its commands and slurmrestd, say the same."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.programs import until
from tests.slurm.cluster import ACCOUNTS, Cluster
from tests.slurm.edges import held_s
from tests.slurm.files import CLUSTER, GPUS
from tests.slurm.story import Story
from wattkeeper.schedulers.base import Knowledge, NodeGpus, NodeInfo, WorkloadInfo
from wattkeeper.schedulers.marks import FEATURE
from wattkeeper.schedulers.slurm import Slurm, SlurmOptions

# One worker starts the cluster and runs them all.
pytestmark = [pytest.mark.slurm, pytest.mark.compiler, pytest.mark.xdist_group("slurm")]

_DAY_MS = 86_400_000


def _features(node: NodeInfo) -> tuple[str, ...]:
    return tuple(mark for mark in node.marks if mark.startswith(FEATURE))


def _marks(number: int) -> tuple[str, ...]:
    return ("feature:h100", f"feature:rack-r{number % 2}", f"topology:=leaf{min(number, 1)}")


async def ask(options: SlurmOptions) -> Knowledge:
    """Ask Slurm once, as an aggregator that has just begun."""
    slurm = Slurm(options)
    await slurm.start()
    try:
        return await slurm.ask(time.time_ns() // 1_000_000 - _DAY_MS)
    finally:
        await slurm.close()


def by_id(knowledge: Knowledge) -> dict[str, WorkloadInfo]:
    """Return the newest run of each job."""
    newest = sorted(knowledge.workloads, key=lambda info: info.start_ms or 0)
    return {info.job_id: info for info in newest}


async def test_commands_and_rest_agree(cluster: Cluster, story: Story, tmp_path: Path) -> None:
    """Of a running job, its GPUs too; of all that the cluster has run, and of its nodes."""
    number = cluster.submit("ada", "-w", "n2", "--gpus=3", "--job-name=asked", work="sleep 60")
    edges = cluster.folder / "log/edges"
    until("the job runs", lambda: held_s(edges, number) > 0)
    token = tmp_path / "token"
    token.write_text(cluster.token())
    commands = await ask(
        SlurmOptions(
            CLUSTER,
            bin=str(cluster.folder / "commands"),
            conf=cluster.environ["SLURM_CONF"],
            topology=True,
        )
    )
    rest = await ask(
        SlurmOptions(CLUSTER, rest=f"unix:{cluster.rest}", user="root", token_file=str(token))
    )
    cluster.run("scancel", str(number))

    running = by_id(rest)[str(number)]
    assert (NodeGpus("n2", (0, 1, 2)),) == running.gpus
    assert ("ada", ACCOUNTS["ada"], "asked") == (running.user, running.account, running.name)
    assert by_id(commands) == by_id(rest)
    assert set(by_id(rest)) >= {job.id for name, job in story.jobs.items() if name != "array"}
    told = [replace(node, marks=_features(node)) for node in commands.nodes or ()]
    assert told == list(rest.nodes or ())
    # Where a node is, slurmrestd of 22.05 does not say.
    assert [_marks(number) for number in range(4)] == [node.marks for node in commands.nodes or ()]
    assert [(node.name, GPUS) for node in cluster.nodes] == [
        (node.name, node.gpus) for node in rest.nodes or ()
    ]
