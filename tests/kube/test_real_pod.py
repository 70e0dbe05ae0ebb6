"""The agent's pod, as its manifest has it, on a real kubelet with containerd. Opt-in.

WATTKEEPER_TEST_IMAGE is an archive of the image, as `docker save` or `podman save` writes it
(`tests/image/run.sh` builds one, EXTRAS=kubernetes is enough); `tests/kube/run_real.sh` has the
rest. What differs from the manifest: the host's network, since there is no network plugin here,
and the driver's library, which is the fake one.
"""

import asyncio
import json
import os
import tarfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chart.chart import NAMESPACE, Object, manifests, objects
from tests.e2e.programs import free_port, until
from tests.fake_nvml.library import ENVIRONMENT, compile_library
from tests.kube.image import IMAGE, PROGRAM
from tests.kube.node import KubeNode, missing
from tests.kube.real import APISERVER, ETCD, RealApi, real_api
from tests.kube.story import GPUS, NODE, WHOLE_GPU, Hardware
from tests.kubelet.plugin import DevicePlugin

ARCHIVE = os.environ.get("WATTKEEPER_TEST_IMAGE", "")
_REASON = missing() or (
    "" if APISERVER and ETCD and ARCHIVE else "WATTKEEPER_TEST_IMAGE or a server"
)
pytestmark = [
    pytest.mark.skipif(bool(_REASON), reason=f"no pod can be started: {_REASON}"),
    pytest.mark.xdist_group("kubelet"),
]

_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@dataclass
class Seen:
    """What is seen of the agent's pod and by it. `again`: a second pod on the same node."""

    job: str = ""
    metrics: str = ""
    status: str = ""
    mounts: list[str] = field(default_factory=list)
    said: str = ""
    kept: dict[str, int] = field(default_factory=dict)
    again: str = ""


class Setting:
    """The node, and how pods get onto it."""

    def __init__(self, folder: Path, api: RealApi, node: KubeNode) -> None:
        self.folder, self.api, self.node = folder, api, node
        self.port = free_port()
        self.state = folder / "state"
        with tarfile.open(ARCHIVE) as archive:
            manifest = archive.extractfile("manifest.json")
            assert manifest is not None
            self.image: str = json.load(manifest)[0]["RepoTags"][0]

    def objects(self) -> list[Object]:
        """Return the objects of the chart for this node."""
        given = {
            "image": {"pullPolicy": "Never"},
            "agent": {
                "smallImage": self.image,
                "url": "http://127.0.0.1:1",
                "nvml": {"mode": "host", "hostFolder": str(self.folder / "nvidia")},
                "stateFolder": str(self.state),
                "podLogsFolder": str(self.node.logs),
            },
        }
        return objects(manifests("", given))

    def agent(self) -> Object:
        """Return the DaemonSet's pod."""
        item = next(each for each in self.objects() if each["kind"] == "DaemonSet")
        template = item["spec"]["template"]
        spec = template["spec"] | {"hostNetwork": True}
        (container,) = spec["containers"]
        container["ports"][0]["containerPort"] = self.port
        changed = {"WATTKEEPER_AGENT_LISTEN": f"127.0.0.1:{self.port}"}
        container["env"] = [
            each | {"value": changed[each["name"]]} if each["name"] in changed else each
            for each in container["env"]
        ]
        container["env"].append({"name": ENVIRONMENT, "value": "/var/lib/wattkeeper/nvml.state"})
        for probe in ("startupProbe", "livenessProbe"):
            container[probe]["httpGet"]["host"] = "127.0.0.1"
        return {"metadata": template["metadata"], "spec": spec}

    async def run(self, name: str, pod: Object) -> str:
        """Create a pod and bind it as a scheduler does; return its UID."""
        made = await self.api.create(_PODS, {**pod, "metadata": {**pod["metadata"], "name": name}})
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}}
        await self.api.call("POST", f"{_PODS}/{name}/binding", {**binding, "target": target})
        async with asyncio.timeout(120):
            while not await self._ready(name):
                await asyncio.sleep(0.2)
        uid: str = made["metadata"]["uid"]
        return uid

    async def end(self, name: str) -> None:
        """Delete a pod, and wait until it has gone."""
        await self.api.call("DELETE", f"{_PODS}/{name}")
        async with asyncio.timeout(60):
            while any(
                pod["metadata"]["name"] == name
                for pod in (await self.api.call("GET", _PODS))["items"]
            ):
                await asyncio.sleep(0.2)

    async def _ready(self, name: str) -> bool:
        status = (await self.api.call("GET", f"{_PODS}/{name}"))["status"]
        for each in status.get("containerStatuses", ()):
            waiting = each["state"].get("waiting", {})
            assert "Err" not in waiting.get("reason", ""), waiting
            assert each["restartCount"] == 0, self._logs()
            if each["ready"]:
                return True
        assert status["phase"] in {"Pending", "Running"}, status
        return False

    def _logs(self) -> str:
        files = sorted(self.node.logs.rglob("*.log"))
        return "\n".join(f"{file.parent.name}: {file.read_text()}" for file in files)

    def metrics(self) -> str:
        """Return what Prometheus reads."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def process(self) -> Path:
        """Return the agent's folder in procfs."""
        (found,) = (
            path.parent
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.read_bytes().endswith(b"/wattkeeper\0agent\0")
            and f"LISTEN=127.0.0.1:{self.port}\0".encode() in (path.parent / "environ").read_bytes()
        )
        return found


async def _happen(folder: Path, hardware: Hardware) -> Seen:
    seen = Seen()
    (folder / "api").mkdir()
    async with real_api(folder / "api", watch_cache=True) as api:
        with KubeNode(api, NODE) as node:
            setting = Setting(folder, api, node)
            plugin = DevicePlugin(node.plugins, WHOLE_GPU, hardware.uuids)
            plugin.register()
            try:
                await _prepare(setting)
                limits = {"limits": {WHOLE_GPU: "1"}}
                job = {"name": "main", "image": IMAGE, "command": [PROGRAM], "resources": limits}
                spec = {"containers": [job | {"imagePullPolicy": "Never"}], "hostNetwork": True}
                less = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
                seen.job = await setting.run("train", {"metadata": {}, "spec": {**spec, **less}})
                await setting.run("agent-1", setting.agent())
                await asyncio.to_thread(_look, setting, seen)
                await setting.end("agent-1")
                seen.kept = {
                    path.name: path.stat().st_size
                    for path in (setting.state / "agent").iterdir()
                    if path.is_file()
                }
                await setting.run("agent-2", setting.agent())
                seen.again = await asyncio.to_thread(setting.metrics)
                for name in ("train", "agent-2"):
                    await setting.end(name)
            finally:
                plugin.stop()
    return seen


async def _prepare(setting: Setting) -> None:
    """Import the image, label the node as feature discovery does, apply what the pod refers to."""
    ctr = ("ctr", "--address", f"{setting.node.folder}/containerd.sock", "--namespace", "k8s.io")
    await asyncio.to_thread(
        setting.node._run, *ctr, "images", "import", "--snapshotter=native", ARCHIVE
    )
    async with asyncio.timeout(60):
        while not (nodes := (await setting.api.call("GET", "/api/v1/nodes"))["items"]):
            await asyncio.sleep(0.2)
        labels = {"metadata": {"labels": {"nvidia.com/gpu.present": "true"}}}
        await setting.api.call("PATCH", f"/api/v1/nodes/{NODE}", labels, "merge")
        while WHOLE_GPU not in nodes[0]["status"].get("allocatable", {}):
            await asyncio.sleep(0.2)
            nodes = (await setting.api.call("GET", "/api/v1/nodes"))["items"]
    inside = f"/api/v1/namespaces/{NAMESPACE}"
    for item in setting.objects():
        if item["kind"] == "Namespace":
            await setting.api.create("/api/v1/namespaces", item)
        if item["kind"] == "ConfigMap":
            await setting.api.create(f"{inside}/configmaps", item)
    secret = {"metadata": {"name": "wattkeeper-delivery"}, "stringData": {"token": "t"}}
    await setting.api.create(f"{inside}/secrets", secret)


def _look(setting: Setting, seen: Seen) -> None:
    def given() -> bool:
        seen.metrics = setting.metrics()
        return seen.job in seen.metrics

    until("the agent knows whose the GPU is", given, 60)
    process = setting.process()
    seen.status = (process / "status").read_text()
    seen.mounts = (process / "mountinfo").read_text().splitlines()
    ctr = ("ctr", "--address", f"{setting.node.folder}/containerd.sock", "--namespace", "k8s.io")
    found = setting.node._run(*ctr, "containers", "list").splitlines()
    (name,) = (line.split()[0] for line in found if setting.image in line)
    # There is no aggregator, which is no reason to end with an error here.
    doctor = ("sh", "-c", "wattkeeper doctor; true")
    seen.said = setting.node._run(*ctr, "tasks", "exec", "--exec-id", "doctor", name, *doctor)


@pytest.fixture(scope="module", name="seen")
def _seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("pod")
    (folder / "state").mkdir()
    (folder / "nvidia/lib64").mkdir(parents=True)
    library = compile_library(folder / "nvidia/lib64")
    assert library.name == "libnvidia-ml.so.1"
    return asyncio.run(_happen(folder, Hardware(folder / "state/nvml.state")))


def test_the_agent_sees_gpus_pods_and_whose_they_are(seen: Seen) -> None:
    """Through the mounts of the manifest, and with the rights that it leaves."""
    lines = seen.metrics.splitlines()
    assert any(line.startswith("wattkeeper_pod_gpus{") and 'allocated"' in line for line in lines)
    states = [line for line in lines if line.startswith("wattkeeper_source_state{")]
    for source in ("nvml", "cgroups", "pod-resources"):
        (ok,) = (s for s in states if f'source="{source}"' in s and 'state="ok"' in s)
        assert ok.endswith(" 1.0"), ok


def test_doctor_has_nothing_against_the_pod(seen: Seen) -> None:
    """Run in the pod by `kubectl exec`, with its environment."""
    words = [line.split()[:2] for line in seen.said.splitlines() if not line.startswith(" ")]
    for subject in ("nvml", "cgroups", "pod-resources", "data_dir"):
        assert ["ok", subject] in words, seen.said
    wrong = [word for word in words if word and word[0] in {"denied", "failing"}]
    assert wrong == [["failing", "delivery"]], seen.said  # there is no aggregator


def test_it_has_one_capability_and_writes_one_folder(seen: Seen) -> None:
    """What the kernel says of the process."""
    told = dict(line.split(":\t", 1) for line in seen.status.splitlines() if ":\t" in line)
    assert {told[f"Cap{kind}"] for kind in ("Eff", "Prm", "Bnd")} == {f"{1 << 2:016x}"}
    assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
    mounts = {line.split()[4]: line.split()[5].split(",")[0] for line in seen.mounts}
    assert mounts["/"] == "ro"
    of_the_host = {place: how for place, how in mounts.items() if place.startswith("/host/")}
    # A mount in a mount is read-only too where the runtime can: containerd 2, runc 1.1, cgroup v2.
    tops = {place: how for place, how in of_the_host.items() if "/host/cgroup/" not in place}
    assert tops
    assert set(tops.values()) == {"ro"}
    assert mounts["/var/lib/wattkeeper"] == "rw"


def test_the_next_pod_goes_on_in_the_journal(seen: Seen) -> None:
    """It is on the host, and nothing of the first one's energy is lost."""
    assert seen.kept["journal.sqlite"]

    def energy(text: str) -> dict[str, float]:
        """Return what each GPU has drawn since the journal began."""
        gpus = (line for line in text.splitlines() if line.startswith("wattkeeper_gpu_energy"))
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in gpus)}

    before, after = energy(seen.metrics), energy(seen.again)
    assert len(before) == GPUS
    assert before.keys() == after.keys()
    assert all(after[name] > before[name] > 0 for name in before)
