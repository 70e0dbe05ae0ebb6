"""Holders by the environment of a job's tasks: who has which GPU where no prolog says it."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wattkeeper.holders import gpus, kernel
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.holders.cgroups import Life
from wattkeeper.holders.edge_log import EdgeLog
from wattkeeper.holders.gpus import Device, Devices
from wattkeeper.holders.paths import SLURM
from wattkeeper.holders.slurm_tasks import Step, Tasks, steps
from wattkeeper.model.clock import NS_PER_MS, NS_PER_S, Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State

_RETRIES_MS = (40, 80, 160, 320, 640)
"""A task's environment is there some ms after the job's cgroup: it has to be executed first."""
_YOUNG_NS = 10 * NS_PER_S
_AGAIN_NS = 30 * NS_PER_S
"""Tasks of a step come up within seconds; later ones are looked for this often."""
_EMPTY_NS = 60 * NS_PER_S
_FIX_DENIED = "give the agent CAP_SYS_PTRACE, or let prolog and epilog mark jobs"


@dataclass(slots=True)
class _Job:
    """What is known of a job. `due_ns`: when its tasks are looked at again, in boot time.

    `past`: what steps named that have ended; `understood`: the environment of a task of it has
    been read.
    """

    life: Life
    first_ns: int
    due_ns: int = 0
    steps: dict[str, Step] = field(default_factory=dict)
    past: Step = field(default_factory=Step)
    meters: dict[str, Claim] = field(default_factory=dict)
    empty_ns: int | None = None
    retries: int = 0
    understood: bool = False

    @property
    def gpus(self) -> set[int]:
        """Indices over all steps: a step may have fewer than the job."""
        return self.past.gpus.union(*(step.gpus for step in self.steps.values()))

    @property
    def shared(self) -> bool:
        """Whether the job said that others share its GPUs."""
        return self.past.shared or any(step.shared for step in self.steps.values())


class SlurmEnvironHolders:
    """Claims on GPUs by the environments of the tasks of each Slurm job that has a cgroup.

    `lives` gives the jobs, `died_ns` when one ended; a claim counts from the birth of its job's
    cgroup to its death, or until the cgroup has had no process for a minute: a folder that Slurm
    forgot holds nothing.
    `devices` gives the device behind each index. `on_edge` is called on the event loop when a
    young job is found to name GPUs: it is looked at several times in its first second. A user can
    name other GPUs in his environment than he has: this is the weakest word there is, and whoever
    merges it must hold it so.
    """

    name = "environ"

    def __init__(
        self,
        procfs: Path,
        lives: Callable[[], Sequence[Life]],
        devices: Callable[[], Devices],
        clock: Clock,
        on_edge: Callable[[], None] | None = None,
        died_ns: Callable[[str, str], int | None] = lambda _manager, _raw_id: None,
    ) -> None:
        self._procfs = procfs
        self._lives = lives
        self._devices = devices
        self._clock = clock
        self._on_edge = on_edge
        self._died_ns = died_ns
        self._tasks: Tasks | None = None
        self._jobs: dict[HolderKey, _Job] = {}
        self._edges = EdgeLog()
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._infos: dict[HolderKey, HolderInfo] = {}
        self._findings: Sequence[Finding] = (Finding(self.name, State.OK, "no Slurm jobs here"),)
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.Task[None] | None = None
        # A look runs in a thread, and a cancelled one goes on there.
        self._lock = threading.Lock()

    async def look(self) -> None:
        """Read the environments of tasks that are new; ask for another look if one is awaited."""
        lives = [life for life in self._lives() if life.key.manager == SLURM]
        self._edges.begin()
        if lives or self._jobs or self._infos:
            await asyncio.to_thread(self._look, lives)
            self._ask_again()

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the claims by meter, all of them `allocated`."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return the jobs that hold a GPU, and those that the last look found ended."""
        return self._infos

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return holds that began with their cgroup or ended with it since an instant."""
        return self._edges.since(since_boot_ns)

    def fresh(self) -> Sequence[HolderEdge]:
        """Return what the last look found: births are older than the environments they show in."""
        return self._edges.fresh

    def findings(self) -> Sequence[Finding]:
        """Return what was understood, and what was not."""
        return self._findings

    async def close(self) -> None:
        """Ask for no further look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.wait({self._retry})

    def _look(self, lives: Sequence[Life]) -> None:
        with self._lock:
            now_ns = self._clock.boot_ns()
            known = self._devices()
            if self._tasks is None:
                self._tasks = Tasks(self._procfs)
            for key in self._jobs.keys() - {life.key for life in lives}:
                died_ns = self._died_ns(key.manager, key.raw_id)
                self._end(self._jobs.pop(key), now_ns if died_ns is None else died_ns)
            for life in lives:
                job = self._jobs.setdefault(life.key, _Job(life, now_ns))
                job.life = life
                if now_ns >= job.due_ns:
                    self._read(job, self._tasks, now_ns)
                self._hold(job, known, now_ns)
            self._claim()
            self._findings = self._find(known)

    def _read(self, job: _Job, tasks: Tasks, now_ns: int) -> None:
        fresh = False
        places = steps(job.life.folders)
        for name in job.steps.keys() - places.keys():
            job.past.take(job.steps.pop(name))
        for name, folders in places.items():
            fresh |= name not in job.steps
            step = job.steps.setdefault(name, Step())
            tasks.read(name, folders, step)
            job.understood = job.understood or bool(step.read)
        if fresh:
            job.first_ns = now_ns
        young = now_ns - job.first_ns < _YOUNG_NS
        job.due_ns = now_ns if young else now_ns + _AGAIN_NS
        if not young:
            populated = any(next(kernel.processes(f), None) for f in job.life.folders)
            job.empty_ns = None if populated else (job.empty_ns or now_ns)

    def _hold(self, job: _Job, known: Devices, now_ns: int) -> None:
        """Give the job what its tasks name, from its birth on; take it from a forgotten folder."""
        if job.empty_ns is not None and now_ns - job.empty_ns >= _EMPTY_NS:
            self._end(job, now_ns)
            return
        devices: list[Device] = [known[index] for index in sorted(job.gpus) if index in known]
        claims = gpus.claims(devices, job.life.key, shared=job.shared)
        if claims.keys() != job.meters.keys():
            more = tuple(sorted(claims.keys() - job.meters.keys()))
            fewer = tuple(sorted(job.meters.keys() - claims.keys()))
            if fewer:
                self._edges.add([HolderEdge(job.life.key, False, now_ns, fewer)])
            if more:
                self._edges.add([HolderEdge(job.life.key, True, job.life.born_ns, more)])
        job.meters = claims

    def _end(self, job: _Job, now_ns: int) -> None:
        if job.meters:
            meters = tuple(sorted(job.meters))
            self._edges.add([HolderEdge(job.life.key, False, now_ns, meters)])
        job.meters = {}

    def _claim(self) -> None:
        holding = [key for key, job in self._jobs.items() if job.meters]
        # Of those that have just ended the last joules are booked after this look.
        ended = [edge.key for edge in self._edges.fresh if not edge.started]
        self._infos = {
            key: HolderInfo(key.manager, key.raw_id, key.birth_ms, _label(key.raw_id))
            for key in (*ended, *holding)
        }
        by_meter: dict[str, list[Claim]] = {}
        for job in self._jobs.values():
            for meter, claim in job.meters.items():
                by_meter.setdefault(meter, []).append(claim)
        self._claims = {meter: tuple(claims) for meter, claims in by_meter.items()}

    def _find(self, known: Devices) -> list[Finding]:
        if self._tasks is not None and self._tasks.denied:
            detail = "the environments of jobs' tasks cannot be read"
            return [Finding(self.name, State.DENIED, detail, _FIX_DENIED)]
        jobs = self._jobs.values()
        holding = sum(bool(job.meters) for job in jobs)
        detail = f"{holding} of {len(jobs)} Slurm jobs name GPUs"
        found = [Finding(self.name, State.OK, detail)]
        strange = sorted({index for job in jobs for index in job.gpus} - known.keys())
        if known and strange:
            detail = f"tasks name GPU indices that fit no meter: {', '.join(map(str, strange))}"
            fix = "compare gres.conf with the GPUs that doctor lists"
            found.append(Finding("environ/gpus", State.FAILING, detail, fix))
        flaws = [(job, step.flaw) for job in jobs for step in job.steps.values() if step.flaw]
        if flaws:
            job, flaw = flaws[0]
            detail = f"job {job.life.key.raw_id}: {flaw}; {len(flaws)} steps like it"
            fix = "its user has set it: nothing is believed of it"
            found.append(Finding("environ/values", State.FAILING, detail, fix))
        return found

    def _ask_again(self) -> None:
        """Read the tasks of young jobs again soon, without a sample that would book meanwhile."""
        if self._on_edge is None or self._timer is not None or self._retry is not None:
            return
        waiting = self._waiting()
        if not waiting:
            return
        delay_ms = min(_RETRIES_MS[job.retries] for job in waiting)
        for job in waiting:
            job.retries += 1
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_ms * NS_PER_MS / NS_PER_S, self._begin_retry)

    def _waiting(self) -> list[_Job]:
        """Return the jobs of which no task has been understood yet."""
        return [
            job
            for job in list(self._jobs.values())
            if not job.understood
            and job.retries < len(_RETRIES_MS)
            and self._clock.boot_ns() - job.life.born_ns < NS_PER_S
        ]

    def _begin_retry(self) -> None:
        self._timer = None
        self._retry = asyncio.create_task(self._read_again(), name="environments")

    async def _read_again(self) -> None:
        found = await asyncio.to_thread(self._read_waiting)
        self._retry = None
        if found and self._on_edge is not None:
            self._on_edge()
        self._ask_again()

    def _read_waiting(self) -> bool:
        """Read the tasks of young jobs; True if one of them names a GPU."""
        with self._lock:
            waiting, now_ns = self._waiting(), self._clock.boot_ns()
            for job in waiting:
                if self._tasks is not None:
                    self._read(job, self._tasks, now_ns)
            return any(job.gpus for job in waiting)


def _label(raw_id: str) -> dict[str, str]:
    return {"job_id" if raw_id.isdecimal() else "sluid": raw_id}
