"""Holders by a job-mapping folder, as dcgm-exporter reads it and many a prolog writes it.

One file per GPU, named by its index (`0`), its index and MIG instance (`0.3`) or its UUID; in it
one job id per line. Some sites write the user behind the id.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wattkeeper.holders import gpus
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.holders.edge_log import EdgeLog
from wattkeeper.holders.gpus import Device, Devices
from wattkeeper.holders.paths import SLURM, is_job_id
from wattkeeper.model.clock import NS_PER_MS, Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import Finding, State

_MOST_FILES = 1024
_MOST_BYTES = 65_536


class MappingHolders:
    """Claims on the GPUs whose file names a job; several jobs in one file share the GPU.

    A job is born with its cgroup where `birth_ms` knows it, else when the file that names it was
    written. A claim counts from the time at which its file was last written.
    """

    name = "mapping"

    def __init__(
        self,
        folder: Path,
        devices: Callable[[], Devices],
        partitions: Callable[[], Mapping[str, Partition]],
        clock: Clock,
        birth_ms: Callable[[str, str], int | None],
    ) -> None:
        self._folder = folder
        self._devices = devices
        self._partitions = partitions
        self._clock = clock
        self._birth_ms = birth_ms
        self._keys: dict[str, HolderKey] = {}
        self._ended: tuple[HolderKey, ...] = ()
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._edges = EdgeLog()
        self._failed: OSError | None = None
        self._strange: list[str] = []
        # A look runs in a thread, and a cancelled one goes on there.
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Read the folder."""
        await asyncio.to_thread(self._look)

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the claims by meter, all of them `allocated`."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return the jobs in the folder, and those that the last look found gone."""
        keys = (*self._ended, *self._keys.values())
        return {key: HolderInfo(key.manager, key.raw_id, key.birth_ms, _label(key)) for key in keys}

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return what files gave and took after an instant."""
        return self._edges.since(since_boot_ns)

    def fresh(self) -> Sequence[HolderEdge]:
        """Return what the last look found files to have given and taken, and when."""
        return self._edges.fresh

    def findings(self) -> Sequence[Finding]:
        """Return how the folder does, and names and lines in it that mean nothing."""
        if self._failed is not None:
            denied = isinstance(self._failed, PermissionError)
            state = State.DENIED if denied else State.ABSENT
            detail = f"{self._folder}: {self._failed.strerror}"
            return [Finding(self.name, state, detail, "correct slurm.job_mapping_dir")]
        found = [Finding(self.name, State.OK, f"{len(self._keys)} jobs in {self._folder}")]
        if self._strange:
            detail = f"{len(self._strange)} entries in {self._folder}, such as {self._strange[0]}"
            fix = "a file is named by a GPU's index or UUID and holds one job id per line"
            found.append(Finding("mapping/entries", State.FAILING, detail, fix))
        return found

    async def close(self) -> None:
        """Nothing is held open."""

    def _look(self) -> None:
        with self._lock:
            self._edges.begin()
            before = {
                (claim.holder, meter)
                for meter, claims in self._claims.items()
                for claim in claims
                if claim.holder is not None
            }
            changed_ns = self._clock.boot_ns()
            try:
                files = sorted(self._folder.iterdir())[:_MOST_FILES]
                changed_ns = min(changed_ns, self._written_ns(self._folder))
            except OSError as error:
                self._failed, files = error, []
            else:
                self._failed = None
            self._strange = []
            since = self._read(files)
            self._note(before, since, changed_ns)

    def _written_ns(self, path: Path) -> int:
        """Return when a file was last written, or an entry of a folder last came or went."""
        return path.stat().st_mtime_ns - self._clock.wall_ns() + self._clock.boot_ns()

    def _read(self, files: Sequence[Path]) -> dict[str, int]:
        """Read the files; return when each meter's was last written, in boot time."""
        by_meter: dict[str, list[tuple[str, Device, bool]]] = {}
        since: dict[str, int] = {}
        for file in files:
            device = self._device(file.name)
            try:
                jobs = self._jobs(file) if device is not None else []
                written_ns = self._written_ns(file)
            except OSError:
                continue  # the epilog has just taken it away
            if device is not None and jobs:
                meter = gpus.meter(device)
                by_meter.setdefault(meter, []).extend((job, device, len(jobs) > 1) for job in jobs)
                since[meter] = max(written_ns, since.get(meter, written_ns))
        firsts: dict[str, int] = {}
        for meter, entries in by_meter.items():
            for job, _, _ in entries:
                firsts[job] = min(since[meter], firsts.get(job, since[meter]))
        self._ended = tuple(key for job, key in self._keys.items() if job not in firsts)
        self._keys = {
            job: self._keys.get(job) or self._key(job, at_ns) for job, at_ns in firsts.items()
        }
        self._claims = {meter: self._on_meter(jobs) for meter, jobs in by_meter.items()}
        return since

    def _on_meter(self, jobs: Sequence[tuple[str, Device, bool]]) -> tuple[Claim, ...]:
        devices: dict[str, list[Device]] = {}
        shared: dict[str, bool] = {}
        for job, device, together in jobs:
            devices.setdefault(job, []).append(device)
            shared[job] = shared.get(job, False) or together
        claims: list[Claim] = []
        for job, held in devices.items():
            claims += gpus.claims(held, self._keys[job], shared=shared[job]).values()
        if len(claims) > 1:
            claims = [replace(c, reserved_ppm=None) if gpus.whole(c) else c for c in claims]
        return tuple(claims)

    def _device(self, name: str) -> Device | None:
        index, _, instance = name.partition(".")
        if index.isdecimal() and instance.isdecimal():
            return self._instance(int(index), int(instance))
        if name.isdecimal():
            found = self._devices().get(int(name))
        elif name.startswith(("GPU-", "MIG-")):
            return gpus.by_uuid(name, self._partitions())
        else:
            found = None
        if found is None:
            self._strange.append(f"a file {name[:80]!r}")
        return found

    def _instance(self, index: int, instance: int) -> Device | None:
        """Return the MIG instance with an id, of the GPU with an index."""
        whole = self._devices().get(index)
        found = (
            part
            for part in self._partitions().values()
            if part.meter == whole and part.instance == instance
        )
        return next(found, None)

    def _jobs(self, file: Path) -> list[str]:
        with file.open("rb") as content:
            lines = content.read(_MOST_BYTES).decode("utf-8", "replace").splitlines()
        firsts = [line.split()[0] for line in lines if line.split()]
        jobs = [job for job in dict.fromkeys(firsts) if is_job_id(job)]
        if len(jobs) < len(set(firsts)):
            self._strange.append(f"a line in {file.name[:80]!r} that is no job id")
        return jobs

    def _key(self, job: str, written_ns: int) -> HolderKey:
        birth = self._birth_ms(SLURM, job)
        if birth is None:
            ahead_ns = self._clock.wall_ns() - self._clock.boot_ns()
            birth = (written_ns + ahead_ns) // NS_PER_MS
        return HolderKey(SLURM, job, birth)

    def _note(
        self, before: set[tuple[HolderKey, str]], since: Mapping[str, int], changed_ns: int
    ) -> None:
        now = {
            (claim.holder, meter)
            for meter, claims in self._claims.items()
            for claim in claims
            if claim.holder is not None
        }
        now_ns = self._clock.boot_ns()
        # A file that is gone cannot tell when it went, but its folder can.
        order = sorted(before ^ now, key=lambda held: (held[1], held[0].raw_id))
        self._edges.add(
            HolderEdge(
                key, (key, meter) in now, min(now_ns, since.get(meter, changed_ns)), (meter,)
            )
            for key, meter in order
        )


def _label(key: HolderKey) -> dict[str, str]:
    return {"job_id" if key.raw_id.isdecimal() else "sluid": key.raw_id}
