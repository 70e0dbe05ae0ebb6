"""What happens on a node, drawn at random: jobs and pods, and how much of each is told, and when.

All times are milliseconds since the story began.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from wattkeeper.holders.paths import KUBERNETES, SLURM
from wattkeeper.model.meter import Partition

UUIDS = [f"GPU-{n:08d}-0000-0000-0000-000000000000" for n in range(4)]
GPUS = [f"gpu/{uuid}" for uuid in UUIDS]
CPU = "cpu/0/package"
SLICES = {
    f"MIG-{n:08d}-0000-0000-0000-000000000000": Partition(
        f"MIG-{n:08d}-0000-0000-0000-000000000000", GPUS[3], n, 500_000, 428_571
    )
    for n in range(2)
}


@dataclass(frozen=True)
class Device:
    """What is handed out by an index of Slurm's: a GPU to one (`whole`), in `turns`, or a slice."""

    meter: str
    uuid: str
    whole: bool = False
    turns: bool = False


DEVICES = (
    Device(GPUS[0], UUIDS[0], whole=True),
    Device(GPUS[1], UUIDS[1], whole=True),
    Device(GPUS[2], UUIDS[2], turns=True),
    *(Device(GPUS[3], uuid) for uuid in SLICES),
)


@dataclass(frozen=True)
class Told:
    """An edge, and when its mark is found; `again`: when the same mark is found once more."""

    at: int
    found: int
    again: int | None = None


@dataclass(frozen=True)
class Job:
    """A run of a Slurm job, or a pod. None: that does not happen.

    `start`, `end`: its marks. `born`, `died`: its cgroup; `seen`: both are noticed at once, not
    only at the next look. `shown`: when the environment of a task tells its GPUs, or the kubelet
    does. `works`: from when to when a process of it is on each of its GPUs, and on the one that
    it `strays` to; `checks`: from when to when one of its prolog is, which is the machine's own.
    `named`: its scheduler speaks of it.
    """

    manager: str
    raw_id: str
    devices: tuple[int, ...]
    born: int
    died: int
    restarts: int = 0
    start: Told | None = None
    end: Told | None = None
    shown: int | None = None
    works: tuple[int, int] | None = None
    strays: int | None = None
    checks: tuple[int, int] | None = None
    seen: bool = True
    named: bool = True

    @property
    def begins(self) -> int:
        """When it gets its GPUs."""
        return self.born if self.start is None else min(self.born, self.start.at)

    @property
    def over(self) -> int:
        """When it has lost them."""
        return self.died if self.end is None else max(self.died, self.end.at)

    @property
    def meters(self) -> set[str]:
        """The meters of its GPUs."""
        return {DEVICES[index].meter for index in self.devices}

    @property
    def in_turns(self) -> bool:
        """Whether others may have its GPUs at the same time."""
        return any(DEVICES[index].turns for index in self.devices)

    def happenings(self) -> Iterator[tuple[int, str]]:
        """Yield what happens, and when."""
        for kind, told in (("start", self.start), ("end", self.end)):
            times = (told.found, told.again) if told else ()
            yield from ((at, kind) for at in times if at is not None)
        yield self.born, "born"
        yield self.died, "died"
        if self.shown is not None:
            yield self.shown, "shown"
        if self.works is not None:
            yield self.works[0], "works"
            yield self.works[1], "rests"
        if self.checks is not None:
            yield self.checks[0], "checks"
            yield self.checks[1], "checked"


_GIVEN = [(0,), (1,), (0, 1), (2,), (3,), (4,), (3, 4)]
_STEP = st.integers(1, 3_000)
_REQUEUED = 2_000
"""So long at least it takes Slurm to start a job again: clocks may differ by as much."""
_LATE = st.one_of(st.just(0), st.just(0), st.integers(1, 6_000))


@st.composite
def stories(draw: st.DrawFn) -> list[Job]:
    """Draw jobs. What one has alone was free before; some are runs of a job that was requeued."""
    jobs: list[Job] = []
    free = [0] * len(DEVICES)
    for number in range(draw(st.integers(2, 6))):
        devices = draw(st.sampled_from(_GIVEN))
        begins = max(draw(st.integers(0, 4_000)), *(free[index] for index in devices))
        begins += draw(_STEP)
        if draw(st.integers(0, 3)):
            first = draw(st.sampled_from([None, *jobs]))
            runs = [job for job in jobs if first and job.raw_id == first.raw_id]
            if any(run.manager != SLURM or run.over + _REQUEUED >= begins for run in runs):
                runs = []
            raw_id = runs[0].raw_id if runs else str(number + 101)
            job = draw(_slurm(raw_id, len(runs), devices, begins))
        else:
            job = draw(_pod(f"{number:08x}-0000-0000-0000-000000000000", devices, begins))
        jobs.append(job)
        for index in devices:
            free[index] = 0 if DEVICES[index].turns else job.over
    return jobs


@st.composite
def _slurm(
    draw: st.DrawFn, raw_id: str, restarts: int, devices: tuple[int, ...], begins: int
) -> Job:
    check, start, born, shown, works, rests, died, end = _times(draw, begins, 8)
    if draw(st.booleans()):
        start, born = born, start
    if draw(st.booleans()):
        died, end = end, died
    return Job(
        SLURM, raw_id, devices, born, died, restarts,
        start=draw(_told(start)), end=draw(_told(end)),
        shown=shown if draw(st.booleans()) else None,
        works=(works, rests) if draw(st.integers(0, 3)) else None,
        strays=draw(st.sampled_from([None, 0, 1])),
        checks=(check, start) if draw(st.booleans()) else None,
        seen=draw(st.booleans()), named=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def _pod(draw: st.DrawFn, uid: str, devices: tuple[int, ...], begins: int) -> Job:
    born, shown, works, rests, died = _times(draw, begins, 5)
    return Job(
        KUBERNETES, uid, devices, born, died,
        shown=shown if draw(st.booleans()) else None,
        works=(works, rests) if draw(st.booleans()) else None,
        seen=draw(st.booleans()), named=draw(st.booleans()),
    )  # fmt: skip


def _times(draw: st.DrawFn, begins: int, count: int) -> list[int]:
    times = [begins]
    while len(times) < count:
        times.append(times[-1] + draw(_STEP))
    return times


@st.composite
def _told(draw: st.DrawFn, at: int) -> Told | None:
    if draw(st.integers(0, 3)) == 0:
        return None
    found = at + draw(_LATE)
    return Told(at, found, found + draw(_LATE) if draw(st.integers(0, 3)) == 0 else None)
