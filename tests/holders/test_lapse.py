"""Missed epilogs: a marked hold ends when its cgroup has gone, or when Slurm says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.holders.test_mark_book import end, start
from tests.sources.tree import FakeClock
from wattkeeper.holders import marks
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.gpus import Device
from wattkeeper.holders.mark_holders import MarkHolders, Surroundings
from wattkeeper.model.meter import Partition

MINUTE = 60_000_000_000
GPUS: dict[int, Device] = {0: "gpu/GPU-a", 1: "gpu/GPU-b"}


@dataclass
class Roll:
    """What Slurm said, and how often it was to be asked."""

    answer: tuple[int, frozenset[str]] | None = None
    silent: bool = False
    wanted: int = 0

    def want(self) -> None:
        """Count it."""
        self.wanted += 1

    async def close(self) -> None:
        """Nothing is under way."""


@dataclass
class Node:
    """Cgroups as the test says, and marks held against them."""

    spool: Path
    clock: FakeClock = field(default_factory=FakeClock)
    alive: set[str] = field(default_factory=set)
    died: dict[str, int] = field(default_factory=dict)
    others: dict[str, Sequence[Claim]] = field(default_factory=dict)
    roll: Roll = field(default_factory=Roll)
    devices: dict[int, Device] = field(default_factory=lambda: dict(GPUS))

    def __post_init__(self) -> None:
        self.clock.now_ns = 0
        self.holders = self.agent()

    def agent(self, *, peek: bool = False) -> MarkHolders:
        """Return the marks of an agent that has just started."""
        around = Surroundings(self, self.roll, self.claims, self.clock, MINUTE)
        return MarkHolders(self.spool, lambda: self.devices, "b", around=around, peek=peek)

    def birth_ms(self, _manager: str, raw_id: str) -> int | None:
        """Return some birth of those who live."""
        return 5 if raw_id in self.alive else None

    def died_ns(self, _manager: str, raw_id: str) -> int | None:
        """Return when a cgroup went."""
        return self.died.get(raw_id)

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return what environments say."""
        return self.others

    def die(self, job: str) -> None:
        """Let a job's cgroup go now."""
        self.alive.discard(job)
        self.died[job] = self.clock.now_ns

    async def look(self, minutes: float = 0) -> list[str]:
        """Return the jobs that hold a GPU so much later."""
        self.clock.now_ns += int(minutes * MINUTE)
        await self.holders.look()
        claims = [claim for found in self.holders.claims().values() for claim in found]
        return [claim.holder.raw_id for claim in claims if claim.holder]


async def test_a_missed_epilog(tmp_path: Path) -> None:
    """The hold goes on for the grace, then ends, is counted and has an edge."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    assert ["7"] == await node.look(1)
    node.die("7")
    node.roll.silent = True
    assert ["7"] == await node.look(0.9)
    assert 0 == node.holders.missed_epilogs
    assert [] == await node.look(0.2)
    (edge,) = node.holders.fresh()
    assert (False, node.clock.now_ns, ("gpu/GPU-a",)) == (edge.started, edge.boot_ns, edge.meters)
    assert 1 == node.holders.missed_epilogs
    assert "1 missed_epilog" in node.holders.findings()[0].detail
    again = node.agent()
    await again.look()
    assert {} == again.claims()


async def test_an_epilog_in_time_is_not_missed(tmp_path: Path) -> None:
    """It may come after the cgroup has gone."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    await node.look(1)
    node.die("7")
    assert ["7"] == await node.look(0.5)
    marks.write(tmp_path, end(node.clock.now_ns, "7"))
    assert [] == await node.look()
    assert 0 == node.holders.missed_epilogs


async def test_an_allocation_between_two_steps(tmp_path: Path) -> None:
    """It has no cgroup, but Slurm lists it: only when Slurm does not, it ends."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7", job_id="7"))
    node.alive.add("7")
    await node.look(1)
    node.die("7")
    assert ["7"] == await node.look(2)
    assert 1 == node.roll.wanted
    node.roll.answer = (node.clock.now_ns, frozenset({"7", "8"}))
    assert ["7"] == await node.look(30)
    node.alive.add("7")
    assert ["7"] == await node.look(1)
    node.die("7")
    assert ["7"] == await node.look(2)  # what Slurm said was before the cgroup went
    node.roll.answer = (node.clock.now_ns, frozenset({"8"}))
    assert [] == await node.look(1)


async def test_a_hold_that_never_had_a_cgroup(tmp_path: Path) -> None:
    """It lives until Slurm, asked when it is five minutes old, does not list it."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7", job_id="7"))
    assert ["7"] == await node.look(4)
    node.roll.answer = (node.clock.now_ns, frozenset())
    assert (["7"], 0) == (await node.look(0.5), node.roll.wanted)
    assert (["7"], 1) == (await node.look(600), node.roll.wanted)
    node.roll.answer = (node.clock.now_ns, frozenset({"7"}))
    assert ["7"] == await node.look(600)
    node.roll.answer = (node.clock.now_ns, frozenset({"8"}))
    assert [] == await node.look()


async def test_slurm_that_is_silent_ends_no_hold_without_a_cgroup(tmp_path: Path) -> None:
    """Nobody has ever seen it end."""
    node = Node(tmp_path)
    node.roll.silent = True
    marks.write(tmp_path, start(1, "7", job_id="7"))
    assert ["7"] == await node.look(10_000)


async def test_another_job_that_names_the_gpu_ends_the_grace(tmp_path: Path) -> None:
    """Slurm has given it away. Its own environment and other GPUs do not count."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    await node.look(1)
    own, other = HolderKey("slurm", "7", 5), HolderKey("slurm", "8", 9)
    node.others = {"gpu/GPU-a": (Claim(other, allocated=True),)}
    assert ["7"] == await node.look()  # as long as its cgroup is there
    node.die("7")
    node.others = {"gpu/GPU-a": (Claim(own),), "gpu/GPU-b": (Claim(other),)}
    assert ["7"] == await node.look(0.1)
    node.others = {"gpu/GPU-a": (Claim(other, allocated=True),)}
    assert [] == await node.look()
    assert 1 == node.holders.missed_epilogs


async def test_others_on_a_shared_gpu_end_no_grace(tmp_path: Path) -> None:
    """Slurm has given it to several: an allocation between two steps keeps its part."""
    node = Node(tmp_path)
    marks.write(tmp_path, msgspec.structs.replace(start(1, "7"), shared=True))
    node.alive.add("7")
    await node.look(1)
    node.die("7")
    node.others = {"gpu/GPU-a": (Claim(HolderKey("slurm", "8", 9), allocated=True),)}
    assert ["7"] == await node.look(0.1)


async def test_others_on_another_instance_end_no_grace(tmp_path: Path) -> None:
    """Two jobs on two MIG instances of one GPU have nothing to do with each other."""
    node = Node(tmp_path)
    parts = [Partition(f"MIG-{n}", "gpu/GPU-a", n, 500_000, 500_000) for n in (1, 2)]
    node.devices = dict(enumerate(parts))
    node.holders = node.agent()
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    await node.look(1)
    node.die("7")
    other = HolderKey("slurm", "8", 9)
    node.others = {"gpu/GPU-a": (Claim(other, allocated=True, partitions=("MIG-2",)),)}
    assert ["7"] == await node.look(0.1)
    node.others = {"gpu/GPU-a": (Claim(other, allocated=True, partitions=("MIG-1",)),)}
    assert [] == await node.look(0.1)


async def test_the_cgroup_went_while_no_agent_ran(tmp_path: Path) -> None:
    """That it was there is kept; the grace begins when its absence is found."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    await node.look(1)
    node.alive.clear()
    node.roll.silent = True
    node.holders = node.agent()
    assert ["7"] == await node.look(100)
    assert ["7"] == await node.look(0.9)
    assert [] == await node.look(0.2)


async def test_the_end_of_an_earlier_run_is_not_its_end(tmp_path: Path) -> None:
    """A requeued job keeps its id; SLUID and job id are one job."""
    node = Node(tmp_path)
    node.died["7"] = 5
    marks.write(tmp_path, start(10, "s1G5M83WET9100", job_id="7", sluid="s1G5M83WET9100"))
    assert ["s1G5M83WET9100"] == await node.look(10)
    node.alive.add("7")
    await node.look()
    node.die("7")
    node.roll.silent = True
    assert [] == await node.look(2)


async def test_who_only_peeks_ends_nothing(tmp_path: Path) -> None:
    """`doctor` beside an agent."""
    node = Node(tmp_path)
    marks.write(tmp_path, start(1, "7"))
    node.alive.add("7")
    await node.look(1)
    node.die("7")
    node.roll.silent = True
    node.holders = node.agent(peek=True)
    assert ["7"] == await node.look(100)
