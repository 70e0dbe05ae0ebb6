"""Who pays for a GPU from when to when, whatever marks, cgroups and environments do."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.holders.jobs import stepd, task
from tests.holders.machine import SCOPE, Machine
from tests.metering.build import GPU, gpu
from wattkeeper.holders import marks
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.holders.dcgm_mapping import MappingHolders
from wattkeeper.holders.mark_holders import MarkHolders, Surroundings
from wattkeeper.holders.marks import Mark
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.holders.slurm_environ import SlurmEnvironHolders
from wattkeeper.holders.slurm_roll import SlurmRoll
from wattkeeper.metering.book import Ruling
from wattkeeper.metering.counter import Identity
from wattkeeper.metering.dictionary import HOLDER, Dictionary
from wattkeeper.metering.sampler import Sampler
from wattkeeper.model.reading import Reading
from wattkeeper.model.window import Window

MS = 1_000_000
GRACE_MS = 3_000
STEP_MS = 1_000
"""Between two samples of the grid."""


@dataclass(frozen=True)
class Job:
    """A job's edges in ms after the one before it ended; None: it does not happen.

    `mapped`: a script of the prolog writes the job-mapping folder. All is over at `over`.
    """

    start: int | None
    birth: int
    shown: int | None
    death: int
    end: int | None
    over: int
    mapped: bool


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Return a job as Slurm runs them: prolog, cgroup, task, end of the cgroup, epilog."""
    at = draw(st.integers(0, 2_000))
    steps = [draw(st.integers(1, 1_500)) for _ in range(6)]
    times = [at + sum(steps[:count]) for count in range(1, 7)]
    marked, seen, ended = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return Job(
        times[0] if marked else None, times[1], times[2] if seen else None, times[3],
        times[4] if ended else None, times[5], mapped=draw(st.booleans()),
    )  # fmt: skip


class World:
    """A node with one GPU that draws 1 W, so that a millijoule is a millisecond."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        self.machine.v2(0)
        stepd(self.machine)
        self.clock = self.machine.clock
        self.spool, self.mapping = folder / "marks", folder / "mapping"
        self.mapping.mkdir()
        procfs = self.machine.procfs
        self.cgroups = CgroupHolders(procfs, self.machine.cgroupfs, self.clock)
        environ = SlurmEnvironHolders(
            procfs, self.cgroups.lives, lambda: {0: GPU}, self.clock, None, self.cgroups.died_ns
        )
        mapped = MappingHolders(
            self.mapping, lambda: {0: GPU}, dict, self.clock, self.cgroups.birth_ms
        )
        around = Surroundings(
            self.cgroups, SlurmRoll(None, self.clock), environ.claims, self.clock, GRACE_MS * MS
        )
        marked = MarkHolders(self.spool, lambda: {0: GPU}, "boot-1", around=around)
        self.registry = HolderRegistry((self.cgroups, environ, mapped, marked))
        self.dictionary = Dictionary()
        self.sampler = Sampler(
            Ruling(1_000, 300_000, 8), self.dictionary, Identity("boot-1", "n"), {},
            max_gap_ns=10**10, log=lambda _meter, _step: None,
        )  # fmt: skip
        self.charged: dict[str, int] = {}
        self.keys: dict[str, set[object]] = {}
        self.total = 0
        self.zero_ns = self.clock.now_ns

    @property
    def now_ms(self) -> int:
        """Return the time since the beginning."""
        return (self.clock.now_ns - self.zero_ns) // MS

    async def look(self) -> None:
        """Read the counter, look who holds what, and book."""
        boot_ns, wall_ns = self.clock.boot_ns(), self.clock.wall_ns()
        reading = Reading(GPU, boot_ns, energy_uj=boot_ns // 1_000)
        await self.registry.look()
        self.dictionary.describe(self.registry.infos())
        for key in self.registry.infos():
            self.keys.setdefault(key.raw_id, set()).add(key)
        claims = {GPU: self.registry.claims().get(GPU, ())}
        self.sampler.step([gpu()], [reading], claims, boot_ns, wall_ns, self.registry.fresh())
        self.take()

    def take(self) -> None:
        """Add up what is booked."""
        for record in self.sampler.take():
            if isinstance(record, Window):
                for part in record.shares:
                    holder = self.dictionary.entries[HOLDER].get(part.holder)
                    name = holder.raw_id if holder else f"@{part.holder}"
                    self.charged[name] = self.charged.get(name, 0) + part.uj
                    self.total += part.uj

    def mark(self, kind: str, name: str) -> None:
        """Make a mark now."""
        marks.write(
            self.spool,
            Mark(
                "start" if kind == "start" else "end", "slurm", name, self.clock.wall_ns() // MS,
                self.clock.boot_ns(), "boot-1", gpus=(0,), labels={"job_id": name},
            ),
        )  # fmt: skip

    def date(self, path: Path) -> None:
        """Let a file or folder be written now."""
        os.utime(path, ns=(self.clock.wall_ns(), self.clock.wall_ns()))

    def do(self, kind: str, name: str, job: Job) -> None:
        """Let one thing happen. A birth and a death are seen at once, as by inotify."""
        folder = f"{SCOPE}/job_{name}"
        if kind in {"start", "end"}:
            self.mark(kind, name)
        if kind == "birth":
            self.machine.job(folder, 0)
            if job.mapped:
                (self.mapping / "0").write_text(f"{name}\n")
                self.date(self.mapping / "0")
        elif kind == "shown":
            place = self.machine.cgroupfs / folder / "step_0"
            task(self.machine, place, 1_000 + int(name), SLURM_JOB_ID=name, SLURM_STEP_GPUS="0")
        elif kind == "death":
            self.machine.end(folder)
            if job.mapped:
                (self.mapping / "0").unlink()
                self.date(self.mapping)
        if kind in {"birth", "death"}:
            self.cgroups._rescan(None)


def happenings(run: list[Job]) -> Iterator[tuple[int, str, str, Job]]:
    """Yield what happens, in order: (ms, what, the job's name, the job)."""
    began = 5
    for number, job in enumerate(run):
        for kind in ("start", "birth", "shown", "death", "end", "over"):
            at = getattr(job, kind)
            if at is not None:
                yield began + at, kind, str(number + 1), job
        began += job.over


async def play(run: list[Job], looked: list[bool]) -> World:
    """Let all happen, with a look each second and after some of it."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        await world.look()
        for count, (at, kind, name, job) in enumerate(happenings(run)):
            while world.now_ms + STEP_MS - world.now_ms % STEP_MS <= at:
                world.clock.now_ns += (STEP_MS - world.now_ms % STEP_MS) * MS
                await world.look()
            world.clock.now_ns += (at - world.now_ms) * MS
            world.do(kind, name, job)
            if looked[count % len(looked)]:
                await world.look()
        for _ in range(GRACE_MS // STEP_MS + 2):
            world.clock.now_ns += STEP_MS * MS
            await world.look()
        world.sampler.metered[GPU].book.step_clock(world.sampler.metered[GPU].book.offset_ms)
        world.take()
        await world.registry.close()
    return world


def bounds(run: list[Job]) -> dict[str, tuple[int, int]]:
    """Return the least and the most that each job may be charged, in ms."""
    found = {}
    for number, job in enumerate(run):
        begins = job.birth if job.start is None else job.start
        if job.start is not None and job.end is None:
            # A missed epilog: until the grace is over, or the next owner comes.
            most = job.death + GRACE_MS + 2 * STEP_MS - begins
        else:
            most = max(job.death, job.end or 0) - begins
        if job.start is None:
            most = job.death - begins if job.shown is not None or job.mapped else 0
            if job.mapped and any(later.mapped for later in run[number + 1 :]):
                most += STEP_MS  # of two files that went between two looks only the last is dated
        exact = job.start is not None and job.end is not None
        found[str(number + 1)] = (most if exact else 0, most)
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(jobs(), min_size=1, max_size=3), st.lists(st.booleans(), min_size=1, max_size=12))
def test_nobody_pays_outside_his_ownership(run: list[Job], looked: list[bool]) -> None:
    """The books balance; between two marks it is exact to the rounding; one key per run."""
    world = asyncio.run(play(run, looked))
    assert world.now_ms * 1_000 == world.total
    rounding = 20  # µJ: one per piece of an interval
    for name, (least, most) in bounds(run).items():
        charged = world.charged.get(name, 0)
        assert least * 1_000 - rounding <= charged <= most * 1_000 + rounding, (name, charged)
        assert len(world.keys.get(name, ())) <= 1
    assert world.charged.keys() <= {str(n + 1) for n in range(len(run))} | {"@1", "@2"}
