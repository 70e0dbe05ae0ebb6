"""A real kubelet with a real containerd, in namespaces and a folder of their own.

Both run on the machine's own kernel and control groups. Network and host name are the machine's:
pods use the host's network, so no network plugin is needed.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.e2e.programs import ROOT, free_port, until
from tests.kube.image import IMAGE, write_image
from tests.kube.real import RealApi

KUBELET = os.environ.get("WATTKEEPER_TEST_KUBELET", "")
PROGRAMS = ("cc", "containerd", "ctr", "runc", "nsenter", "unshare", "setpriv")
CGROUPFS = Path("/sys/fs/cgroup")
_OWN = Path("/var/lib/kubelet")


def missing() -> str:
    """Return why no kubelet can be started here, empty if one can."""
    if not KUBELET:
        return "WATTKEEPER_TEST_KUBELET is not set: tests/kube/run_real.sh builds one"
    if os.geteuid():
        return "needs root"
    found = [name for name in PROGRAMS if shutil.which(name) is None]
    if found:
        return f"{', '.join(found)} not found: apt-get install gcc libc6-dev containerd runc"
    if any(CGROUPFS.glob("*/kubepods")) or (_OWN.is_dir() and any(_OWN.iterdir())):
        return "a kubelet runs here already, or has left something in /var/lib/kubelet"
    return ""


class KubeNode:
    """A node of an API server; a context manager that ends it and leaves nothing behind."""

    def __init__(self, api: RealApi, name: str) -> None:
        self.name = name
        # Short, for the kubelet's sockets are in there.
        self.folder = Path(tempfile.mkdtemp(prefix="wk-kube-"))
        self.logs = self.folder / "pods"
        self.plugins = self.folder / "kubelet/device-plugins"
        self.pod_resources = self.folder / "kubelet/pod-resources/kubelet.sock"
        self._made_own = not _OWN.exists()
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        for part in ("kubelet", "pods", "cni", "manifests"):
            (self.folder / part).mkdir()
        self._containerd_config = _write(self.folder / "containerd.toml", _CONTAINERD, self.folder)
        _write_kubelet(self.folder, api)

    def __enter__(self) -> Self:
        try:
            self._enter_namespaces()
            self._start_containerd()
            self.start_kubelet()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_kubelet(self) -> None:
        """Start the kubelet, and wait until it listens to its neighbours on the node."""
        sockets = (self.pod_resources, self.plugins / "kubelet.sock")
        for socket in sockets:
            socket.unlink(missing_ok=True)
        self._spawn("kubelet", [
            KUBELET, f"--config={self.folder}/kubelet.json", f"--kubeconfig={self.folder}/access",
            f"--hostname-override={self.name}", f"--cert-dir={self.folder}/certificates",
            "--root-dir=/var/lib/kubelet", "--v=2",
        ])  # fmt: skip
        until(
            "the kubelet listens",
            lambda: self._alive("kubelet") and all(socket.exists() for socket in sockets),
        )

    def kill_kubelet(self) -> None:
        """End the kubelet in the middle of whatever it does; its pods go on."""
        pid = self._run("pgrep", "-f", KUBELET).split()
        self._run("kill", "-9", *pid)
        self._programs.pop("kubelet").wait()

    def cgroup(self, uid: str) -> Path:
        """Return where the group of a pod of the guaranteed or the burstable class is."""
        return CGROUPFS / "cpuacct/kubepods" / f"pod{uid}"

    def close(self) -> None:
        """End every process and mount of the node, remove its control groups and its folder."""
        init = self._programs.pop("init", None)
        if init is not None:
            init.kill()
            init.wait()
        for program in self._programs.values():
            program.wait()
        for place in CGROUPFS.glob("*/kubepods"):
            _remove(place)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._made_own:
            with contextlib.suppress(FileNotFoundError):
                _OWN.rmdir()

    def _enter_namespaces(self) -> None:
        self._spawn("init", [
            "setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork",
            "--kill-child", "--mount-proc", sys.executable, "-m", "tests.kube.inside",
            str(self.folder),
        ], enter=())  # fmt: skip
        until("namespaces", lambda: self._alive("init") and (self.folder / "ready").exists())

    def _start_containerd(self) -> None:
        self._spawn("containerd", ["containerd", "--config", str(self._containerd_config)])
        ctr = ("ctr", "--address", f"{self.folder}/containerd.sock", "--namespace", "k8s.io")
        socket = self.folder / "containerd.sock"
        until("containerd listens", lambda: self._alive("containerd") and socket.exists())
        self._run(*ctr, "images", "import", "--snapshotter=native", str(write_image(self.folder)))

    @property
    def _enter(self) -> Sequence[str]:
        pid = self._programs["init"].pid
        return ("nsenter", f"--target={pid}", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children")

    def _spawn(self, name: str, command: Sequence[str], enter: Sequence[str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._programs[name] = subprocess.Popen(
                [*(self._enter if enter is None else enter), *command],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def _alive(self, name: str) -> bool:
        if self._programs[name].poll() is None:
            return True
        raise RuntimeError(f"{name} has ended: {(self.folder / f'{name}.log').read_text()[-3000:]}")


def _write(file: Path, text: str, folder: Path) -> Path:
    file.write_text(text.format(folder=folder, image=IMAGE))
    return file


def _write_kubelet(folder: Path, api: RealApi) -> None:
    """Write the kubelet's configuration, and how it reaches the API server."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": "127.0.0.1", "port": free_port(), "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "podLogsDir": str(folder / "pods"), "makeIPTablesUtilChains": False,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%"},
        "syncFrequency": "1s", "nodeStatusUpdateFrequency": "1s",
    }  # fmt: skip
    (folder / "kubelet.json").write_text(json.dumps(config))
    access = {
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{
            "name": "test",
            "cluster": {"server": api.url, "certificate-authority": str(api.authority)},
        }],
        "users": [{"name": "test", "user": {"token": api.admin}}],
    }  # fmt: skip
    (folder / "access").write_text(json.dumps(access))


def _remove(place: Path, deadline_s: float = 10.0) -> None:
    """Remove a control group and all below it; killed processes leave theirs a moment later."""
    end = time.monotonic() + deadline_s
    for folder in [*sorted(place.rglob("*/"), reverse=True), place]:
        while folder.is_dir() and time.monotonic() < end:
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.02)


_CONTAINERD = """\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{folder}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
disable_apparmor = true
# Without CAP_SYS_RESOURCE, as in many containers, nothing may be spared more than we are.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{folder}/cni"
bin_dir = "{folder}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
