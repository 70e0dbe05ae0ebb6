"""The first process inside a test node's own namespaces: prepares their mounts, then reaps.

Run by `tests.kube.node` as process 1 of new mount and pid namespaces. Whatever runs in there, and
whatever it mounts, ends with it.
"""

import subprocess
import sys
from pathlib import Path

from tests.slurm.inside import reap

_TUNED = (
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip
"""What a kubelet sets in the kernel as it starts; in here it sets files."""


def prepare(folder: Path) -> None:
    """Put the node's own folders where containerd and kubelet insist on having theirs."""
    # A container's mounts must not spread to the machine, nor must ours.
    _mount("--make-rprivate", "/")
    _mount("-t", "tmpfs", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    Path("/var/lib/kubelet").mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(folder / "kubelet"), "/var/lib/kubelet")
    # Volumes of pods are to be seen by containers that run already.
    _mount("--make-rshared", "/")
    for name in _TUNED:
        (folder / "tuned" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tuned" / name).write_text(Path("/proc/sys", name).read_text())
        _mount("--bind", str(folder / "tuned" / name), f"/proc/sys/{name}")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
    (Path(sys.argv[1]) / "ready").touch()
    reap()
