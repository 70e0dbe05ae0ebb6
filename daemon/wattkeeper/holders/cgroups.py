"""Jobs and pods seen through their cgroups: births and deaths within ms, and processor time."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wattkeeper.holders import kernel
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.cgroup_tree import Folder, Hierarchy, hierarchies, walk
from wattkeeper.holders.cgroup_watch import TreeWatch
from wattkeeper.holders.cpu_claims import CPUS, Spent, cpu_claims
from wattkeeper.holders.cpu_time import MachineTime, since
from wattkeeper.holders.nested import without_inner
from wattkeeper.holders.paths import EVERY_JOB, SLURM, Believed
from wattkeeper.model.clock import NS_PER_MS, NS_PER_S, Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State

__all__ = ["CPUS", "CgroupHolders", "Life"]

_RESYNC_NS = 60 * NS_PER_S
_MOST_ENDED = 4096
_YOUNG_NS = 5 * NS_PER_S
"""With cgroup v1 a job is in the freezer before it is in cpuacct."""
_FIX_TREE = "mount cgroupfs and set path.cgroupfs to the host's /sys/fs/cgroup"
_FIX_WATCH = "raise sysctl fs.inotify.max_user_watches and max_user_instances"
_FIX_TIME = "set JobAcctGatherType=jobacct_gather/cgroup, so that Slurm uses the cpuacct cgroup"


@dataclass(frozen=True, slots=True)
class Life:
    """A job's cgroup while it is there: since when (boot time), and its folder in each tree."""

    key: HolderKey
    born_ns: int
    folders: tuple[Path, ...]


@dataclass(slots=True)
class _Job:
    """A job with its folder in every hierarchy.

    `usage_us`, `by_cpu_us`: its processor time at the last look, in all and by processor.
    """

    key: HolderKey
    info: HolderInfo
    born_ns: int
    folders: dict[Path, Folder] = field(default_factory=dict)
    usage_us: int | None = None
    by_cpu_us: dict[int, int] = field(default_factory=dict)

    def spent(self, cgroupfs: Path, *, by_cpu: bool) -> Spent:
        """Return what was spent since the last call, `by_cpu` also where."""
        usage = self.measure()
        spent_us = since(self.usage_us, usage)
        self.usage_us = usage
        sets = (folder.cpus(cgroupfs) for folder in self.folders.values())
        allowed = min((cpus for cpus in sets if cpus), key=len, default=None)
        before = self.by_cpu_us
        if by_cpu:
            self.by_cpu_us = self._measure_by_cpu()
        where = {cpu: max(0, us - before.get(cpu, 0)) for cpu, us in self.by_cpu_us.items()}
        return Spent(self.key, spent_us, allowed, where)

    def _measure_by_cpu(self) -> dict[int, int]:
        sums: dict[int, int] = {}
        for folder in self.folders.values():
            for cpu, us in folder.tree.usage_by_cpu_us(folder.path).items():
                sums[cpu] = sums.get(cpu, 0) + us
        return sums

    def measure(self) -> int | None:
        """Return the processor time in µs, None if no hierarchy counts it.

        Several slurmd on one host give one job several folders in a hierarchy: those add up. The
        hierarchies show the same processes once more: the greatest counts.
        """
        sums: dict[Hierarchy, int] = {}
        for folder in self.folders.values():
            usage = folder.tree.usage_us(folder.path)
            if usage is not None:
                sums[folder.tree] = sums.get(folder.tree, 0) + usage
        return max(sums.values(), default=None)


class CgroupHolders:
    """Claims on the processors by each job's cgroup, and by the machine itself: see `cpu_claims`.

    `on_edge` is called on the event loop when a job's cgroup appeared or went. `remembered` is
    what `remember()` gave before the agent restarted: a job that is still the same cgroup keeps
    its birth. A weight is processor time in µs since the look before; None at the first look.
    `sysfs` tells which processor is on which socket.
    """

    name = "cgroups"

    def __init__(
        self,
        procfs: Path,
        cgroupfs: Path,
        clock: Clock,
        on_edge: Callable[[], None] | None = None,
        remembered: Mapping[str, Any] | None = None,
        believed: Believed = EVERY_JOB,
        sysfs: Path | None = None,
    ) -> None:
        self._procfs = procfs
        self._cgroupfs = cgroupfs
        self._clock = clock
        self._on_edge = on_edge or (lambda: None)
        self._remembered = remembered or {}
        self._believed = believed
        self._boot = ""
        self._trees: list[Hierarchy] = []
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._ended: dict[HolderKey, int] = {}
        self._time = MachineTime(procfs, sysfs)
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._denied: OSError | None = None
        self._untimed = 0
        self._watch = TreeWatch(self._edge)
        self._scanned_ns: int | None = None
        # Looks and edges run in threads, and a cancelled look goes on in its thread.
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Measure every job; looks through the whole tree first, each minute, or unwatched."""
        if self._scanned_ns is None:
            self._watch.start()
        await asyncio.to_thread(self._look)

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return a claim per job and the machine's own: `cpu/*`, and each of several sockets."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return every job that has a cgroup."""
        return {job.key: job.info for job in list(self._jobs.values())}

    def birth_ms(self, manager: str, raw_id: str) -> int | None:
        """Return the birth of a job that has a cgroup, else None."""
        job = self._jobs.get((manager, raw_id))
        return job.key.birth_ms if job else None

    def lives(self) -> list[Life]:
        """Return the jobs that have a cgroup now."""
        return [Life(job.key, job.born_ns, tuple(job.folders)) for job in list(self._jobs.values())]

    def died_ns(self, manager: str, raw_id: str) -> int | None:
        """Return when the last cgroup of a job went, in boot time; None if that was not seen."""
        ends = [
            at
            for key, at in list(self._ended.items())
            if (key.manager, key.raw_id) == (manager, raw_id)
        ]
        return max(ends, default=None)

    def remember(self) -> dict[str, Any]:
        """Return, ready for JSON, what lets jobs keep their births over a restart."""
        with self._lock:
            births = {
                str(path): [folder.inode, job.key.birth_ms]
                for job in self._jobs.values()
                for path, folder in job.folders.items()
            }
        return {"boot_id": self._boot, "births": births}

    def findings(self) -> Sequence[Finding]:
        """Return how the trees and their watches do."""
        if self._denied is not None:
            return [Finding(self.name, State.DENIED, str(self._denied), "run the agent as root")]
        if self._scanned_ns is not None and not self._trees:
            detail = f"no cgroup hierarchy in {self._cgroupfs}"
            return [Finding(self.name, State.ABSENT, detail, _FIX_TREE)]
        if self._watch.failure:
            detail = f"{self._watch.failure}: jobs are looked for at each sample only"
            return [Finding(self.name, State.FAILING, detail, _FIX_WATCH)]
        found = [Finding(self.name, State.OK, f"{len(self._jobs)} jobs, edges by inotify")]
        if self._untimed:
            detail = f"{self._untimed} jobs have no cgroup that counts processor time"
            found.append(Finding("cgroups/time", State.FAILING, detail, _FIX_TIME))
        return found

    async def close(self) -> None:
        """Stop watching."""
        await self._watch.close()

    async def _edge(self, place: Path | None) -> None:
        if await asyncio.to_thread(self._rescan, place):
            self._on_edge()

    def _rescan(self, place: Path | None) -> bool:
        with self._lock:
            before = {job.key for job in self._jobs.values()}
            for tree in self._trees:
                if place is None:
                    self._scan(tree, tree.root)
                elif place.is_relative_to(tree.root):
                    self._scan(tree, place)
            return before != {job.key for job in self._jobs.values()}

    def _look(self) -> None:
        with self._lock:
            now_ns = self._clock.boot_ns()
            due = self._scanned_ns is None or now_ns - self._scanned_ns >= _RESYNC_NS
            if due:
                self._boot = self._boot or kernel.boot_id(self._procfs)
                self._time.resync()
                self._trees = hierarchies(self._cgroupfs)
            if due or self._watch.failure:
                self._denied = None
                for tree in self._trees:
                    self._scan(tree, tree.root)
            if due:
                self._scanned_ns = now_ns
            self._measure()

    def _scan(self, tree: Hierarchy, start: Path) -> None:
        try:
            walked = walk(tree, start, self._watch.add, self._believed)
            found = {folder.path: folder for folder in walked}
        except PermissionError as error:
            self._denied = error
            return
        for identity, job in list(self._jobs.items()):
            for path, folder in list(job.folders.items()):
                seen = found.get(path)
                gone = seen is None and folder.tree == tree and path.is_relative_to(start)
                if gone or (seen is not None and seen.inode != folder.inode):
                    del job.folders[path]
            if not job.folders:
                self._bury(self._jobs.pop(identity))
        for folder in found.values():
            self._add(folder)

    def _add(self, folder: Folder) -> None:
        identity = (folder.job.manager, folder.job.raw_id)
        job = self._jobs.get(identity)
        if job is None:
            key = HolderKey(*identity, self._birth_ms(folder))
            info = HolderInfo(*identity, key.birth_ms, folder.job.labels)
            now_ns = self._clock.boot_ns()
            ahead_ns = self._clock.wall_ns() - now_ns
            # A remembered birth is by the clock as it stood then, and that may have been ahead.
            job = _Job(key, info, min(now_ns, key.birth_ms * NS_PER_MS - ahead_ns))
            if self._scanned_ns is not None:
                job.usage_us = 0  # born while watched: all it has spent is since the last look
            self._jobs[identity] = job
        job.folders[folder.path] = folder

    def _bury(self, job: _Job) -> None:
        self._ended[job.key] = self._clock.boot_ns()
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def _birth_ms(self, folder: Folder) -> int:
        now_ms = self._clock.wall_ns() // NS_PER_MS
        if self._scanned_ns is not None:
            return now_ms
        if self._boot and self._remembered.get("boot_id") == self._boot:
            known = self._remembered.get("births", {}).get(str(folder.path))
            if known is not None and known[0] == folder.inode:
                return int(known[1])
        starts = (kernel.start_ticks(self._procfs, p) for p in kernel.processes(folder.path))
        ticks = min((start for start in starts if start is not None), default=None)
        return now_ms if ticks is None else min(now_ms, kernel.start_wall_ms(ticks, self._clock))

    def _measure(self) -> None:
        by_cpu = self._time.several_sockets
        jobs = [job.spent(self._cgroupfs, by_cpu=by_cpu) for job in self._jobs.values()]
        old_ns = self._clock.boot_ns() - _YOUNG_NS
        self._untimed = sum(
            job.usage_us is None and job.born_ns < old_ns for job in self._jobs.values()
        )
        machine_us, processors = self._time.spent_us(self._trees), self._time.processors()
        pods = {
            job.key: job.info.labels["pod_uid"]
            for job in self._jobs.values()
            if job.key.manager == SLURM and "pod_uid" in job.info.labels
        }
        own = without_inner(jobs, pods) if pods else jobs
        self._claims = cpu_claims(own, machine_us, processors) if self._trees else {}
