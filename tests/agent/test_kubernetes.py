"""How an agent is put together to ask the kubelet."""

from pathlib import Path

import pytest

from tests.holders.machine import Machine
from wattkeeper.agent import kubernetes
from wattkeeper.agent.config import AgentSettings, KubernetesSection
from wattkeeper.agent.gpus import NodeGpus
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import State
from wattkeeper.settings import load

UID = "5c89852c-d268-4f3a-9b07-000000000001"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without cgroups."""
    return Machine(tmp_path)


def test_switched_off(machine: Machine) -> None:
    """Nothing is asked, and nothing is shown, where it is switched off."""
    settings = load(
        AgentSettings, program="agent", environ={"WATTKEEPER_AGENT_KUBERNETES__ENABLED": "false"}
    )
    assert settings.kubernetes.enabled is False
    cgroups = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    gpus = NodeGpus(load(AgentSettings, program="agent", environ={}))
    assert kubernetes.ways(settings.kubernetes, cgroups, gpus, machine.clock, None) == []
    assert kubernetes.gauges([]) == []


@pytest.mark.parametrize(("enabled", "state"), [(None, State.ABSENT), (True, State.FAILING)])
async def test_without_a_kubelet(machine: Machine, enabled: bool | None, state: State) -> None:
    """Asked by itself it is absent, asked for by hand it is a failure; nothing is counted."""
    settings = KubernetesSection(enabled=enabled, pod_resources=machine.procfs / "kubelet.sock")
    cgroups = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    gpus = NodeGpus(load(AgentSettings, program="agent", environ={}))
    [way] = kubernetes.ways(settings, cgroups, gpus, machine.clock, None)
    await way.look()
    assert [finding.state for finding in way.findings()] == [state]
    assert kubernetes.gauges([way]) == []
    await way.close()


async def test_the_pods_that_have_a_cgroup(machine: Machine) -> None:
    """Pods by UID, and None where no cgroup can be seen: then nothing is known of lives."""
    cgroups = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock)
    await cgroups.look()
    assert kubernetes.pods(cgroups) is None
    machine.v2()
    machine.job(f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice", 5)
    machine.job("system.slice/slurmstepd.scope/job_7", 5)
    machine.clock.now_ns += 61 * 10**9
    await cgroups.look()
    found = kubernetes.pods(cgroups)
    assert found is not None
    assert {uid: life.key.manager for uid, life in found.items()} == {UID: "kubernetes"}
    await cgroups.close()


async def test_gauges(machine: Machine) -> None:
    """Counts become one gauge with a state each."""

    class Way:
        def counts(self) -> dict[str, int]:
            return {"allocated": 3, "unclear": 0}

    found = kubernetes.gauges([Way()])  # type: ignore[list-item]  # all that is asked of it
    assert found == [
        Gauge("pod_gpus", (("state", "allocated"),), 3),
        Gauge("pod_gpus", (("state", "unclear"),), 0),
    ]
