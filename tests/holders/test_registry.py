"""Merging what marks, cgroups and processes see into one holder per run of a job."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.holders.machine import SCOPE, Machine
from tests.holders.test_mark_book import end, start
from wattkeeper.holders import marks
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey, HolderSource
from wattkeeper.holders.cgroups import CPUS, CgroupHolders
from wattkeeper.holders.mark_holders import MarkHolders
from wattkeeper.holders.processes import ProcessHolders
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State
from wattkeeper.sources.base import DeviceProcess


class Way:
    """A way to see holders that a test speaks through."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[HolderEdge] = []
        self.said: dict[str, list[Claim]] = {}
        self.seen: dict[HolderKey, HolderInfo] = {}
        self.closed = False

    def see(self, raw_id: str, birth_ms: int, **labels: str) -> HolderKey:
        """See one job instead of any before."""
        key = HolderKey("slurm", raw_id, birth_ms)
        self.seen = {key: HolderInfo("slurm", raw_id, birth_ms, labels)}
        return key

    async def look(self) -> None:
        """Nothing changes by itself."""

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """What the test said."""
        return self.said

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """What the test sees."""
        return self.seen

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """What the test said after an instant."""
        return [edge for edge in self.log if edge.boot_ns > since_boot_ns]

    def fresh(self) -> Sequence[HolderEdge]:
        """All that the test said."""
        return self.log

    def findings(self) -> Sequence[Finding]:
        """Always fine."""
        return [Finding(self.name, State.OK, "")]

    async def close(self) -> None:
        """Note it."""
        self.closed = True


async def keys(registry: HolderRegistry) -> list[HolderKey]:
    """Return the merged keys after a look."""
    await registry.look()
    return list(registry.infos())


async def test_mark_and_cgroup_are_one_holder() -> None:
    """The earlier birth names both; the mark's labels win."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry: HolderSource = HolderRegistry([cgroups, marked])
    seen = cgroups.see("7", 100, job_id="7", user="?")
    cgroups.said = {CPUS: [Claim(seen, 5), Claim(None, 1)]}
    mark = marked.see("7", 90, job_id="7", user="alice")
    marked.said = {"gpu/a": [Claim(mark, allocated=True)]}
    await registry.look()
    assert registry.infos() == {
        mark: HolderInfo("slurm", "7", 90, {"job_id": "7", "user": "alice"})
    }
    assert registry.claims() == {
        CPUS: (Claim(mark, 5), Claim(None, 1)),
        "gpu/a": (Claim(mark, allocated=True),),
    }
    await registry.close()
    assert cgroups.closed
    assert marked.closed
    assert [finding.subject for finding in registry.findings()] == ["cgroups", "marks"]


async def test_the_key_of_the_first_stays_while_any_sees_it() -> None:
    """Whoever joins later or leaves first does not change it."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry = HolderRegistry([cgroups, marked])
    first = cgroups.see("7", 100)
    assert await keys(registry) == [first]
    mark = marked.see("7", 90)
    assert await keys(registry) == [first]
    assert registry.key(mark) == first
    cgroups.seen = {}
    assert await keys(registry) == [first]
    marked.seen = {}
    assert await keys(registry) == []


async def test_sluid_and_job_id_are_one_job() -> None:
    """26.05 with CgroupJobIdPaths marks by SLUID what the cgroup calls by job id."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry = HolderRegistry([cgroups, marked])
    first = cgroups.see("7", 100, job_id="7")
    marked.see("s1G5M83WET9100", 101, job_id="7", sluid="s1G5M83WET9100")
    assert await keys(registry) == [first]


async def test_a_requeued_job_is_another_holder() -> None:
    """A second birth from one way is another run, even while the old cgroup lingers."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry = HolderRegistry([cgroups, marked])
    old = marked.see("7", 90)
    cgroups.see("7", 100)
    assert await keys(registry) == [old]
    new = marked.see("7", 200)
    assert sorted(await keys(registry), key=lambda key: key.birth_ms) == [old, new]
    late = cgroups.see("7", 210)
    assert await keys(registry) == [new]
    assert registry.key(late) == new


@pytest.mark.parametrize("epilog", ["missed", "late"])
async def test_a_requeued_job_whose_epilog_was_not_in_time_is_another_holder(epilog: str) -> None:
    """Its cgroup came while the old mark was open: with its prolog it goes to the new run."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry = HolderRegistry([cgroups, marked])
    old = marked.see("7", 90)
    cgroups.see("7", 95)
    assert await keys(registry) == [old]
    late = cgroups.see("7", 200)
    assert await keys(registry) == [old]
    ended, before = HolderEdge(old, False, 9, ("gpu/a",)), dict(marked.seen)
    if epilog == "late":
        marked.log = [ended]
        assert await keys(registry) == [old]
        before, marked.log = {}, []
    new = marked.see("7", 210)
    marked.seen |= before
    marked.log += [] if epilog == "late" else [ended]
    marked.log.append(HolderEdge(new, True, 9, ("gpu/a",)))
    await registry.look()
    assert registry.key(late) == new
    assert {new, *before} == registry.infos().keys()
    assert [old, new][-len(marked.log) :] == [edge.key for edge in registry.fresh()]
    marked.log = []
    marked.seen.pop(old, None)
    assert await keys(registry) == [new]


async def test_a_requeue_that_is_found_in_one_look_is_another_holder() -> None:
    """Epilog, prolog and the new cgroup at once, as after a restart: each goes to its own run."""
    cgroups, environ, marked = Way("cgroups"), Way("environ"), Way("marks")
    registry = HolderRegistry([cgroups, environ, marked])
    old = marked.see("7", 90)
    assert await keys(registry) == [old]
    before = dict(marked.seen)
    new = marked.see("7", 200)
    marked.seen |= before
    late, short = cgroups.see("7", 210), environ.see("7", 100)
    meters = ("gpu/a",)
    environ.log = [HolderEdge(short, True, 4, meters), HolderEdge(short, False, 5, meters)]
    marked.log = [HolderEdge(old, False, 9, meters), HolderEdge(new, True, 9, meters)]
    await registry.look()
    assert (old, new) == (registry.key(short), registry.key(late))


async def test_a_marked_job_goes_on_from_step_to_step() -> None:
    """An allocation without an extern step has a new cgroup for each step, and one holder."""
    cgroups, processes, marked = Way("cgroups"), Way("processes"), Way("marks")
    registry = HolderRegistry([cgroups, processes, marked])
    hold = marked.see("7", 90)
    whole = Claim(hold, reserved_ppm=1_000_000, allocated=True)
    marked.said = {"gpu/a": [whole]}
    for birth_ms in (100, 200, 300):
        step = cgroups.see("7", birth_ms)
        processes.see("7", birth_ms)
        processes.said = {"gpu/a": [Claim(step, 400)]}
        assert [hold] == await keys(registry)
        assert (replace(whole, weight=400),) == registry.claims()["gpu/a"]
        assert () == registry.conflicts
        cgroups.seen, processes.seen, processes.said = {}, {}, {}
        assert [hold] == await keys(registry)
        registry = HolderRegistry([cgroups, processes, marked], registry.remember())


async def test_processes_join_what_they_find() -> None:
    """A process seen before its cgroup gives the key; with the cgroup's birth it stays the same."""
    cgroups, processes = Way("cgroups"), Way("processes")
    registry = HolderRegistry([cgroups, processes])
    first = processes.see("7", 80)
    assert await keys(registry) == [first]
    cgroups.see("7", 100)
    assert await keys(registry) == [first]
    processes.see("7", 100)
    assert await keys(registry) == [first]


async def test_keys_survive_a_restart() -> None:
    """With what was remembered the cgroup alone still means the mark's holder."""
    cgroups, marked = Way("cgroups"), Way("marks")
    before = HolderRegistry([cgroups, marked])
    first = marked.see("7", 90)
    cgroups.see("7", 100)
    await before.look()
    remembered = json.loads(json.dumps(before.remember()))
    marked.seen = {}
    after = HolderRegistry([cgroups, marked], remembered)
    assert await keys(after) == [first]
    # And the next mark of that id is still told to be another run.
    new = marked.see("7", 200)
    assert sorted(await keys(after), key=lambda key: key.birth_ms) == [first, new]


async def test_allocated_wins_over_processes() -> None:
    """On a marked GPU only the marked job holds, with the activity of its own processes."""
    marked, processes = Way("marks"), Way("processes")
    registry = HolderRegistry([processes, marked])
    mine = marked.see("7", 90)
    marked.said = {"gpu/a": [Claim(mine, reserved_ppm=1_000_000, allocated=True)]}
    other = processes.see("9", 50)
    processes.seen |= {HolderKey("slurm", "7", 95): HolderInfo("slurm", "7", 95)}
    processes.said = {
        "gpu/a": [
            Claim(other, 1),
            Claim(None, 2),
            Claim(HolderKey("slurm", "7", 95), 300),
        ],
        "gpu/b": [Claim(other, 4), Claim(None, 5)],
    }
    await registry.look()
    assert registry.claims() == {
        "gpu/a": (Claim(mine, 300, 1_000_000, allocated=True),),
        "gpu/b": (Claim(other, 4), Claim(None, 5)),
    }


async def test_all_three_real_ways_together(tmp_path: Path) -> None:
    """Prolog, cgroup, process, restart of the agent, epilog: one holder all the way."""
    machine, spool = Machine(tmp_path), tmp_path / "marks"
    machine.v2(0)
    listed: dict[str, list[DeviceProcess]] = {}

    def agent(
        births: Mapping[str, Any] | None = None, known: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[HolderRegistry, CgroupHolders]:
        cgroups = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, remembered=births)
        processes = ProcessHolders(lambda: listed, machine.procfs, machine.clock, cgroups.birth_ms)
        marked = MarkHolders(spool, lambda: {0: "gpu/a"}, "boot-1")
        return HolderRegistry([cgroups, processes, marked], known), cgroups

    registry, cgroups = agent()
    await registry.look()
    prolog = start(1, "7", [0], user="alice")
    marks.write(spool, msgspec.structs.replace(prolog, boot_id="boot-1"))
    machine.job(f"{SCOPE}/job_7", 1_000)
    machine.clock.now_ns += 61_000_000_000
    machine.process(5, 1_020, f"/{SCOPE}/job_7/step_0")
    listed["gpu/a"] = [DeviceProcess(5, 900_000)]
    await registry.look()
    key = HolderKey("slurm", "7", 10)
    assert registry.infos()[key].labels == {"job_id": "7", "user": "alice"}
    assert registry.claims()["gpu/a"] == (Claim(key, 900_000, 1_000_000, allocated=True),)
    assert registry.claims()[CPUS] == (Claim(key, 1_000), Claim(None, 0))
    kept = json.loads(json.dumps([cgroups.remember(), registry.remember()]))
    await registry.close()
    registry, _ = agent(*kept)
    await registry.look()
    assert list(registry.infos()) == [key]
    marks.write(spool, msgspec.structs.replace(end(9, "7"), boot_id="boot-1"))
    listed.clear()
    machine.end(f"{SCOPE}/job_7")
    machine.clock.now_ns += 61_000_000_000
    await registry.look()
    await registry.look()
    assert registry.infos() == {}
    assert registry.claims() == {CPUS: (Claim(None, 0),)}
    await registry.close()


async def test_edges_are_of_the_merged_holder() -> None:
    """Also that of a holder which the same look found gone."""
    cgroups, marked = Way("cgroups"), Way("marks")
    registry = HolderRegistry([cgroups, marked])
    first = cgroups.see("7", 90)
    mark = marked.see("7", 100)
    marked.log = [HolderEdge(mark, True, 5, ("gpu/a",))]
    await registry.look()
    assert (HolderEdge(first, True, 5, ("gpu/a",)),) == tuple(registry.fresh())
    assert [HolderEdge(first, True, 5, ("gpu/a",))] == registry.edges(4)
    assert [] == registry.edges(5)
    cgroups.seen, marked.seen = {}, {}
    marked.log = [HolderEdge(mark, False, 9, ("gpu/a",))]
    await registry.look()
    assert (HolderEdge(first, False, 9, ("gpu/a",)),) == tuple(registry.fresh())


async def test_contradictions_are_told_and_counted() -> None:
    """The mark stands; the environment that names the same GPU does not, and shows."""
    environ, marked = Way("environ"), Way("marks")
    registry = HolderRegistry([environ, marked])
    thief, owner = environ.see("8", 100), marked.see("7", 90)
    whole = 1_000_000
    environ.said = {"gpu/a": [Claim(thief, reserved_ppm=whole, allocated=True)]}
    marked.said = {"gpu/a": [Claim(owner, reserved_ppm=whole, allocated=True)]}
    await registry.look()
    assert [owner] == [claim.holder for claim in registry.claims()["gpu/a"]]
    finding = registry.findings()[-1]
    assert ("holders/conflicts", State.FAILING) == (finding.subject, finding.state)
    assert "gpu/a: environ say 8, against 7" in finding.detail
    assert ["environ"] == [conflict.kind for conflict in registry.conflicts]
    marked.said = {}
    marked.log = [HolderEdge(owner, False, 9, ("gpu/a",))]
    await registry.look()
    assert [thief] == [claim.holder for claim in registry.claims()["gpu/a"]]
    assert () == registry.conflicts
