"""Finding the folders of jobs and pods in the cgroup hierarchies, v1, v2 and both at once."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wattkeeper.holders import kernel
from wattkeeper.holders.paths import Believed, JobPath

_DEEPEST = 12
"""Folders below a hierarchy's root; kind's kubelet in a container reaches 7."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup tree. `controller` is empty for cgroup v2."""

    root: Path
    controller: str

    def usage_us(self, folder: Path) -> int | None:
        """Return the processor time spent in a cgroup and all below it, in µs; None if unknown."""
        if self.controller == "cpuacct":
            text = (kernel.read(folder / "cpuacct.usage") or "").strip()
            return int(text) // 1000 if text.isdecimal() else None
        if self.controller:
            return None
        for line in (kernel.read(folder / "cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec" and value.isdecimal():
                return int(value)
        return None

    def usage_by_cpu_us(self, folder: Path) -> dict[int, int]:
        """Return the processor time spent on each processor, in µs; only v1's cpuacct knows."""
        if self.controller != "cpuacct":
            return {}
        fields = (kernel.read(folder / "cpuacct.usage_percpu") or "").split()
        return {cpu: int(ns) // 1000 for cpu, ns in enumerate(fields) if ns.isdecimal()}


def hierarchies(cgroupfs: Path) -> list[Hierarchy]:
    """Return the trees to look through: v2 alone, or v1's and the `unified` one beside them.

    Slurm on v1 puts every job into freezer and, with jobacct_gather/cgroup, into cpuacct.
    """
    if (cgroupfs / "cgroup.controllers").exists():
        return [Hierarchy(cgroupfs, "")]
    trees = [Hierarchy(cgroupfs / name, name) for name in ("cpuacct", "freezer")]
    if (cgroupfs / "unified" / "cgroup.controllers").exists():
        trees.append(Hierarchy(cgroupfs / "unified", ""))
    return [tree for tree in trees if tree.root.is_dir()]


@dataclass(frozen=True, slots=True)
class Folder:
    """The cgroup of a job in one hierarchy. `inode` is never given twice in one boot."""

    tree: Hierarchy
    path: Path
    inode: int
    job: JobPath

    def cpus(self, cgroupfs: Path) -> frozenset[int] | None:
        """Return the processors that the cgroup may run on, None if nothing says so."""
        if not self.tree.controller:
            return kernel.cpu_set(kernel.read(self.path / "cpuset.cpus.effective"))
        twin = cgroupfs / "cpuset" / self.path.relative_to(self.tree.root)
        return kernel.cpu_set(kernel.read(twin / "cpuset.cpus"))


def walk(
    tree: Hierarchy,
    start: Path,
    entering: Callable[[Path], None],
    believed: Believed,
) -> Iterator[Folder]:
    """Yield the job folders at and below `start`, calling `entering` before a folder is listed.

    A watch that is set in `entering` sees every folder made after the listing. Job folders
    themselves are not entered, unless other jobs may lie in them.
    """
    stack = [start]
    while stack:
        place = stack.pop()
        inner = place.relative_to(tree.root)
        job = believed.parse(str(inner))
        if job is not None:
            with contextlib.suppress(FileNotFoundError):
                yield Folder(tree, place, place.stat().st_ino, job)
        if len(inner.parts) < _DEEPEST and believed.enters(str(inner)):
            # A folder can end between being seen and being entered.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                entering(place)
                stack += _folders(place)


def _folders(place: Path) -> list[Path]:
    with os.scandir(place) as entries:
        return [place / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
