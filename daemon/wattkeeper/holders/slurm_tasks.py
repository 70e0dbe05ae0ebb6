"""A job's tasks as slurmstepd started them, and the GPUs that their environments name.

Read on real Slurm: a batch script has SLURM_JOB_GPUS. A task of `srun` has SLURM_STEP_GPUS, and
SLURM_JOB_GPUS is empty there or, worse, inherited from the batch script on another node.
CUDA_VISIBLE_DEVICES starts at 0 inside a constrained job and is never looked at. slurmstepd, which
is root's, has none of them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from wattkeeper.holders import gpus, kernel

_STEPD = "slurmstepd"
_BATCH = "step_batch"
_MOST_PIDS = 512
"""Processes of a step that are looked at: those that slurmstepd starts come first."""
_MOST_READ = 64
_MOST_ENVIRON = 1 << 20
_SHARING = ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "SLURM_SHARDS_ON_NODE")


@dataclass(slots=True)
class Step:
    """What the tasks of one step have said. `read`: (pid, start) of those that were understood."""

    gpus: set[int] = field(default_factory=set)
    shared: bool = False
    flaw: str = ""
    read: set[tuple[int, int]] = field(default_factory=set)


def steps(folder: Path) -> Iterator[Path]:
    """Yield the folders of a job's steps that have tasks of the user."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.startswith("step_"))
    except OSError:
        return
    yield from (folder / name for name in names if name != "step_extern")


class Tasks:
    """Reads environments below `procfs`. `denied`: one could not be read for want of rights."""

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs
        # Whoever mounted procfs is root here, also where a test made it.
        self._root = procfs.stat().st_uid
        self.denied = False

    def read(self, folder: Path, step: Step) -> None:
        """Take in the tasks of a step's folder that were not understood yet.

        A task that slurmstepd has forked and that has not become the user's program yet is left
        for the next time. What a task's environment said first stays: its user may rewrite it.
        """
        budget = _MOST_READ
        for pid in islice(kernel.processes(folder), _MOST_PIDS):
            start = kernel.start_ticks(self._procfs, pid)
            if start is None or (pid, start) in step.read or not budget:
                continue
            budget -= 1
            if not self._started_by_stepd(pid):
                step.read.add((pid, start))
                continue
            environ = self._environ(pid)
            if "SLURM_JOB_ID" in environ:
                step.read.add((pid, start))
                _take(step, folder.name, environ)

    def _started_by_stepd(self, pid: int) -> bool:
        parent = self._procfs / str(kernel.parent(self._procfs, pid) or 0)
        if (kernel.read(parent / "comm") or "").strip() != _STEPD:
            return False
        try:
            return parent.stat().st_uid == self._root
        except OSError:
            return False

    def _environ(self, pid: int) -> dict[str, str]:
        try:
            with (self._procfs / str(pid) / "environ").open("rb") as block:
                text = block.read(_MOST_ENVIRON).decode("utf-8", "replace")
        except PermissionError:
            self.denied = True
            return {}
        except OSError:
            return {}
        self.denied = False
        wanted = (entry.partition("=") for entry in text.split("\0") if entry.startswith(_NAMES))
        return {name: value for name, _, value in wanted}


_NAMES = ("SLURM_", "CUDA_MPS_")


def _take(step: Step, name: str, environ: dict[str, str]) -> None:
    variable = "SLURM_JOB_GPUS" if name == _BATCH else "SLURM_STEP_GPUS"
    try:
        step.gpus.update(gpus.indices(environ.get(variable, "")))
    except ValueError as error:
        step.flaw = f"{variable} {error}"
    step.shared = step.shared or any(environ.get(sharing) for sharing in _SHARING)
