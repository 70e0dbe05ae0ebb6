"""Holders by the processes on each GPU: whose cgroup each one runs in."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from wattkeeper.holders import kernel
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.paths import EVERY_JOB, Believed, JobPath
from wattkeeper.holders.process_claims import Seen, claims_on
from wattkeeper.model.clock import Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import Finding, State

_FIX_PIDS = "run the agent in the host's PID namespace (hostPID: true) with the host's /proc"


_MPS_SERVER = "nvidia-cuda-mps"
"""Of `nvidia-cuda-mps-server` the kernel keeps fifteen characters."""


class OnDevice(Protocol):
    """A process on a device, as sources tell it. `sm_ppm`: its share of SM time, if known."""

    @property
    def pid(self) -> int:
        """The host's process id."""
        ...

    @property
    def sm_ppm(self) -> int | None:
        """Parts per million of the device's SM time, or of its partition's."""
        ...

    @property
    def partition(self) -> str | None:
        """UUID of the MIG device that it is on, None if on none."""
        ...


class ProcessHolders:
    """Claims on each GPU from the processes that run on it; never `allocated`.

    `list_processes` gives the processes by meter name, a missing meter being unknown; `birth_ms`
    the birth of a job that is known otherwise (`CgroupHolders.birth_ms`), so that both ways of
    seeing mean one holder. Processes of no job are the machine's own (holder None). `partitions`
    gives the MIG devices by UUID: who has a process on one holds its part of the GPU.
    """

    name = "processes"

    def __init__(
        self,
        list_processes: Callable[[], Mapping[str, Sequence[OnDevice]]],
        procfs: Path,
        clock: Clock,
        birth_ms: Callable[[str, str], int | None],
        believed: Believed = EVERY_JOB,
        partitions: Callable[[], Mapping[str, Partition]] = dict,
    ) -> None:
        self._list_processes = list_processes
        self._procfs = procfs
        self._clock = clock
        self._birth_ms = birth_ms
        self._believed = believed
        self._partitions = partitions
        # A pid means the same process only together with its start time.
        self._jobs: dict[tuple[int, int], JobPath | None] = {}
        self._keys: dict[tuple[str, str], HolderKey] = {}
        self._infos: dict[HolderKey, HolderInfo] = {}
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._all_known: frozenset[str] = frozenset()
        self._unseen = 0
        self._listed = 0
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Look up the job of every process that is on a device."""
        listed = {meter: tuple(found) for meter, found in self._list_processes().items()}
        if listed or self._claims:
            await asyncio.to_thread(self._look, listed)

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the claims by meter; a meter known to have no process has none."""
        return self._claims

    def listed(self) -> Collection[str]:
        """Return the meters of which the driver listed every process, and procfs knew each."""
        return self._all_known

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return the jobs with a process on a device."""
        return self._infos

    def findings(self) -> Sequence[Finding]:
        """Return whether the processes that the driver names can be found in procfs."""
        if self._listed and self._unseen == self._listed:
            detail = f"none of the {self._listed} processes on the GPUs is in {self._procfs}"
            return [Finding(self.name, State.FAILING, detail, _FIX_PIDS)]
        detail = f"{self._listed} processes on GPUs, {len(self._keys)} jobs"
        return [Finding(self.name, State.OK, detail)]

    async def close(self) -> None:
        """Nothing is held open."""

    def _look(self, listed: Mapping[str, Sequence[OnDevice]]) -> None:
        with self._lock:
            starts = self._starts(listed)
            self._jobs = {at: self._jobs.get(at) or self._job(at[0]) for at in starts.items()}
            self._name(starts)
            by_pid = {pid: self._jobs[pid, start] for pid, start in starts.items()}
            parts = self._partitions()
            self._claims = {
                meter: claims_on([*self._on_meter(found, by_pid)], parts)
                for meter, found in listed.items()
            }
            self._all_known = frozenset(
                meter
                for meter, found in listed.items()
                if all(process.pid in by_pid for process in found)
            )

    def _starts(self, listed: Mapping[str, Sequence[OnDevice]]) -> dict[int, int]:
        """Return the start times of the processes that still exist."""
        pids = {process.pid for found in listed.values() for process in found}
        starts = {pid: kernel.start_ticks(self._procfs, pid) for pid in pids}
        self._listed = len(pids)
        self._unseen = sum(start is None for start in starts.values())
        return {pid: start for pid, start in starts.items() if start is not None}

    def _job(self, pid: int) -> JobPath | None:
        for line in (kernel.read(self._procfs / str(pid) / "cgroup") or "").splitlines():
            # hierarchy-id:controllers:path, and the path may hold colons itself.
            path = line.split(":", 2)[-1]
            job = self._believed.parse(path)
            if job is not None:
                return job
        return None

    def _name(self, starts: Mapping[int, int]) -> None:
        """Give every job its key: kept while it has a process, born with its cgroup if known."""
        firsts: dict[tuple[str, str], int] = {}
        labels: dict[tuple[str, str], dict[str, str]] = {}
        for at in starts.items():
            job = self._jobs[at]
            if job is not None:
                identity = (job.manager, job.raw_id)
                firsts[identity] = min(at[1], firsts.get(identity, at[1]))
                labels[identity] = job.labels
        keys = {}
        for identity, ticks in firsts.items():
            birth = self._birth_ms(*identity)
            known = self._keys.get(identity)
            if known is None or birth is not None:
                birth = kernel.start_wall_ms(ticks, self._clock) if birth is None else birth
                known = HolderKey(*identity, birth)
            keys[identity] = known
        self._keys = keys
        self._infos = {
            key: HolderInfo(*identity, key.birth_ms, labels[identity])
            for identity, key in keys.items()
        }

    def _on_meter(
        self, found: Sequence[OnDevice], by_pid: Mapping[int, JobPath | None]
    ) -> Iterator[Seen]:
        for process in found:
            if process.pid not in by_pid:
                continue  # it ended since the driver listed it
            job = by_pid[process.pid]
            key = self._keys[job.manager, job.raw_id] if job else None
            comm = kernel.read(self._procfs / str(process.pid) / "comm") if len(found) > 1 else ""
            yield Seen(key, process.sm_ppm, process.partition, (comm or "").strip() == _MPS_SERVER)
