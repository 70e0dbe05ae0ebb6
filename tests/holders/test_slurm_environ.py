"""GPUs by the environments of tasks: which variable counts where, and who is believed."""

import asyncio
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.holders.jobs import STEPD, stepd, task
from tests.holders.machine import SCOPE, Machine
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey, HolderSource
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.holders.slurm_environ import SlurmEnvironHolders
from wattkeeper.model.state import State

DEVICES = {index: f"gpu/GPU-{index}" for index in range(4)}
WHOLE = 1_000_000
SECOND = 1_000_000_000


class Node:
    """A machine with one Slurm job's cgroup, and both ways of seeing it."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(root)
        self.machine.v2(0)
        stepd(self.machine)
        self.rings = 0
        clock = self.machine.clock
        self.cgroups = CgroupHolders(self.machine.procfs, self.machine.cgroupfs, clock)
        self.environ = SlurmEnvironHolders(
            self.machine.procfs, self.cgroups.lives, lambda: DEVICES, clock, self.ring,
            self.cgroups.died_ns,
        )  # fmt: skip

    def ring(self) -> None:
        """Count the wishes for another look."""
        self.rings += 1

    def job(self, job: str = "7") -> Path:
        """Make a job's cgroup."""
        return self.machine.job(f"{SCOPE}/job_{job}", 0)

    async def look(self, seconds: float = 1) -> None:
        """Look through the whole tree, some time later."""
        self.machine.clock.now_ns += int(seconds * SECOND)
        self.cgroups._scanned_ns = self.cgroups._scanned_ns and -(10**12)
        await self.cgroups.look()
        await self.environ.look()

    def held(self) -> dict[str, list[str]]:
        """Return the jobs by meter."""
        return {
            meter: [claim.holder.raw_id for claim in claims if claim.holder]
            for meter, claims in self.environ.claims().items()
        }

    async def close(self) -> None:
        """Stop watching."""
        await self.environ.close()
        await self.cgroups.close()


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    """Return a node that has looked once."""
    node = Node(tmp_path)
    await node.look()
    return node


async def test_a_batch_script_and_its_step(node: Node) -> None:
    """The script has the job's GPUs, the step its own; the inherited list is of another node."""
    job = node.job()
    task(node.machine, job / "step_batch", 10, SLURM_JOB_ID="7", SLURM_JOB_GPUS="1")
    await node.look()
    assert {"gpu/GPU-1": ["7"]} == node.held()
    task(
        node.machine, job / "step_0/user/task_0", 11,
        SLURM_JOB_ID="7", SLURM_JOB_GPUS="0,1", SLURM_STEP_GPUS="2,3", CUDA_VISIBLE_DEVICES="0",
    )  # fmt: skip
    await node.look()
    assert {"gpu/GPU-1": ["7"], "gpu/GPU-2": ["7"], "gpu/GPU-3": ["7"]} == node.held()
    (claim,) = node.environ.claims()["gpu/GPU-1"]
    key = HolderKey("slurm", "7", claim.holder.birth_ms if claim.holder else 0)
    assert Claim(key, reserved_ppm=WHOLE, allocated=True) == claim
    source: HolderSource = node.environ
    assert {"job_id": "7"} == source.infos()[key].labels
    assert [State.OK] == [finding.state for finding in source.findings()]
    await node.close()


async def test_a_claim_counts_from_birth_to_death(node: Node) -> None:
    """However late the environment shows, and however late the look that finds the end."""
    born_ns = node.machine.clock.now_ns + SECOND
    job = node.job()
    await node.look()
    assert () == node.environ.fresh()
    task(node.machine, job / "step_0", 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    await node.look()
    (key,) = node.environ.infos()
    (edge,) = node.environ.fresh()
    assert (key, True, ("gpu/GPU-0",)) == (edge.key, edge.started, edge.meters)
    assert 0 <= born_ns - edge.boot_ns < 1_000_000  # births are in milliseconds
    await node.look()
    assert () == node.environ.fresh()
    node.machine.end(f"{SCOPE}/job_7")
    await node.look()
    died_ns = node.machine.clock.now_ns
    assert (HolderEdge(key, False, died_ns, ("gpu/GPU-0",)),) == node.environ.fresh()
    assert {} == node.held()
    assert [False] == [found.started for found in node.environ.edges(died_ns - 1)]
    assert [key] == list(node.environ.infos())  # its last joules are booked after this look
    await node.look()
    assert {} == node.environ.infos()
    await node.close()


async def test_who_is_not_started_by_slurmstepd_is_not_asked(node: Node) -> None:
    """A user's own child may say what it likes, and so may a program called slurmstepd."""
    job = node.job()
    task(node.machine, job / "step_0", 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    task(node.machine, job / "step_0", 11, parent=10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="1")
    task(node.machine, job / "step_extern", 12, SLURM_JOB_ID="7", SLURM_STEP_GPUS="2")
    await node.look()
    assert {"gpu/GPU-0": ["7"]} == node.held()
    await node.close()


async def test_the_first_word_stays(node: Node) -> None:
    """A task that rewrites its environment later gains nothing; another process does count."""
    folder = node.job() / "step_0"
    task(node.machine, folder, 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    await node.look()
    task(node.machine, folder, 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="1,2,3")
    await node.look()
    assert {"gpu/GPU-0": ["7"]} == node.held()
    task(node.machine, folder, 10, 99, SLURM_JOB_ID="7", SLURM_STEP_GPUS="1")
    await node.look()
    assert ["gpu/GPU-0", "gpu/GPU-1"] == sorted(node.held())
    await node.close()


@pytest.mark.parametrize("value", ["x", "0-3", "-1", "99999", "0,one", "½"])
async def test_nonsense_is_not_believed(node: Node, value: str) -> None:
    """It is told, with the job."""
    task(node.machine, node.job() / "step_0", 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS=value)
    await node.look()
    assert {} == node.held()
    told = {finding.subject: finding for finding in node.environ.findings()}
    assert "job 7: SLURM_STEP_GPUS" in told["environ/values"].detail
    await node.close()


async def test_an_index_that_fits_no_gpu_is_told(node: Node) -> None:
    """The others count."""
    task(node.machine, node.job() / "step_0", 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="3,17")
    await node.look()
    assert {"gpu/GPU-3": ["7"]} == node.held()
    told = {finding.subject: finding.detail for finding in node.environ.findings()}
    assert told["environ/gpus"].endswith(": 17")
    await node.close()


async def test_shards_are_shared(node: Node) -> None:
    """Nothing of the GPU is reserved then."""
    task(
        node.machine, node.job() / "step_0", 10,
        SLURM_JOB_ID="7", SLURM_STEP_GPUS="0", SLURM_SHARDS_ON_NODE="3",
    )  # fmt: skip
    await node.look()
    assert [None] == [claim.reserved_ppm for claim in node.environ.claims()["gpu/GPU-0"]]
    await node.close()


async def test_without_the_right_to_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root without CAP_SYS_PTRACE: denied is told, and is over when it is."""

    def denied(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    task(node.machine, node.job() / "step_0", 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        await node.look()
    (finding,) = node.environ.findings()
    assert (State.DENIED, True) == (finding.state, "CAP_SYS_PTRACE" in finding.fix)
    await node.look()
    assert {"gpu/GPU-0": ["7"]} == node.held()
    assert [State.OK] == [finding.state for finding in node.environ.findings()]
    await node.close()


async def test_a_young_job_is_looked_at_again_soon(node: Node) -> None:
    """Its task has not been executed yet: no sample is asked for until it names a GPU."""
    folder = node.job() / "step_0"
    task(node.machine, folder, 10)  # forked, still with slurmstepd's own environment
    await node.look(0)
    (job,) = node.environ._jobs.values()
    async with asyncio.timeout(5):
        while job.retries < 2:
            await asyncio.sleep(0)
    assert 0 == node.rings
    task(node.machine, folder, 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    async with asyncio.timeout(5):
        while not node.rings:
            await asyncio.sleep(0)
    assert {} == node.held()
    await node.look(0)
    assert {"gpu/GPU-0": ["7"]} == node.held()
    assert (None, None, 1) == (node.environ._timer, node.environ._retry, node.rings)
    await node.close()


async def test_closing_while_a_job_is_awaited(node: Node) -> None:
    """Neither the timer nor the look that it began is left behind."""
    task(node.machine, node.job() / "step_0", 10)
    await node.look(0)
    await node.close()
    await node.look(0)
    async with asyncio.timeout(5):
        while node.environ._retry is None:
            await asyncio.sleep(0)
    await node.close()
    assert 0 == node.rings


async def test_a_job_without_gpus_is_not_looked_at_in_vain(node: Node) -> None:
    """Once its task is known to name none, there is nothing to wait for."""
    task(node.machine, node.job() / "step_batch", 10, SLURM_JOB_ID="7")
    await node.look(0)
    assert node.environ._timer is None
    assert {} == node.held()
    await node.close()


async def test_a_folder_that_slurm_forgot_holds_nothing(node: Node) -> None:
    """A minute after its last process."""
    folder = node.job() / "step_0"
    task(node.machine, folder, 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    await node.look()
    (folder / "cgroup.procs").write_text("")
    held = []
    for _ in range(12):
        await node.look(20)
        held.append(bool(node.held()))
    assert [True, True, False] == [held[0], held[2], held[-1]]
    assert sorted(held, reverse=True) == held
    await node.close()


async def test_ten_thousand_processes_cost_little(node: Node) -> None:
    """Only the first few hundred of a step are ever looked at."""
    folder = node.job() / "step_0"
    task(node.machine, folder, 10, SLURM_JOB_ID="7", SLURM_STEP_GPUS="0")
    pids = "".join(f"{pid}\n" for pid in range(10, 10_010))
    (folder / "cgroup.procs").write_text(pids)
    for pid in range(11, 600):
        shutil.copytree(node.machine.procfs / str(STEPD), node.machine.procfs / str(pid))
    for _ in range(10):
        await node.look()
    assert {"gpu/GPU-0": ["7"]} == node.held()
    (job,) = node.environ._jobs.values()
    assert len(job.steps["step_0"].read) == 512
    await node.close()


NAMES = st.sampled_from(["step_batch", "step_0", "step_1", "step_extern", "step_interactive"])
VALUES = st.lists(st.integers(0, 5), max_size=3).map(lambda found: ",".join(map(str, found)))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(NAMES, VALUES, VALUES, st.booleans()), max_size=6))
def test_only_what_slurm_said_is_claimed(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[tuple[str, str, str, bool]]
) -> None:
    """Whatever tasks there are: exactly the union of what each step's own variable says."""

    async def run() -> None:
        node = Node(tmp_path_factory.mktemp("m"))
        await node.look()
        expected: set[int] = set()
        for number, (name, of_job, of_step, ours) in enumerate(tasks):
            task(
                node.machine, node.job() / name, 10 + number, parent=STEPD if ours else 1,
                SLURM_JOB_ID="7", SLURM_JOB_GPUS=of_job, SLURM_STEP_GPUS=of_step,
            )  # fmt: skip
            said = of_job if name == "step_batch" else of_step
            if ours and name != "step_extern":
                expected |= {int(index) for index in said.split(",") if index}
            await node.look()
        assert {DEVICES[index] for index in expected if index in DEVICES} == set(node.held())
        await node.close()

    asyncio.run(run())


async def test_what_has_ended_is_forgotten(node: Node) -> None:
    """Of steps and short processes that have ended only the GPUs stay that they named."""
    job = node.job()
    task(node.machine, job / "step_batch", 10, SLURM_JOB_ID="7", SLURM_JOB_GPUS="0")
    for number in range(20):
        step = job / f"step_{number}"
        task(node.machine, step, 100 + number, SLURM_JOB_ID="7", SLURM_STEP_GPUS="1")
        (job / "step_batch/cgroup.procs").write_text("10\n")
        task(node.machine, job / "step_batch", 200 + number, parent=10)
        await node.look()
        shutil.rmtree(step)
    await node.look()
    (known,) = node.environ._jobs.values()
    assert ["step_batch"] == list(known.steps)
    assert {10, 219} == {pid for pid, _ in known.steps["step_batch"].read}
    assert {"gpu/GPU-0": ["7"], "gpu/GPU-1": ["7"]} == node.held()
    await node.close()
