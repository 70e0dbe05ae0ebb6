"""Pods on the real programs: from the kubelet's socket to the ledger, to the microjoule."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Site, until
from tests.fake_nvml.library import FakeNvml
from tests.kubelet.server import Kubelet, pod

pytestmark = pytest.mark.compiler

FIRST, SECOND, SHARED_1, SHARED_2, SLICED = (
    f"5c89852c-d268-4f3a-9b07-{n:012x}" for n in range(1, 6)
)
SLICE = "MIG-8ac3b1f2-0f4e-5d53-9d6e-3c2f3b1a9c10"


class PodNode:
    """A node of the site whose pods come and go as their cgroups and folders of logs do."""

    def __init__(self, site: Site, kubelet: Kubelet) -> None:
        self.site = site
        self.kubelet = kubelet
        self.logs = site.folder / "pods"
        self.logs.mkdir()
        self._aside = site.folder / "aside"
        self._aside.mkdir()
        (site.cgroupfs / "cgroup.controllers").write_text("cpu\n")
        (site.cgroupfs / "kubepods.slice").mkdir()
        self.flags = (
            "--kubernetes.pod-resources", str(kubelet.socket),
            "--kubernetes.pod-logs", str(self.logs),
        )  # fmt: skip

    def comes(self, uid: str, name: str) -> None:
        """Start a pod that the kubelet lists already."""
        (self.logs / f"default_{name}_{uid}").mkdir()
        made = self._aside / uid
        made.mkdir()
        (made / "cpu.stat").write_text("usage_usec 0\n")
        made.rename(self._cgroup(uid))

    def goes(self, uid: str) -> None:
        """End a pod; its folder of logs stays for a while, and so does what the kubelet lists."""
        gone = self._aside / f"gone-{uid}"
        self._cgroup(uid).rename(gone)
        shutil.rmtree(gone)

    def await_allocated(self, gpus: int) -> None:
        """Wait until the agent knows of so many GPU devices of pods."""
        series = 'wattkeeper_pod_gpus{node="n1",state="allocated"}'
        until(f"{gpus} allocated", lambda: (self.site.samples() or {}).get(series) == gpus)

    def pays_uj(self, uid: str) -> int | None:
        """Return the energy that the ledger has booked to a pod."""
        shown = self.site.ask(f"/v1/jobs/default/{uid}")
        return None if shown is None else int(shown["energy_by_component_uj"].get("gpu", 0))

    def _cgroup(self, uid: str) -> Path:
        folder = f"kubepods-pod{uid.replace('-', '_')}.slice"
        return self.site.cgroupfs / "kubepods.slice" / folder


@pytest.fixture
def node(site: Site) -> Iterator[PodNode]:
    """Return a node with a kubelet that listens."""
    with TemporaryDirectory(dir="/tmp") as folder:  # a socket's path has to be short
        kubelet = Kubelet(Path(folder) / "kubelet.sock").start()
        yield PodNode(site, kubelet)
        kubelet.stop()


def test_every_joule_finds_its_pod(
    site: Site, node: PodNode, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """A pod, its successor under the same name, and two that share a GPU; the kubelet restarts."""
    site.aggregator()
    site.agent(*node.flags)
    site.await_first_window(uuids)
    crank.turn(1)
    period = [crank.drawn_uj(i) for i in range(4)]

    listed = pod("train-0", {"main": [("nvidia.com/gpu", [uuids[0]])]})
    shared = [
        pod(f"shared-{n}", {"main": [("nvidia.com/gpu.shared", [f"{uuids[1]}::{n}"])]})
        for n in range(2)
    ]
    node.kubelet.pods = [listed, *shared]
    node.comes(FIRST, "train-0")
    node.comes(SHARED_1, "shared-0")
    node.comes(SHARED_2, "shared-1")
    node.await_allocated(3)
    node.kubelet.stop()
    crank.turn(2)
    node.kubelet.start()
    node.goes(FIRST)
    node.await_allocated(2)
    crank.turn(1)
    node.comes(SECOND, "train-0")
    node.await_allocated(3)
    crank.turn(1)

    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("the ledger has it all", lambda: truth == site.measured_uj())
    assert (node.pays_uj(FIRST), node.pays_uj(SECOND)) == (2 * period[0], period[0])
    halves = (node.pays_uj(SHARED_1) or 0, node.pays_uj(SHARED_2) or 0)
    assert sum(halves) == 4 * period[1]
    assert abs(halves[0] - halves[1]) <= 4 * 100  # a microjoule of each split
    balance = site.cli("balance", "--url", site.aggregator_url, "--format", "json")
    assert (balance.returncode, json.loads(balance.stdout)["residual_uj"]) == (0, "0")


def test_doctor_tells_of_the_kubelet(
    site: Site, node: PodNode, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """What pods were given, what nobody has, and of which device nobody knows what it is."""
    fake.gpu(2).slice((SLICE, "1g.10gb", 1))
    node.kubelet.pods = [
        pod("a", {"main": [("nvidia.com/gpu", [uuids[0]])]}),
        pod("b", {"main": [("nvidia.com/mig-1g.10gb", [SLICE])]}),
    ]
    node.kubelet.allocatable = [{"resource_name": "nvidia.com/gpu", "device_ids": uuids[:2]}]
    node.comes(FIRST, "a")
    node.comes(SLICED, "b")
    findings = _doctor(site, node)
    assert findings["pod-resources"]["state"] == "ok"
    assert findings["pod-resources"]["detail"] == "2 pods, 2 of them with GPUs"
    allocatable = findings["pod-resources/allocatable"]["detail"]
    assert allocatable == f"2 GPU devices allocatable, 1 of them free: {uuids[1]}"
    node.kubelet.pods[1] = pod("b", {"main": [("nvidia.com/mig-1g.10gb", [SLICE[:-1] + "1"])]})
    assert _doctor(site, node)["pod-resources/devices"]["state"] == "failing"


def _doctor(site: Site, node: PodNode) -> dict[str, dict[str, str]]:
    done = site.cli(
        "doctor", "--format", "json", "--data-dir", str(site.agent_dir),
        "--path.sysfs", str(site.sysfs), "--path.cgroupfs", str(site.cgroupfs), *node.flags,
    )  # fmt: skip
    return {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
