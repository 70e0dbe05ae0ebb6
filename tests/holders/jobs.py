"""Slurm's processes on a machine made of files."""

from pathlib import Path

from tests.holders.machine import HZ, Machine
from tests.sources.tree import put

STEPD = 900
"""Id of the slurmstepd that starts every task."""


def stepd(machine: Machine, pid: int = STEPD) -> None:
    """Make a slurmstepd."""
    machine.process(pid, 1, "/system.slice/slurmstepd.scope/job_1/step_0/slurm", "slurmstepd")
    put(machine.procfs / str(pid), {"comm": "slurmstepd\n"})


def task(
    machine: Machine, folder: Path, pid: int, started_s: float = 2, parent: int = STEPD,
    **environ: str,
) -> None:  # fmt: skip
    """Make a process in a cgroup, with its parent and environment."""
    fields = " ".join(["S", str(parent), *["0"] * 17, str(int(started_s * HZ)), "0", "0"])
    block = "".join(f"{name}={value}\0" for name, value in environ.items())
    put(machine.procfs / str(pid), {"stat": f"{pid} (a b) {fields}\n", "environ": block})
    procs = folder / "cgroup.procs"
    before = procs.read_text() if procs.exists() else ""
    put(folder, {"cgroup.procs": f"{before}{pid}\n"})
