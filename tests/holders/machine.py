"""A machine made of files: procfs and cgroup trees that a test fills."""

import shutil
from pathlib import Path

from tests.sources.tree import FakeClock, put

HZ = 100
SCOPE = "system.slice/slurmstepd.scope"


class Machine:
    """Roots for procfs and cgroupfs below a folder, with a clock."""

    def __init__(self, root: Path) -> None:
        self.procfs = root / "proc"
        self.cgroupfs = root / "cgroup"
        self.clock = FakeClock()
        self.clock.now_ns = 1_000_000_000_000
        self.boot("boot-1")
        cpus = "".join(f"cpu{n} 1 0 0 0 0 0 0 0 0 0\n" for n in range(8))
        put(self.procfs, {"stat": f"cpu  100 0 100 0 0 0 0 0 0 0\n{cpus}btime 3600\n"})

    def boot(self, boot_id: str) -> None:
        """Say which boot this is."""
        put(self.procfs, {"sys/kernel/random/boot_id": f"{boot_id}\n"})

    def v2(self, busy_us: int = 0, root: str = "") -> Path:
        """Make a cgroup v2 tree, or say anew how much time it has spent; return its root."""
        tree = self.cgroupfs / root
        put(tree, {"cgroup.controllers": "cpu\n", "cpu.stat": f"usage_usec {busy_us}\n"})
        return tree

    def job(self, path: str, usage_us: int, cpus: str = "") -> Path:
        """Make a v2 job folder, or give it another usage."""
        files = {"cpu.stat": f"usage_usec {usage_us}\nuser_usec 0\n"}
        if cpus:
            files["cpuset.cpus.effective"] = f"{cpus}\n"
        put(self.cgroupfs / path, files)
        return self.cgroupfs / path

    def end(self, path: str) -> None:
        """Remove a cgroup as the kernel does: at once."""
        gone = self.cgroupfs / path
        aside = self.procfs / f"gone-{gone.name}"
        gone.rename(aside)
        shutil.rmtree(aside)

    def again(self, path: str) -> None:
        """End a job and start another of the same name, which is never given the same inode."""
        other = self.job(f"{path}-next", 0)
        self.end(path)
        other.rename(self.cgroupfs / path)

    def process(self, pid: int, started_s: float, cgroup: str = "/", command: str = "x") -> None:
        """Make a process that started so many seconds after boot."""
        fields = " ".join(["S", *["0"] * 18, str(int(started_s * HZ)), "0", "0"])
        stat = f"{pid} ({command}) {fields}\n"
        put(self.procfs / str(pid), {"stat": stat, "cgroup": f"0::{cgroup}\n"})
