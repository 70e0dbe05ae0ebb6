"""Pods, their cgroups, log folders and kubelet in any order: nobody pays outside its ownership."""

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources.tree import FakeClock
from wattkeeper.holders import pod_listing
from wattkeeper.holders.base import HolderEdge, HolderKey
from wattkeeper.holders.cgroups import Life
from wattkeeper.holders.pod_answers import KubeletError, RefusedError
from wattkeeper.holders.pod_resources import NodeView, PodResources
from wattkeeper.holders.pod_wire import PluginDevice, PodDevices
from wattkeeper.model.clock import NS_PER_S

GPUS = [f"GPU-{n:08d}-0000-0000-0000-000000000000" for n in range(2)]
NAMES = ("a", "b")


@dataclass
class Truth:
    """A pod as it really is; `died_ns` None while it lives."""

    key: HolderKey
    name: str
    gpu: str
    born_ns: int
    died_ns: int | None = None


class World:
    """A kubelet, and all that pods leave on a node. It is its own `Kubelet`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.pods: list[Truth] = []
        self.listed: list[Truth] = []
        self.up = True
        self.edges: list[HolderEdge] = []
        view = NodeView(self.lives, self.died_ns, list, dict)
        self.holders = PodResources(folder / "socket", folder, view, self.clock)
        self.holders._listing._kubelet = self

    async def list(self) -> tuple[PodDevices, ...]:
        """List pods, some of them long ended."""
        self.answer()
        return tuple(map(_devices, self.listed))

    async def get(self, namespace: str, name: str) -> PodDevices:
        """Return the newest pod of a name."""
        self.answer()
        for pod in reversed(self.listed):
            if pod.name == name:
                return _devices(pod)
        raise RefusedError(f"pod {name} in namespace {namespace} not found")

    async def allocatable(self) -> tuple[PluginDevice, ...]:
        """Return nothing."""
        self.answer()
        return ()

    def answer(self) -> None:
        """Fail while the kubelet is away."""
        if not self.up:
            raise KubeletError("away")

    def lives(self) -> dict[str, Life]:
        """Return the pods that have a cgroup."""
        return {p.key.raw_id: Life(p.key, p.born_ns, ()) for p in self.pods if p.died_ns is None}

    def died_ns(self, _manager: str, uid: str) -> int | None:
        """Return when a pod's cgroup went."""
        return next((pod.died_ns for pod in self.pods if pod.key.raw_id == uid), None)

    def starts(self, name: str, gpu: str) -> None:
        """Let the kubelet start a pod, if name and GPU are free."""
        living = [pod for pod in self.pods if pod.died_ns is None]
        if not self.up or any(pod.name == name or pod.gpu == gpu for pod in living):
            return
        uid = f"{len(self.pods):032x}"
        key = HolderKey("kubernetes", uid, self.clock.wall_ns() // 1_000_000)
        self.listed = [pod for pod in self.listed if pod.name != name]
        self.pods.append(Truth(key, name, gpu, self.clock.boot_ns()))
        self.listed.append(self.pods[-1])
        (self.folder / f"ns_{name}_{uid}").mkdir()

    def ends(self, name: str) -> None:
        """End a pod; it stays listed."""
        for pod in self.pods:
            if pod.name == name and pod.died_ns is None:
                pod.died_ns = self.clock.boot_ns()

    def cleans(self) -> None:
        """Let the kubelet forget the pods that have ended, and their logs."""
        if not self.up:
            return
        for pod in [pod for pod in self.listed if pod.died_ns is not None]:
            self.listed.remove(pod)
            shutil.rmtree(self.folder / f"ns_{pod.name}_{pod.key.raw_id}")

    async def looks(self) -> None:
        """Look, and compare with the truth."""
        await self.holders.look()
        self.edges += self.holders.fresh()
        living = {(f"gpu/{p.gpu}", p.key) for p in self.pods if p.died_ns is None}
        claimed = {
            (meter, claim.holder)
            for meter, claims in self.holders.claims().items()
            for claim in claims
        }
        assert claimed <= living
        if self.up and self.holders._listing.trouble is None:
            assert claimed == living
        for edge in self.edges:
            [pod] = [pod for pod in self.pods if pod.key == edge.key]
            assert edge.meters == (f"gpu/{pod.gpu}",)
            assert edge.boot_ns == (pod.born_ns if edge.started else pod.died_ns)


def _devices(pod: Truth) -> PodDevices:
    return PodDevices("ns", pod.name, ("main",), (PluginDevice("nvidia.com/gpu", pod.gpu),))


STEPS = st.one_of(
    st.tuples(st.just("starts"), st.sampled_from(NAMES), st.sampled_from(GPUS)),
    st.tuples(st.just("ends"), st.sampled_from(NAMES)),
    st.tuples(st.just("cleans")),
    st.tuples(st.just("outage")),
    st.tuples(st.just("passes"), st.sampled_from([0.1, 1, 11])),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
async def test_nobody_holds_a_gpu_outside_its_life(steps: list[tuple[str | float, ...]]) -> None:
    """After every step: claims are those of living pods, all of them while the kubelet answers.

    Holds begin at their pod's birth and end at its death, whatever was known when.
    """
    with (
        TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(pod_listing, "_PATIENCE_S", 10.0)
        listener.bind(f"{folder}/socket")
        world = World(Path(folder))
        for name, *arguments in steps:
            if name == "outage":
                world.up = not world.up
            elif name == "passes":
                world.clock.now_ns += int(float(arguments[0]) * NS_PER_S)
            else:
                getattr(world, str(name))(*arguments)
            world.clock.now_ns += NS_PER_S // 10
            await world.looks()
        await world.holders.close()
