"""A job's tasks as slurmstepd started them, and the GPUs that their environments name.

Read on real Slurm: a batch script has SLURM_JOB_GPUS. A task of `srun` has SLURM_STEP_GPUS, and
SLURM_JOB_GPUS is empty there or, worse, inherited from the batch script on another node.
CUDA_VISIBLE_DEVICES starts at 0 inside a constrained job and is never looked at. slurmstepd, which
is root's, has none of them.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, islice
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
    """What the tasks of one step have said.

    `read`: (pid, start) of those that were understood and are still there.
    """

    gpus: set[int] = field(default_factory=set)
    shared: bool = False
    flaw: str = ""
    read: set[tuple[int, int]] = field(default_factory=set)

    def take(self, other: "Step") -> None:
        """Take over what another step has named."""
        self.gpus |= other.gpus
        self.shared = self.shared or other.shared


def steps(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the folders of each step that has tasks of the user, of all folders of a job."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name.startswith("step_"))
        except OSError:
            continue
        for name in names:
            if name != "step_extern":
                found.setdefault(name, []).append(folder / name)
    return found


class Tasks:
    """Reads environments below `procfs`. `denied`: one could not be read for want of rights."""

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs
        # Whoever mounted procfs is root here, also where a test made it.
        self._root = procfs.stat().st_uid
        self.denied = False

    def read(self, name: str, folders: Iterable[Path], step: Step) -> None:
        """Take in the tasks in a step's folders that were not understood yet.

        A task that slurmstepd has forked and that has not become the user's program yet is left
        for the next time. What a task's environment said first stays: its user may rewrite it.
        """
        budget = _MOST_READ
        known, step.read = step.read, set()
        for pid in chain.from_iterable(islice(kernel.processes(f), _MOST_PIDS) for f in folders):
            start = kernel.start_ticks(self._procfs, pid)
            if start is None or (pid, start) in step.read:
                continue
            if (pid, start) in known:
                step.read.add((pid, start))
            elif budget:
                budget -= 1
                self._take_in(name, pid, start, step)

    def _take_in(self, name: str, pid: int, start: int, step: Step) -> None:
        if not self._started_by_stepd(pid):
            step.read.add((pid, start))
            return
        environ = self._environ(pid)
        if "SLURM_JOB_ID" in environ:
            step.read.add((pid, start))
            _take(step, name, environ)

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
