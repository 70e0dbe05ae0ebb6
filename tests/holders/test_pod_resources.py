"""Holders by the kubelet's word, from its socket to the claims."""

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest

from tests.kubelet.server import Impostor, Kubelet, pod
from tests.sources.tree import FakeClock, states
from wattkeeper.holders import pod_listing
from wattkeeper.holders.base import Claim, EdgeSource, HolderEdge, HolderKey, HolderSource
from wattkeeper.holders.cgroups import Life
from wattkeeper.holders.pod_resources import NodeView, PodResources
from wattkeeper.model.clock import NS_PER_S
from wattkeeper.model.meter import Component, MeterInfo, Partition
from wattkeeper.model.state import State

A = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
B = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
SLICE = "MIG-cccccccc-0000-0000-0000-000000000000"
ONE, TWO, THREE = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2, 3))
STATIC = "0123456789abcdef0123456789abcdef"
GPU = "nvidia.com/gpu"


class Node:
    """A node with two GPUs, its kubelet's socket, the cgroups of its pods, and a clock."""

    def __init__(self, root: Path) -> None:
        self.kubelet = Kubelet(root / "kubelet.sock")
        self.logs = root / "pods"
        self.logs.mkdir()
        self.clock = FakeClock()
        self.lives: dict[str, Life] | None = {}
        self.deaths: dict[str, int] = {}
        self.partitions: dict[str, Partition] = {}
        self.holders = self.agent()

    def agent(
        self, remembered: dict[str, Any] | None = None, *, wanted: bool = False
    ) -> PodResources:
        """Return the holders of an agent that starts now."""
        meters = [
            MeterInfo(f"gpu/{uuid}", Component.GPU, "nvml", {"gpu": str(n), "minor": str(n)})
            for n, uuid in enumerate((A, B))
        ]
        view = NodeView(
            lambda: self.lives,
            lambda _, uid: self.deaths.get(uid),
            lambda: meters,
            lambda: self.partitions,
        )
        return PodResources(
            self.kubelet.socket, self.logs, view, self.clock, remembered, wanted=wanted
        )

    def born(self, uid: str, name: str, namespace: str = "default") -> HolderKey:
        """Let a pod's cgroup and its folder of logs appear now."""
        assert self.lives is not None
        key = HolderKey("kubernetes", uid, self.clock.wall_ns() // 1_000_000)
        self.lives[uid] = Life(key, self.clock.boot_ns(), ())
        self.log(uid, name, namespace)
        return key

    def log(self, uid: str, name: str, namespace: str = "default") -> None:
        """Let only the folder of logs appear."""
        (self.logs / f"{namespace}_{name}_{uid}").mkdir()

    def ends(self, uid: str) -> int:
        """Let a pod's cgroup go now; return the instant."""
        assert self.lives is not None
        del self.lives[uid]
        self.deaths[uid] = self.clock.boot_ns()
        return self.deaths[uid]

    async def look(self, after_s: float = 1) -> dict[str, tuple[Claim, ...]]:
        """Let time pass and the agent look; return the claims."""
        self.clock.now_ns += int(after_s * NS_PER_S)
        await self.holders.look()
        return dict(self.holders.claims())  # type: ignore[arg-type]  # tuples they are

    def state(self, subject: str = "pod-resources") -> State | None:
        """Return the state of a finding."""
        return states(list(self.holders.findings())).get(subject)

    def said(self, subject: str = "pod-resources") -> str:
        """Return detail and fix of a finding."""
        return next(
            f"{f.detail} | {f.fix}" for f in self.holders.findings() if f.subject == subject
        )


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """Return a node whose kubelet listens, and an agent that waits for it on a busy machine."""
    monkeypatch.setattr(pod_listing, "_PATIENCE_S", 10.0)
    monkeypatch.setattr(pod_listing, "_FIRST_PATIENCE_S", 10.0)
    with TemporaryDirectory(dir="/tmp") as root:
        made = Node(Path(root))
        made.kubelet.start()
        yield made
        await made.holders.close()
        made.kubelet.stop()


def alone(key: HolderKey) -> tuple[Claim, ...]:
    """Return the claim of whoever has a GPU alone."""
    return (Claim(key, reserved_ppm=1_000_000, allocated=True),)


def one_gpu(name: str, uuid: str, namespace: str = "default") -> object:
    """Return a listed pod with one GPU."""
    return pod(name, {"main": [(GPU, [uuid])]}, namespace)


async def test_a_pod_from_birth_to_death(node: Node) -> None:
    """It has its GPU from its cgroup's birth to its cgroup's death, though still listed then."""
    holders: HolderSource = node.holders
    assert await node.look() == {}
    node.kubelet.pods = [one_gpu("train-0", A, "team")]
    key = node.born(ONE, "train-0", "team")
    born_ns = node.clock.boot_ns()
    assert await node.look() == {f"gpu/{A}": alone(key)}
    assert holders.infos()[key].labels == {
        "namespace": "team",
        "name": "train-0",
        "containers": "main",
        "pod_uid": ONE,
    }
    assert node.holders.fresh() == (HolderEdge(key, True, born_ns, (f"gpu/{A}",)),)
    assert await node.look(3) == {f"gpu/{A}": alone(key)}
    assert node.holders.fresh() == ()
    died_ns = node.ends(ONE)
    assert await node.look() == {}
    assert node.holders.fresh() == (HolderEdge(key, False, died_ns, (f"gpu/{A}",)),)
    assert len(node.holders.edges(0)) == 2
    assert isinstance(node.holders, EdgeSource)
    assert node.state() is State.OK


async def test_asks_rarely_and_at_once_when_a_pod_comes(node: Node) -> None:
    """List every 10 s; a new pod is asked for by name, until it has a device or 5 s are over."""
    await node.look()
    for _ in range(9):
        await node.look()
    assert node.kubelet.calls == {"List": 1, "GetAllocatableResources": 1}
    await node.look()
    assert node.kubelet.calls["List"] == 2
    node.born(ONE, "late")
    node.kubelet.pods = [pod("late", {"main": []})]
    assert await node.look() == {}
    assert node.kubelet.calls["Get"] == 1
    # DRA: the devices are known once they are prepared.
    claim = {"driver_name": "gpu.nvidia.com", "device_name": "gpu-1"}
    node.kubelet.pods = [pod("late", {"main": []}, claims=[claim])]
    assert list(await node.look()) == [f"gpu/{B}"]
    assert node.kubelet.calls["Get"] == 2
    await node.look()
    assert node.kubelet.calls["Get"] == 2
    assert node.kubelet.calls["List"] == 2


@pytest.mark.parametrize("how", ["unoffered", "disabled"])
async def test_a_kubelet_without_get(node: Node, how: str) -> None:
    """Where Get and GetAllocatableResources are not offered List does it all."""
    node.kubelet.stop()
    setattr(node.kubelet, how, {"Get", "GetAllocatableResources"})
    node.kubelet.start()
    await node.look()
    key = node.born(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    assert await node.look() == {f"gpu/{A}": alone(key)}
    assert node.state() is State.OK
    assert node.state("pod-resources/allocatable") is None


async def test_a_pod_whose_log_folder_is_late(node: Node) -> None:
    """The cgroup comes before the folder: the claim waits for it, then counts from the birth."""
    await node.look()
    key = node.born(ONE, "a")
    (node.logs / f"default_a_{ONE}").rmdir()
    node.kubelet.pods = [one_gpu("a", A)]
    assert await node.look() == {}
    node.log(ONE, "a")
    assert await node.look() == {f"gpu/{A}": alone(key)}
    assert node.lives is not None
    assert [edge.boot_ns for edge in node.holders.fresh()] == [node.lives[ONE].born_ns]


async def test_a_name_that_comes_back(node: Node) -> None:
    """A pod of a StatefulSet is another holder under its old name."""
    node.kubelet.pods = [one_gpu("db-0", A)]
    first = node.born(ONE, "db-0")
    assert await node.look() == {f"gpu/{A}": alone(first)}
    node.ends(ONE)
    assert await node.look() == {}
    second = node.born(TWO, "db-0")
    assert await node.look() == {f"gpu/{A}": alone(second)}
    assert first != second


async def test_a_pod_that_had_ended_before_the_agent_came(node: Node) -> None:
    """Ended pods that are listed with devices hold nothing."""
    node.log(ONE, "done")
    live = node.born(TWO, "b")
    node.kubelet.pods = [one_gpu("done", A), one_gpu("b", B)]
    assert await node.look() == {f"gpu/{B}": alone(live)}


async def test_static_pods_and_several_containers(node: Node) -> None:
    """One holder per pod, whatever containers list a device; static pods have 32-digit UIDs."""
    key = node.born(STATIC, "gpu-agent-node1", "kube-system")
    ids = [(GPU, [A, B])]
    node.kubelet.pods = [
        pod("gpu-agent-node1", {"init": [(GPU, [A])], "one": ids, "two": []}, "kube-system")
    ]
    assert await node.look() == {f"gpu/{A}": alone(key), f"gpu/{B}": alone(key)}
    assert node.holders.infos()[key].labels["containers"] == "init,one,two"


async def test_sharing(node: Node) -> None:
    """Slices reserve their part, turns nothing; GKE's ids are read by minor and instance."""
    node.partitions = {SLICE: Partition(SLICE, f"gpu/{A}", 3, 125_000, 142_857)}
    one, two, three = node.born(ONE, "a"), node.born(TWO, "b"), node.born(THREE, "c")
    node.kubelet.pods = [
        pod("a", {"main": [("nvidia.com/mig-1g.10gb", [SLICE])]}),
        pod("b", {"main": [("nvidia.com/gpu.shared", [f"{B}::3"])]}),
        pod("c", {"main": [(GPU, ["nvidia1/vgpu0"])]}),
    ]
    sliced = Claim(
        one, reserved_ppm=125_000, compute_ppm=142_857, allocated=True, partitions=(SLICE,)
    )
    expected = {
        f"gpu/{A}": (sliced,),
        f"gpu/{B}": (Claim(two, allocated=True), Claim(three, allocated=True)),
    }
    assert await node.look() == expected
    node.kubelet.pods[0] = pod("a", {"main": [(GPU, ["nvidia0/gi3"])]})
    assert await node.look(10) == expected


async def test_what_cannot_be_read_is_said(node: Node) -> None:
    """Devices that are not certain, and other makers' GPUs, are findings and no claims."""
    node.born(ONE, "a")
    node.kubelet.pods = [
        pod(
            "a",
            {"main": [(GPU, [SLICE]), ("amd.com/gpu", ["card0"]), ("rdma/hca", ["mlx5_0"])]},
            claims=[{"driver_name": "gpu.nvidia.com", "device_name": "gpu-0-mig-1g10gb-19-4"}],
        )
    ]
    assert await node.look() == {}
    assert node.state("pod-resources/devices") is State.FAILING
    assert node.said("pod-resources/devices") == (
        "not certain which GPU these are: gpu.nvidia.com gpu-0-mig-1g10gb-19-4, "
        f"{GPU} {SLICE} | "
        "compare with `nvidia-smi -L`; after a MIG change restart the device plugin"
    )
    assert node.state("pod-resources/others") is State.ABSENT
    assert "amd.com/gpu card0" in node.said("pod-resources/others")
    assert "mlx5_0" not in "".join(f.detail for f in node.holders.findings())


async def test_allocatable(node: Node) -> None:
    """GPUs that pods may be given and nobody holds are named."""
    node.born(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    node.kubelet.allocatable = [
        {"resource_name": GPU, "device_ids": [A, B]},
        {"resource_name": "rdma/hca", "device_ids": ["mlx5_0"]},
    ]
    await node.look()
    assert node.said("pod-resources/allocatable") == (
        f"2 GPU devices allocatable, 1 of them free: {B} | "
    )


async def test_allocatable_that_is_refused(node: Node) -> None:
    """What pods may be given is extra: without it the claims stand and all is well."""
    key = node.born(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    node.kubelet.refusing = {"GetAllocatableResources": grpc.StatusCode.INTERNAL}
    assert await node.look() == {f"gpu/{A}": alone(key)}
    assert node.state() is State.OK
    assert node.state("pod-resources/allocatable") is None


async def test_no_kubelet(node: Node) -> None:
    """Without a socket there is no Kubernetes here, which is nothing to mend."""
    node.kubelet.stop()
    assert await node.look() == {}
    assert node.state() is State.ABSENT
    assert node.said().endswith("is not there) | ")
    node.kubelet.start()
    await node.look()
    assert node.state() is State.ABSENT
    await node.look(10)
    assert node.state() is State.OK


async def test_agent_and_kubelet_start_anew_together(node: Node) -> None:
    """What a kubelet said before still stands for pods that live, whatever it says first."""
    key = node.born(ONE, "train")
    node.kubelet.pods = [one_gpu("train", A), pod("web", {"main": []})]
    claims = await node.look()
    assert list(claims) == [f"gpu/{A}"]
    kept = json.loads(json.dumps(node.holders.remember()))
    node.kubelet.stop()
    node.holders = node.agent(kept)
    assert claims == await node.look()
    node.kubelet.pods = []
    node.kubelet.start()
    assert claims == await node.look(after_s=11)
    assert key in node.holders.infos()
    node.holders = node.agent(kept)
    node.kubelet.stop()
    assert {} == await node.look(after_s=601)


@pytest.mark.parametrize("devices", [None, []])
async def test_a_kubelet_that_has_just_started_lists_nothing(
    node: Node, devices: list[tuple[str, list[str]]] | None
) -> None:
    """No pods for a second, or none with its devices: it takes none from a pod that lives on."""
    key = node.born(ONE, "train")
    node.born(TWO, "gone")
    before = [pod("train", {"main": [(GPU, [A])]}), pod("gone", {"main": [(GPU, [B])]})]
    node.kubelet.pods = before
    assert {f"gpu/{A}", f"gpu/{B}"} == set(await node.look())
    node.kubelet.pods = [] if devices is None else [pod("train", {"main": devices})]
    node.ends(TWO)
    claims = await node.look(after_s=11)
    assert {f"gpu/{A}": [key]} == {
        meter: [c.holder for c in found] for meter, found in claims.items()
    }
    node.kubelet.pods = before
    assert claims == await node.look(after_s=11)
    node.ends(ONE)
    node.kubelet.pods = []
    assert {} == await node.look()
    node.born(THREE, "train")
    assert {} == await node.look(after_s=11)


async def test_a_kubelet_that_restarts(node: Node) -> None:
    """While it is away its last word stands, for the pods that live on; then it is asked anew."""
    one, two = node.born(ONE, "a"), node.born(TWO, "b")
    node.kubelet.pods = [one_gpu("a", A), one_gpu("b", B)]
    both = {f"gpu/{A}": alone(one), f"gpu/{B}": alone(two)}
    assert await node.look() == both
    node.kubelet.stop()
    assert await node.look(10) == both
    assert node.state() is State.STALE
    assert "as of 10 s ago 2 pods, 2 of them with GPUs" in node.said()
    node.ends(TWO)
    assert await node.look() == {f"gpu/{A}": alone(one)}
    node.kubelet.start()
    assert await node.look(2) == {f"gpu/{A}": alone(one)}
    assert node.state() is State.OK


async def test_a_word_is_believed_for_ten_minutes(node: Node) -> None:
    """Then the claims are dropped: whoever runs on the GPU is seen by its processes."""
    key = node.born(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    await node.look()
    node.kubelet.stop()
    assert await node.look(599) == {f"gpu/{A}": alone(key)}
    assert await node.look(2) == {}
    assert node.state() is State.ABSENT
    [edge] = node.holders.fresh()
    assert (edge.started, edge.boot_ns) == (False, node.clock.boot_ns())


async def test_a_kubelet_that_hangs_holds_up_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question without an answer goes on beside the looks, one at a time."""
    key = node.born(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    await node.look()
    monkeypatch.setattr(pod_listing, "_PATIENCE_S", 0.1)
    node.kubelet.hanging = {"List", "Get"}
    for _ in range(3):
        assert await node.look(11) == {f"gpu/{A}": alone(key)}
    assert node.kubelet.calls["List"] == 2


async def test_what_is_no_kubelet(node: Node) -> None:
    """Garbage at the socket is a failure with its fix, not a crash."""
    node.kubelet.stop()
    other = Impostor(node.kubelet.socket, b"HTTP/1.1 400 Bad Request\r\n\r\n", hang_up=True)
    try:
        assert await node.look() == {}
        assert node.state() is State.FAILING
        assert "kubernetes.pod_resources" in node.said()
    finally:
        other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_denied(node: Node) -> None:
    """A socket that the agent may not use is denied, which is not absent."""
    node.kubelet.socket.chmod(0o600)
    node.kubelet.socket.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        await node.look()
        assert node.state() is State.DENIED
    finally:
        os.seteuid(0)


async def test_without_the_folder_of_logs(node: Node) -> None:
    """Pods are known by name then, from when they are first seen, also over a restart."""
    node.kubelet.pods = [one_gpu("a", A), pod("web", {"main": []})]
    node.born(ONE, "a")
    (node.logs / f"default_a_{ONE}").rmdir()
    node.logs.rmdir()
    claims = await node.look()
    key = HolderKey("kubernetes", "default/a", node.clock.wall_ns() // 1_000_000)
    assert claims == {f"gpu/{A}": alone(key)}
    assert list(node.holders.infos()) == [key]
    assert "pod_uid" not in node.holders.infos()[key].labels
    assert node.state("pod-resources/names") is State.FAILING
    node.holders = node.agent(node.holders.remember())
    assert await node.look(7) == {f"gpu/{A}": alone(key)}


async def test_without_cgroups(node: Node) -> None:
    """Where cgroups cannot be seen a pod lives as long as it is listed."""
    node.lives = None
    node.log(ONE, "a")
    node.kubelet.pods = [one_gpu("a", A)]
    claims = await node.look()
    key = HolderKey("kubernetes", ONE, node.clock.wall_ns() // 1_000_000)
    assert claims == {f"gpu/{A}": alone(key)}
    node.kubelet.pods = []
    assert await node.look(10) == {}


async def test_names_that_a_kubelet_would_not_have(node: Node) -> None:
    """Slashes, newlines and length in names make no holder of another pod, and no long label."""
    key = node.born(ONE, "a")
    hostile = ["../../a", "a\n_b", "x" * 10_000, "ä", f"a_{ONE}", ""]
    node.kubelet.pods = [one_gpu(name, B) for name in hostile] + [
        pod("a", {"c" * 10_000: [(GPU, [A])]})
    ]
    assert await node.look() == {f"gpu/{A}": alone(key)}
    assert (
        max(len(v) for info in node.holders.infos().values() for v in info.labels.values()) <= 256
    )


async def test_a_large_node(node: Node) -> None:
    """500 pods and 10,000 devices: looks between two answers stay far below a sample."""
    for n in range(500):
        node.born(f"00000000-0000-0000-0000-{n:012d}", f"pod-{n}")
    shared = [f"{A}::{n}" for n in range(48)]
    others = [("smarter-devices/fuse", [f"fuse-{n}" for n in range(20)])]
    node.kubelet.pods = [
        pod(f"pod-{n}", {"main": [*others, (GPU, shared[n : n + 1])]}) for n in range(500)
    ]
    claims = await node.look()
    assert len(claims[f"gpu/{A}"]) == 48
    assert len(node.holders.infos()) == 500
    began_ns = time.process_time_ns()
    await node.look()
    assert time.process_time_ns() - began_ns < 300_000_000


async def test_an_answer_is_not_about_pods_born_after_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said of a name before its present pod came is not booked to that pod."""
    node.kubelet.pods = [one_gpu("db-0", A)]
    node.born(ONE, "db-0")
    await node.look()
    node.ends(ONE)
    await node.look()
    monkeypatch.setattr(pod_listing, "_PATIENCE_S", 0.1)
    node.kubelet.hanging = {"Get", "List"}
    node.born(TWO, "db-0")
    assert await node.look() == {}


async def test_without_the_extra(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubelet is there and grpclib is not: absent, with what to install; later it is found."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "wattkeeper.holders.pod_api", raising=False)
        patch.setitem(sys.modules, "grpclib", None)
        await node.look()
    assert node.state() is State.ABSENT
    assert node.said() == (
        "a kubelet is here, but grpclib is not installed | "
        "pip install 'wattkeeper[kubernetes]', or set kubernetes.enabled = false"
    )
    await node.look(10)
    assert node.state() is State.OK


async def test_a_kubelet_that_has_to_be_there(node: Node) -> None:
    """Where Kubernetes is switched on by hand a missing socket is a failure."""
    node.kubelet.stop()
    node.holders = node.agent(wanted=True)
    await node.look()
    assert node.state() is State.FAILING
    assert "set kubernetes.pod_resources" in node.said()


async def test_counts(node: Node) -> None:
    """Nothing is counted before the kubelet has spoken; then what is free, given and unclear."""
    assert node.holders.counts() == {}
    node.born(ONE, "a")
    node.kubelet.pods = [pod("a", {"main": [(GPU, [A, SLICE])]})]
    node.kubelet.allocatable = [{"resource_name": GPU, "device_ids": [A, B]}]
    await node.look()
    assert node.holders.counts() == {"allocatable": 2, "allocated": 2, "unclear": 1}
