"""What happens on the node of a real kubelet, once, and what the books say of it afterwards."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.programs import Site, until
from tests.fake_nvml.library import FakeNvml
from tests.kube.image import IMAGE, PROGRAM
from tests.kube.lives import Lives
from tests.kube.node import CGROUPFS, KubeNode
from tests.kube.real import RealApi
from tests.kubelet.plugin import VISIBLE, DevicePlugin
from tests.slurm.edges import Stay

NODE = "n1"
GPUS, SHARED = 6, 5
"""The last one is shared in turns."""
WHOLE_GPU, TURN = "nvidia.com/gpu", "nvidia.com/gpu.shared"
REST_W, WORK_W = 60.0, 300.0
_PODS = "/api/v1/namespaces/ml/pods"
_SELECTOR = {"matchLabels": {"app": "web"}}
_CONTAINERS = [{"name": "main", "image": IMAGE}]
_TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": _CONTAINERS}}


class Hardware:
    """The node's GPUs: they draw `REST_W` and a little, or so much more while they work."""

    def __init__(self, path: Path) -> None:
        self.fake = FakeNvml(path, GPUS)
        self.uuids = [self.fake.gpu(i).uuid.decode() for i in range(GPUS)]
        for i in range(GPUS):
            self.fake.gpu(i).wave(REST_W + i)
            self.fake.gpu(i).gpu_percent = 0

    def work(self, gpu: int, watts: float = WORK_W) -> None:
        """Let a GPU draw so many watts more from now on."""
        state = self.fake.gpu(gpu)
        state.load(watts, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        state.gpu_percent = 90 if watts else 0

    def energy_uj(self, node: str, gpu: int, at_ns: int) -> int:
        """Return what the GPU's counter said at a boot time, exactly."""
        return self.fake.gpu(gpu).energy_mj(at_ns) * 1000

    def step_uj(self, node: str, gpu: int) -> int:
        """Return the most that one step of the counter was ever worth."""
        return int((REST_W + GPUS + WORK_W) * self.fake.gpu(gpu).step_ms * 1000)


@dataclass
class Story:
    """A node with its programs, and what is known of its pods. `jobs`: what the books say."""

    api: RealApi
    node: KubeNode
    hardware: Hardware
    site: Site
    lives: Lives = field(default_factory=Lives)
    uids: dict[str, str] = field(default_factory=dict)
    gpus: dict[str, tuple[int, ...]] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, dict[str, str]] = field(default_factory=dict)
    balance: Any = None
    samples: dict[str, float] = field(default_factory=dict)

    def stay(self, name: str) -> Stay:
        """Return when a pod was on the node, and with which GPUs."""
        uid = self.uids[name]
        return Stay(0, NODE, self.gpus[name], self.lives.begun[uid], self.lives.ended[uid])

    async def happen(self) -> None:
        """Let it happen, in half a minute."""
        ids = self.hardware.uuids
        plugins = [
            DevicePlugin(self.node.plugins, WHOLE_GPU, ids[:SHARED]),
            DevicePlugin(self.node.plugins, TURN, [f"{ids[SHARED]}::{n}" for n in range(2)]),
        ]
        try:
            await self._begin(plugins)
            await self._pods_come()
            await self._work(plugins)
            await self._pods_go()
            await asyncio.to_thread(self._read)
        finally:
            for plugin in plugins:
                plugin.stop()
            self.lives.close()

    async def _begin(self, plugins: list[DevicePlugin]) -> None:
        await self.api.create("/api/v1/namespaces", {"metadata": {"name": "ml"}})
        for plugin in plugins:
            plugin.register()
        async with asyncio.timeout(60):
            while await self._capacity() != {WHOLE_GPU: str(SHARED), TURN: "2"}:
                await asyncio.sleep(0.1)
        token = await self.api.grant()
        self.site.cgroupfs = CGROUPFS
        self.site.aggregator(
            "--kubernetes.url", self.api.url, "--kubernetes.token-file", str(token),
            "--kubernetes.ca-file", str(self.api.authority), "--kubernetes.interval", "1s",
        )  # fmt: skip
        self.agent = self._start_agent()
        await asyncio.to_thread(self.site.await_first_window, self.hardware.uuids)

    async def _pods_come(self) -> None:
        batch = await self._owner(
            "batch/v1", "Job", "pretrain",
            {"template": {"spec": {"containers": _CONTAINERS, "restartPolicy": "Never"}}},
        )  # fmt: skip
        replicas = {"selector": _SELECTOR, "template": _TEMPLATE}
        web = await self._owner("apps/v1", "Deployment", "web", replicas)
        below = await self._owner("apps/v1", "ReplicaSet", "web-1", replicas, web)
        await self._pod("train", {WHOLE_GPU: "2", "cpu": "100m", "memory": "64Mi"}, batch)
        await self._pod("idle", {WHOLE_GPU: "1"})
        await self._pod("brief", {WHOLE_GPU: "1"}, seconds=4)
        await self._pod("web-1-a", {TURN: "1"}, below)
        await self._pod("web-1-b", {TURN: "1"}, below)
        for name in self.uids:
            await asyncio.to_thread(until, f"{name} has its GPUs", lambda n=name: self._given(n))

    async def _work(self, plugins: list[DevicePlugin]) -> None:
        """One pod ends by itself, then agent and kubelet are killed and start again."""
        busy = (*self.gpus["train"], *self.gpus["brief"], SHARED)
        pids = [max(self.lives.pids(self.uids[f"web-1-{which}"])) for which in "ab"]
        self.hardware.fake.gpu(SHARED).processes(pids, [60, 20])
        for gpu in busy:
            self.hardware.work(gpu)
        await asyncio.to_thread(self.site.await_records, 4 * GPUS)
        for gpu in self.gpus["brief"]:
            self.hardware.work(gpu, 0)
        async with asyncio.timeout(60):
            while await self._phase("brief") != "Succeeded":
                await asyncio.sleep(0.1)
        ended = [self.uids["brief"]]
        await asyncio.to_thread(until, "brief has ended", lambda: self.lives.over(ended))
        await asyncio.to_thread(self.node.kill_kubelet)
        await asyncio.to_thread(self.site.await_records, 2 * GPUS)
        self.agent.kill()
        # It asks a kubelet that is not there, then one that lists no pods yet.
        self.agent = self._start_agent()
        await asyncio.to_thread(self.node.start_kubelet)
        for plugin in plugins:
            plugin.register()
        await asyncio.to_thread(self.site.await_records, 4 * GPUS)
        await asyncio.to_thread(self._ask_doctor)
        for gpu in (*self.gpus["train"], SHARED):
            self.hardware.work(gpu, 0)
        self.hardware.fake.gpu(SHARED).processes([])

    async def _pods_go(self) -> None:
        for name in self.uids.keys() - {"brief"}:
            await self.api.call("DELETE", f"{_PODS}/{name}")
        everyone = self.uids.values()
        await asyncio.to_thread(until, "all pods have ended", lambda: self.lives.over(everyone))

    def _read(self) -> None:
        """Wait until the books have settled, and keep what they say."""
        last: list[Any] = []

        def settled() -> bool:
            jobs = {n: self.site.ask(f"/v1/jobs/default/{uid}") for n, uid in self.uids.items()}
            over = all(job and job["state"] in {"succeeded", "deleted"} for job in jobs.values())
            energies = [job and job["energy_uj"] for job in jobs.values()]
            same, self.jobs = energies == last, jobs
            last[:] = energies
            time.sleep(2)
            return over and same

        until("the books have settled", settled, deadline_s=60)
        done = self.site.cli("balance", "--url", self.site.aggregator_url, "--format", "json")
        self.balance = {**json.loads(done.stdout), "exit": done.returncode}

    def _start_agent(self) -> Any:
        return self.site.agent(*self._flags())

    def _flags(self) -> tuple[str, ...]:
        return (
            "--kubernetes.pod-resources", str(self.node.pod_resources),
            "--kubernetes.pod-logs", str(self.node.logs),
            "--slurm.nodename", "none",  # another test's cluster may have jobs here
        )  # fmt: skip

    def _ask_doctor(self) -> None:
        done = self.site.cli(
            "doctor", "--format", "json", "--data-dir", str(self.site.agent_dir),
            "--path.sysfs", str(self.site.sysfs), *self._flags(),
        )  # fmt: skip
        found = json.loads(done.stdout)["findings"]
        self.findings = {finding["subject"]: finding for finding in found}
        self.samples = self.site.samples() or {}

    def _given(self, name: str) -> bool:
        """See which GPUs a pod was given: its process is told so."""
        for pid in self.lives.pids(self.uids[name]):
            try:
                environ = Path(f"/proc/{pid}/environ").read_text().split("\0")
            except FileNotFoundError:
                continue  # runc's own, on its way
            for entry in environ:
                if entry.startswith(f"{VISIBLE}="):
                    ids = entry.partition("=")[2].split(",")
                    uuids = [one.partition("::")[0] for one in ids]
                    self.gpus[name] = tuple(sorted(map(self.hardware.uuids.index, uuids)))
                    return True
        return False

    async def _capacity(self) -> dict[str, str]:
        nodes = (await self.api.call("GET", "/api/v1/nodes"))["items"]  # none before it registers
        offered = nodes[0]["status"].get("allocatable", {}) if nodes else {}
        return {name: offered[name] for name in (WHOLE_GPU, TURN) if name in offered}

    async def _phase(self, name: str) -> str:
        phase: str = (await self.api.call("GET", f"{_PODS}/{name}"))["status"]["phase"]
        return phase

    async def _owner(
        self, version: str, kind: str, name: str, spec: Any, above: Any = None
    ) -> dict[str, Any]:
        """Create a controller, of which none runs; return how others refer to it."""
        meta: dict[str, Any] = {"name": name, "ownerReferences": [above] if above else []}
        item = {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}
        path = f"/apis/{version}/namespaces/ml/{kind.lower()}s"
        made = await self.api.create(path, item)
        return {
            "apiVersion": version, "kind": kind, "name": name, "uid": made["metadata"]["uid"],
            "controller": True,
        }  # fmt: skip

    async def _pod(
        self,
        name: str,
        limits: Mapping[str, str],
        above: Any = None,
        seconds: int | None = None,
    ) -> None:
        """Create a pod, and bind it to the node as a scheduler does."""
        command = [PROGRAM] if seconds is None else [PROGRAM, str(seconds)]
        container = {
            "name": "main", "image": IMAGE, "imagePullPolicy": "Never", "command": command,
            "resources": {"limits": dict(limits)},
        }  # fmt: skip
        made = await self.api.create(_PODS, {
            "metadata": {"name": name, "ownerReferences": [above] if above else []},
            "spec": {
                "containers": [container], "restartPolicy": "Never", "hostNetwork": True,
                "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False,
            },
        })  # fmt: skip
        uid = made["metadata"]["uid"]
        self.lives.announce(uid, guaranteed="memory" in limits)
        self.uids[name] = uid
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        await self.api.call("POST", f"{_PODS}/{name}/binding", {**binding, "target": target})
