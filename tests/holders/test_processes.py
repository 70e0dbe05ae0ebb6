"""Holders by the processes on each GPU."""

from pathlib import Path

import pytest

from tests.holders.machine import SCOPE, Machine
from tests.sources.tree import put
from wattkeeper.holders.base import Claim, HolderKey, HolderSource
from wattkeeper.holders.processes import ProcessHolders
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import State
from wattkeeper.sources.base import DeviceProcess

Listed = dict[str, list[DeviceProcess]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without processes."""
    return Machine(tmp_path)


def holders_of(machine: Machine, listed: Listed, births: dict[str, int]) -> ProcessHolders:
    """Return holders that know the births of some jobs from elsewhere."""
    return ProcessHolders(
        lambda: listed, machine.procfs, machine.clock, lambda manager, raw_id: births.get(raw_id)
    )


async def test_claims_by_cgroup(machine: Machine) -> None:
    """Processes of one job are one claim, with their weights summed; others are the machine's."""
    machine.process(1, 10, f"/{SCOPE}/job_7/step_0")
    machine.process(2, 11, f"/{SCOPE}/job_7/step_1")
    machine.process(3, 12, "/system.slice/xorg.service")
    listed: Listed = {
        "gpu/a": [
            DeviceProcess(1, 300_000),
            DeviceProcess(2, 200_000),
            DeviceProcess(3, 10_000),
        ],
        "gpu/b": [],
    }
    holders: HolderSource = holders_of(machine, listed, {"7": 5})
    await holders.look()
    key = HolderKey("slurm", "7", 5)
    assert holders.claims() == {"gpu/a": (Claim(key, 500_000), Claim(None, 10_000)), "gpu/b": ()}
    assert holders.infos()[key].labels == {"job_id": "7"}
    assert holders.findings()[0].state == State.OK
    await holders.close()


async def test_one_unknown_weight_leaves_the_holders_unknown(machine: Machine) -> None:
    """A sum with a missing part is missing, in whichever order they are listed."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    machine.process(2, 10, f"/{SCOPE}/job_7")
    one, two = DeviceProcess(1, 300_000), DeviceProcess(2)
    holders = holders_of(machine, {"gpu/a": [one, two], "gpu/b": [two, one]}, {"7": 5})
    await holders.look()
    assert [claims[0].weight for claims in holders.claims().values()] == [None, None]


async def test_unknown_birth_is_the_first_process_and_stays(machine: Machine) -> None:
    """Without a cgroup holder the job is as old as its oldest process seen, from then on."""
    machine.process(1, 20, f"/{SCOPE}/job_7")
    machine.process(2, 10, f"/{SCOPE}/job_7")
    listed: Listed = {"gpu/a": [DeviceProcess(1), DeviceProcess(2)]}
    births: dict[str, int] = {}
    holders = holders_of(machine, listed, births)
    await holders.look()
    hour_ms = 3_600_000
    assert [key.birth_ms for key in holders.infos()] == [hour_ms + 10_000]
    listed["gpu/a"] = [DeviceProcess(1)]
    await holders.look()
    assert [key.birth_ms for key in holders.infos()] == [hour_ms + 10_000]
    births["7"] = 42
    await holders.look()
    assert [key.birth_ms for key in holders.infos()] == [42]


async def test_a_reused_pid_is_another_process(machine: Machine) -> None:
    """The job of a pid is remembered with the start time, and asked again with another."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    holders = holders_of(machine, {"gpu/a": [DeviceProcess(1)]}, {"7": 7, "8": 8})
    await holders.look()
    put(machine.procfs / "1", {"cgroup": f"0::/{SCOPE}/job_8\n"})
    await holders.look()
    assert [key.raw_id for key in holders.infos()] == ["7"]
    machine.process(1, 99, f"/{SCOPE}/job_8")
    await holders.look()
    assert [key.raw_id for key in holders.infos()] == ["8"]


async def test_an_ended_process_claims_nothing(machine: Machine) -> None:
    """The driver's list may be seconds old."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    holders = holders_of(machine, {"gpu/a": [DeviceProcess(1), DeviceProcess(2)]}, {"7": 7})
    await holders.look()
    assert [claim.holder for claim in holders.claims()["gpu/a"]] == [HolderKey("slurm", "7", 7)]
    assert holders.findings()[0].state == State.OK


async def test_foreign_pid_namespace_is_said(machine: Machine) -> None:
    """When no process of the driver's list exists here, the agent sits in a container."""
    holders = holders_of(machine, {"gpu/a": [DeviceProcess(1), DeviceProcess(2)]}, {})
    await holders.look()
    assert holders.claims() == {"gpu/a": ()}
    assert holders.findings()[0].state == State.FAILING
    assert "hostPID" in holders.findings()[0].fix


async def test_v1_lines_and_colons(machine: Machine) -> None:
    """Any hierarchy that names the job will do; containerd puts colons into paths."""
    uid = "3f1d6d2e-0a4b-4c8e-9a51-7b1c0d9e8f70"
    machine.process(1, 10)
    lines = (
        f"9:name=systemd:/\n5:devices:/kubepods-pod{uid}.slice:cri-containerd:{'a' * 64}\n0::/\n"
    )
    put(machine.procfs / "1", {"cgroup": lines})
    holders = holders_of(machine, {"gpu/a": [DeviceProcess(1)]}, {})
    await holders.look()
    assert [(key.manager, key.raw_id) for key in holders.infos()] == [("kubernetes", uid)]


async def test_unknown_lists_claim_nothing(machine: Machine) -> None:
    """No list yet, or the list of a lost GPU: no claim rather than an idle GPU."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    listed: Listed = {}
    holders = holders_of(machine, listed, {"7": 7})
    await holders.look()
    assert holders.claims() == {}
    listed["gpu/a"] = [DeviceProcess(1)]
    await holders.look()
    del listed["gpu/a"]
    await holders.look()
    assert holders.claims() == {}
    assert holders.infos() == {}


async def test_all_processes_are_known_where_procfs_has_each(machine: Machine) -> None:
    """A pid of another namespace could be anybody's: nothing is known of who is not there."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    listed: Listed = {"gpu/a": [DeviceProcess(1)], "gpu/b": [DeviceProcess(4711)], "gpu/c": []}
    holders = holders_of(machine, listed, {"7": 5})
    await holders.look()
    assert set(holders.listed()) == {"gpu/a", "gpu/c"}


async def test_an_mps_server_is_told_by_its_name(machine: Machine) -> None:
    """It runs as root outside of any job, and its clients in theirs."""
    machine.process(1, 10, "/system.slice/mps.service")
    machine.process(2, 11, f"/{SCOPE}/job_7")
    put(machine.procfs, {"1/comm": "nvidia-cuda-mps\n", "2/comm": "python\n"})
    listed: Listed = {"gpu/a": [DeviceProcess(1, 900_000), DeviceProcess(2, 0)]}
    holders = holders_of(machine, listed, {"7": 5})
    await holders.look()
    assert holders.claims() == {"gpu/a": (Claim(HolderKey("slurm", "7", 5)),)}


async def test_a_process_on_an_instance_claims_it(machine: Machine) -> None:
    """Its job holds that part of the GPU, as the source says it is."""
    machine.process(1, 10, f"/{SCOPE}/job_7")
    part = Partition("MIG-1", "gpu/a", 3, 125_000, 142_857)
    holders = ProcessHolders(
        lambda: {"gpu/a": [DeviceProcess(1, None, "MIG-1")]},
        machine.procfs,
        machine.clock,
        lambda _manager, _raw_id: 5,
        partitions=lambda: {"MIG-1": part},
    )
    await holders.look()
    key = HolderKey("slurm", "7", 5)
    claim = Claim(key, 142_857, 125_000, 142_857, partitions=("MIG-1",))
    assert holders.claims() == {"gpu/a": (claim,)}
