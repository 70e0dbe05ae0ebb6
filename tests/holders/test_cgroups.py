"""Jobs seen through cgroups on fixture trees: births, deaths, processor time, identity."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.holders.machine import SCOPE, Machine
from tests.sources.tree import put
from wattkeeper.holders import cgroup_watch
from wattkeeper.holders.base import Claim, HolderKey, HolderSource
from wattkeeper.holders.cgroups import CPUS, CgroupHolders
from wattkeeper.holders.paths import Believed
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import State


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without jobs."""
    return Machine(tmp_path)


def weights(holders: HolderSource) -> dict[str | None, int | None]:
    """Return the weight of each holder on the processors, None standing for the machine."""
    claims = holders.claims()[CPUS]
    return {claim.holder.raw_id if claim.holder else None: claim.weight for claim in claims}


async def test_weights_are_time_since_the_last_look(machine: Machine) -> None:
    """Each job its own, the machine what is left; nothing is known at the first look."""
    machine.v2(10_000)
    machine.job(f"{SCOPE}/job_7", 4_000)
    holders: HolderSource = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    assert weights(holders) == {"7": None, None: None}
    machine.v2(20_000)
    machine.job(f"{SCOPE}/job_7", 7_000)
    await holders.look()
    assert weights(holders) == {"7": 3_000, None: 7_000}
    await holders.close()


async def test_a_job_born_between_looks_brings_all_its_time(machine: Machine) -> None:
    """Its folder starts at zero; when it ends it is gone at once."""
    machine.v2(10_000)
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    machine.job(f"{SCOPE}/job_8", 2_500)
    machine.v2(13_000)
    machine.clock.now_ns += 61_000_000_000
    await holders.look()
    assert weights(holders) == {"8": 2_500, None: 500}
    machine.end(f"{SCOPE}/job_8")
    machine.clock.now_ns += 61_000_000_000
    await holders.look()
    assert weights(holders) == {None: 0}
    assert holders.infos() == {}
    await holders.close()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 9000)),
        min_size=2,
        max_size=6,
    )
)
def test_no_weight_is_ever_negative(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int, int]]
) -> None:
    """Whatever the counters do: jobs above the machine, counters that fall."""
    machine = Machine(tmp_path_factory.mktemp("m"))

    async def run() -> None:
        holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
        for whole, one, two in counts:
            machine.v2(whole)
            machine.job(f"{SCOPE}/job_1", one)
            machine.job(f"{SCOPE}/job_2", two)
            await holders.look()
            assert all(weight is None or weight >= 0 for weight in weights(holders).values())
        assert None not in weights(holders).values()
        await holders.close()

    asyncio.run(run())


async def test_pods_and_jobs_of_several_slurmd(machine: Machine) -> None:
    """One job in the folders of two slurmd is one holder with the sum; a pod is found too."""
    machine.v2(0)
    uid = "3f1d6d2e-0a4b-4c8e-9a51-7b1c0d9e8f70"
    pod = f"kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice"
    paths = ("system.slice/n1_slurmstepd.scope/job_5", "system.slice/n2_slurmstepd.scope/job_5")
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    for busy in (0, 1_000):
        machine.v2(10 * busy)
        for path in (*paths, pod):
            machine.job(path, busy)
        await holders.look()
    assert weights(holders) == {"5": 2_000, uid: 1_000, None: 7_000}
    labels = {info.raw_id: info.labels for info in holders.infos().values()}
    assert labels == {"5": {"job_id": "5"}, uid: {"pod_uid": uid}}
    await holders.close()


async def test_cgroup_v1(machine: Machine) -> None:
    """Slurm on v1: freezer tells who is there, cpuacct how long, cpuset how much."""
    folders = ("cpuacct", "freezer")
    for folder in folders:
        put(machine.cgroupfs / folder, {"cgroup.procs": ""})
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    for busy in (1_000_000, 5_000_000):
        put(machine.cgroupfs / "cpuacct", {"cpuacct.usage": f"{2 * busy}\n"})
        put(machine.cgroupfs / "freezer/slurm/uid_0/job_3", {"cgroup.procs": ""})
        job = machine.cgroupfs / "cpuacct/slurm/uid_0/job_3"
        put(job, {"cpuacct.usage": f"{busy}\n"})
        put(machine.cgroupfs / "cpuset/slurm/uid_0/job_3", {"cpuset.cpus": "0-1\n"})
        await holders.look()
    key = next(iter(holders.infos()))
    assert holders.claims()[CPUS] == (Claim(key, 4_000, 250_000), Claim(None, 4_000))
    await holders.close()


async def test_hybrid_does_not_count_twice(machine: Machine) -> None:
    """A pod shows in cpuacct and in the unified tree: the same time, taken once."""
    put(machine.cgroupfs / "cpuacct", {"cpuacct.usage": "0"})
    pod = "kubepods/pod3f1d6d2e-0a4b-4c8e-9a51-7b1c0d9e8f70"
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    for busy in (0, 3_000):
        machine.v2(busy, "unified")
        machine.job(f"unified/{pod}", busy)
        put(machine.cgroupfs / "cpuacct" / pod, {"cpuacct.usage": f"{busy * 1000}"})
        put(machine.cgroupfs / "cpuacct", {"cpuacct.usage": f"{busy * 1000}"})
        await holders.look()
    assert list(weights(holders).values()) == [3_000, 0]
    await holders.close()


async def test_job_without_processor_time_is_said(machine: Machine) -> None:
    """Slurm v1 without jobacct_gather/cgroup: no weight, not a zero, and a remedy."""
    put(machine.cgroupfs / "freezer/slurm/uid_0/job_3", {"cgroup.procs": ""})
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    # Its cpuacct folder may be about to come.
    assert [State.OK] == [finding.state for finding in holders.findings()]
    machine.clock.now_ns += 6_000_000_000
    await holders.look()
    assert weights(holders) == {"3": None, None: None}
    finding = holders.findings()[-1]
    assert finding.state == State.FAILING
    assert "jobacct_gather/cgroup" in finding.fix
    await holders.close()


async def test_machine_time_falls_back_to_procfs(machine: Machine) -> None:
    """A root cgroup without cpu.stat leaves the ticks of procfs."""
    put(machine.cgroupfs, {"cgroup.controllers": ""})
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    put(machine.procfs, {"stat": "cpu  150 0 150 9 9 0 0 0 0 0\n"})
    await holders.look()
    assert weights(holders) == {None: 1_000_000}
    await holders.close()


@pytest.mark.parametrize(("cpus", "expected"), [("0-1", 250_000), ("0-7", None), ("", None)])
async def test_reserved_is_a_narrower_cpuset(
    machine: Machine, cpus: str, expected: int | None
) -> None:
    """Two of eight processors are a quarter; all of them, or nothing said, is no reservation."""
    machine.v2()
    machine.job(f"{SCOPE}/job_1", 0, cpus)
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    assert [claim.reserved_ppm for claim in holders.claims()[CPUS]] == [expected, None]
    await holders.close()


async def test_birth_is_when_it_was_first_seen(machine: Machine) -> None:
    """A job that is born while the agent watches; the next job of that id is another holder."""
    machine.v2()
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    machine.job(f"{SCOPE}/job_7", 0)
    for _ in range(2):
        machine.clock.now_ns += 61_000_000_000
        await holders.look()
        births = [key.birth_ms for key in holders.infos()]
        assert births == [machine.clock.wall_ns() // 1_000_000]
        assert holders.birth_ms("slurm", "7") == births[0]
        machine.again(f"{SCOPE}/job_7")
    await holders.close()


async def test_birth_before_the_agent_is_its_first_process(machine: Machine) -> None:
    """An unknown job is as old as its oldest process, in whatever step; else it is born now."""
    machine.v2()
    job = machine.job(f"{SCOPE}/job_7", 0)
    put(job / "step_0", {"cgroup.procs": "12\n11\n"})
    put(job / "step_batch", {"cgroup.procs": "999\n"})
    machine.process(11, 250.5, command="a) (b")
    machine.process(12, 300.0)
    machine.job(f"{SCOPE}/job_8", 0)
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    hour_ms = 3_600_000
    assert holders.birth_ms("slurm", "7") == hour_ms + 250_500
    assert holders.birth_ms("slurm", "8") == machine.clock.wall_ns() // 1_000_000
    assert holders.birth_ms("slurm", "9") is None
    await holders.close()


async def test_birth_survives_a_restart_of_the_agent(machine: Machine) -> None:
    """The same cgroup of the same boot keeps its birth; another inode or boot does not."""
    machine.v2()
    for job in ("job_7", "job_8"):
        machine.job(f"{SCOPE}/{job}", 0)
    first = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await first.look()
    born = first.birth_ms("slurm", "7")
    remembered = json.loads(json.dumps(first.remember()))
    await first.close()
    machine.clock.now_ns += 5_000_000_000
    machine.again(f"{SCOPE}/job_8")
    again = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, remembered=remembered)
    await again.look()
    assert again.birth_ms("slurm", "7") == born
    assert again.birth_ms("slurm", "8") != born
    await again.close()
    machine.boot("boot-2")
    rebooted = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, remembered=remembered)
    await rebooted.look()
    assert rebooted.birth_ms("slurm", "7") != born
    await rebooted.close()


async def test_a_clock_set_back_makes_no_births_to_come(machine: Machine) -> None:
    """A job that is there is born, whatever the wall clock said when it began."""
    machine.v2()
    machine.job(f"{SCOPE}/job_7", 0)
    first = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await first.look()
    remembered = first.remember()
    (folder,) = remembered["births"]
    remembered["births"][folder][1] += 600_000
    again = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, remembered=remembered)
    await again.look()
    (life,) = again.lives()
    assert remembered["births"][folder][1] == life.key.birth_ms
    assert machine.clock.now_ns == life.born_ns
    await first.close()
    await again.close()


async def test_edges_wake_at_once(machine: Machine) -> None:
    """A birth and a death call on_edge through inotify, without a look in between."""
    machine.v2()
    (machine.cgroupfs / "system.slice").mkdir()
    edge = asyncio.Event()
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, edge.set)
    await holders.look()
    # The scope itself is new too: the watch has to follow it down before the job is seen.
    machine.job(f"{SCOPE}/job_7", 0)
    async with asyncio.timeout(5):
        await edge.wait()
    key = HolderKey("slurm", "7", machine.clock.wall_ns() // 1_000_000)
    assert holders.infos() == {key: HolderInfo("slurm", "7", key.birth_ms, {"job_id": "7"})}
    edge.clear()
    machine.end(f"{SCOPE}/job_7")
    async with asyncio.timeout(5):
        await edge.wait()
    assert holders.infos() == {}
    assert holders.findings()[0].state == State.OK
    await holders.close()


async def test_a_step_is_no_edge(machine: Machine) -> None:
    """What happens inside a job, or to folders of no job, wakes nobody."""
    machine.v2()
    machine.job(f"{SCOPE}/job_7", 0)
    edge = asyncio.Event()
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, edge.set)
    await holders.look()
    (machine.cgroupfs / SCOPE / "job_7" / "step_0").mkdir()
    (machine.cgroupfs / "system.slice" / "cron.service").mkdir()
    machine.job(f"{SCOPE}/job_8", 0)
    async with asyncio.timeout(5):
        await edge.wait()
    assert {key.raw_id for key in holders.infos()} == {"7", "8"}
    await holders.close()


async def test_lost_events_are_made_up_for(machine: Machine) -> None:
    """After an overflow of the queue the whole tree is looked through."""
    machine.v2()
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    await holders._watch.close()
    machine.job(f"{SCOPE}/job_7", 0)
    await holders._edge(None)
    assert [key.raw_id for key in holders.infos()] == ["7"]
    await holders.close()


async def test_without_inotify_each_look_scans(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more inotify instances: visible, with a remedy, and jobs are still found."""

    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cgroup_watch, "Inotify", none_left)
    machine.v2()
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    machine.job(f"{SCOPE}/job_7", 0)
    await holders.look()
    assert [key.raw_id for key in holders.infos()] == ["7"]
    finding = holders.findings()[0]
    assert finding.state == State.FAILING
    assert "Too many open files" in finding.detail
    assert "max_user_instances" in finding.fix
    await holders.close()


async def test_absent_tree(machine: Machine) -> None:
    """No cgroups at the root given: absent, and nothing is claimed."""
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    assert holders.claims() == {}
    assert holders.findings()[0].state == State.ABSENT
    assert "path.cgroupfs" in holders.findings()[0].fix
    await holders.close()


async def test_slurmd_in_a_pod(machine: Machine) -> None:
    """A job inside a pod pays for itself; the pod for slurmd and what else it does."""
    machine.v2(0)
    uid = "3f1d6d2e-0a4b-4c8e-9a51-7b1c0d9e8f70"
    pod = f"kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice"
    inner = f"{pod}/cri-containerd-{'0' * 64}.scope/{SCOPE}/job_5"
    believed = Believed(in_pods=True)
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, believed=believed)
    for busy in (0, 1_000):
        machine.v2(10 * busy)
        machine.job(pod, 4 * busy)
        machine.job(inner, 3 * busy)
        await holders.look()
    assert {"5": 3_000, uid: 1_000, None: 6_000} == weights(holders)
    labels = {info.raw_id: info.labels for info in holders.infos().values()}
    assert {"5": {"job_id": "5", "pod_uid": uid}, uid: {"pod_uid": uid}} == labels
    machine.end(inner)
    machine.clock.now_ns += 61_000_000_000
    await holders.look()
    assert {uid: 0, None: 0} == weights(holders)
    await holders.close()


async def test_only_the_jobs_of_one_slurmd(machine: Machine) -> None:
    """Of the others' jobs nothing is seen, and their folders are not watched."""
    machine.v2(0)
    machine.job("system.slice/n1_slurmstepd.scope/job_5", 0)
    machine.job("system.slice/n2_slurmstepd.scope/job_6/step_0", 0)
    holders = CgroupHolders(
        machine.procfs, machine.cgroupfs, machine.clock, believed=Believed(nodename="n1")
    )
    await holders.look()
    assert ["5"] == [key.raw_id for key in holders.infos()]
    (life,) = holders.lives()
    assert "n1_slurmstepd.scope/job_5" in str(life.folders[0])
    await holders.close()


async def test_what_users_make_is_not_watched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users may make folders without end below `user.slice`: those cost no looks nor watches."""
    machine.v2(0)
    machine.job("user.slice/user-1.slice/user@1.service/slurmstepd.scope/job_5", 0)
    machine.job("system.slice/slurmstepd.scope/job_6", 0)
    watched: list[Path] = []
    monkeypatch.setattr(cgroup_watch.TreeWatch, "add", lambda _self, place: watched.append(place))
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    assert {"6"} == {key.raw_id for key in holders.infos()}
    assert [] == [place for place in watched if "user.slice" in str(place)]
    assert machine.cgroupfs / SCOPE in watched
    await holders.close()


async def test_when_a_job_died(machine: Machine) -> None:
    """It is kept by its id, also if it ran twice."""
    machine.v2(0)
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await holders.look()
    ends = [0]
    for _ in range(2):
        machine.job(f"{SCOPE}/job_5", 0)
        machine.clock.now_ns += 61_000_000_000
        lived_ns = machine.clock.now_ns
        await holders.look()
        machine.end(f"{SCOPE}/job_5")
        machine.clock.now_ns += 61_000_000_000
        await holders.look()
        died_ns = holders.died_ns("slurm", "5")
        assert died_ns is not None
        assert ends[-1] < lived_ns <= died_ns <= machine.clock.now_ns
        ends.append(died_ns)
    assert holders.died_ns("slurm", "6") is None
    await holders.close()
