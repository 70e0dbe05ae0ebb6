"""Shared GPUs from NVIDIA's own binding to the windows: everybody pays what the rule says."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENVIRONMENT, FakeNvml
from tests.holders.machine import SCOPE, Machine
from tests.metering.build import WALL_NS, check
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.processes import ProcessHolders
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.metering.book import Ruling
from wattkeeper.metering.counter import Identity
from wattkeeper.metering.dictionary import Dictionary
from wattkeeper.metering.sampler import Sampler
from wattkeeper.model.holder import Account, HolderInfo
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import Finding
from wattkeeper.model.window import Policy, Record, Share, Window

pytestmark = pytest.mark.compiler

NS = 10**9
REST_W, LOAD_W = 70, 420
FIRST, SECOND, THIRD = (HolderKey("slurm", str(n), n) for n in range(1, 4))


@dataclass
class Allocations:
    """What a scheduler gave to whom."""

    given: dict[str, list[Claim]] = field(default_factory=dict)
    name = "allocations"

    async def look(self) -> None:
        """Nothing is looked at."""

    def claims(self) -> dict[str, list[Claim]]:
        """Return what was given."""
        return self.given

    def infos(self) -> dict[HolderKey, HolderInfo]:
        """Return the holders that were given something."""
        keys = {claim.holder for claims in self.given.values() for claim in claims if claim.holder}
        return {key: HolderInfo(key.manager, key.raw_id, key.birth_ms) for key in keys}

    def findings(self) -> Sequence[Finding]:
        """Return nothing."""
        return ()

    async def close(self) -> None:
        """Nothing is open."""


class Node:
    """One GPU of the fake library, whose time the test passes, and all that meters it."""

    def __init__(self, bench: Bench, machine: Machine, policy: Policy = Policy.IDLE) -> None:
        self.bench = bench
        self.machine = machine
        self.gpu = bench.fake.gpu(0)
        self.meter = bench.fake.meter(0)
        self.at_ns = 10**13
        self.records: list[Record] = []
        self.dictionary = Dictionary()
        self.allocations = Allocations()
        source = bench.source
        processes = ProcessHolders(
            source.processes, machine.procfs, machine.clock, _birth, partitions=source.partitions
        )
        self.holders = HolderRegistry((processes, self.allocations))
        self.sampler = Sampler(
            Ruling(10_000, 300_000, 16, policy),
            self.dictionary,
            Identity("boot", "nonce"),
            {},
            max_gap_ns=10 * NS,
            log=lambda meter, step: pytest.fail(f"{meter}: {step}"),
        )
        self.gpu.wave(REST_W)
        self.gpu.origin_ns, self.gpu.step_ms = 0, 1

    def process(self, pid: int, job: HolderKey) -> None:
        """Put a process of a job into procfs."""
        self.machine.process(pid, 10, f"/{SCOPE}/job_{job.raw_id}/step_0")

    async def begin(self) -> None:
        """Start, and let the GPU rest for a window while nobody holds it."""
        self.bench.fake.set_time(self.at_ns)
        await self.bench.source.start()
        for _ in range(11):
            await self.tick({})

    async def run(self, seconds: int) -> Window:
        """Let the load run; returns the last whole window."""
        self.gpu.load(LOAD_W, self.at_ns)
        for _ in range(seconds):
            await self.holders.look()
            self.dictionary.describe(self.holders.infos())
            await self.tick(self.holders.claims())
        check(self.records, self.dictionary)
        return [record for record in self.records if isinstance(record, Window)][-1]

    async def tick(self, claims: object) -> None:
        """Pass a second and book it."""
        self.at_ns += NS
        self.bench.fake.set_time(self.at_ns)
        readings = (await self.bench.read()).values()
        assert readings, self.bench.source.findings()
        self.sampler.step(
            self.bench.source.meters(),
            [replace(reading, boot_ns=self.at_ns) for reading in readings],
            claims,  # type: ignore[arg-type]
            self.at_ns,
            WALL_NS // (10 * NS) * 10 * NS + self.at_ns,
        )
        self.records += self.sampler.take()

    def joules(self, window: Window) -> dict[str, float]:
        """Return the joules of a window by raw id, or name of the account."""
        return {self.payer(part): part.uj / 10**6 for part in window.shares}

    def payer(self, part: Share) -> str:
        """Return who pays a share."""
        if part.holder < 16:
            return Account(part.holder).name
        raw_id: str = self.dictionary.entries["holder"][part.holder].raw_id
        return raw_id


def _birth(_manager: str, raw_id: str) -> int:
    return int(raw_id)


@pytest.fixture
async def bench(
    library: Path, fake: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """A source on one fake GPU, not started yet, closed at the end."""
    monkeypatch.setenv(ENVIRONMENT, str(fake.path))
    fake.set_count(1)
    bench = Bench(fake, library, tmp_path)
    yield bench
    await bench.source.close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without processes."""
    return Machine(tmp_path / "machine")


def slice_in_three(node: Node) -> None:
    """Cut the GPU into 1g, 2g and 3g; a slice of compute and two of memory stay free."""
    node.gpu.slice(("MIG-1", "1g.10gb", 1), ("MIG-2", "2g.20gb", 2), ("MIG-3", "3g.40gb", 3))


async def test_three_jobs_on_a_mig_gpu_without_a_scheduler(bench: Bench, machine: Machine) -> None:
    """Static by memory slices, of which one in eight is nobody's; dynamic by compute slices."""
    node = Node(bench, machine)
    slice_in_three(node)
    for pid, job in ((101, FIRST), (102, SECOND), (103, THIRD)):
        node.process(pid, job)
    node.gpu.processes([101, 102, 103], instances=("MIG-1", "MIG-2", "MIG-3"))
    await node.begin()
    window = await node.run(21)
    assert node.joules(window) == pytest.approx(
        {
            "1": 700 * 1 / 8 + 4200 * 1 / 6,
            "2": 700 * 2 / 8 + 4200 * 2 / 6,
            "3": 700 * 4 / 8 + 4200 * 3 / 6,
            "IDLE": 700 * 1 / 8,
        },
        rel=1e-5,
    )
    assert window.energy_uj == 4_900_000_000


async def test_an_instance_without_processes_pays_for_its_memory_alone(
    bench: Bench, machine: Machine
) -> None:
    """Two of three holders run: the third's part is allocated but idle, and only its static."""
    node = Node(bench, machine)
    slice_in_three(node)
    node.process(102, SECOND)
    node.process(103, THIRD)
    node.gpu.processes([102, 103], instances=("MIG-2", "MIG-3"))
    await node.begin()
    parts = bench.source.partitions()
    node.allocations.given = {
        node.meter: [
            allocated(key, parts[uuid])
            for key, uuid in ((FIRST, "MIG-1"), (SECOND, "MIG-2"), (THIRD, "MIG-3"))
        ]
    }
    window = await node.run(21)
    assert node.joules(window) == pytest.approx(
        {
            "1": 700 * 1 / 8,
            "2": 700 * 2 / 8 + 4200 * 2 / 5,
            "3": 700 * 4 / 8 + 4200 * 3 / 5,
            "IDLE": 700 * 1 / 8,
        },
        rel=1e-5,
    )
    idle = {node.payer(part): (part.idle_uj, part.idle_ms) for part in window.shares}
    own = next(part.uj for part in window.shares if node.payer(part) == "1")
    assert idle == {"1": (own, 10_000), "2": (0, 0), "3": (0, 0), "IDLE": (0, 0)}


async def test_who_was_given_nothing_pays_for_its_own_instance(
    bench: Bench, machine: Machine
) -> None:
    """A process of the machine's own on an instance that nobody was given costs no job anything."""
    node = Node(bench, machine, Policy.HOLDERS)
    slice_in_three(node)
    node.process(101, FIRST)
    machine.process(103, 10, "/system.slice/burn-in.service")
    node.gpu.processes([101, 103], instances=("MIG-1", "MIG-3"))
    await node.begin()
    node.allocations.given = {node.meter: [allocated(FIRST, bench.source.partitions()["MIG-1"])]}
    window = await node.run(21)
    assert window.policy is Policy.HOLDERS
    assert node.joules(window) == pytest.approx(
        {"1": 700 * 1 / 5 + 4200 * 1 / 4, "SYSTEM": 700 * 4 / 5 + 4200 * 3 / 4}, rel=1e-5
    )


async def test_jobs_in_turns_on_one_gpu_pay_by_sm_time(bench: Bench, machine: Machine) -> None:
    """Time-slicing: static in equal parts, the rest by what each process did; one did nothing."""
    node = Node(bench, machine)
    for pid, job in ((101, FIRST), (102, SECOND), (103, THIRD)):
        node.process(pid, job)
    node.gpu.processes([101, 102, 103], [60, 20, 0])
    await node.begin()
    node.allocations.given = {
        node.meter: [Claim(job, allocated=True) for job in (FIRST, SECOND, THIRD)]
    }
    window = await node.run(21)
    assert node.joules(window) == pytest.approx(
        {"1": 700 / 3 + 4200 * 3 / 4, "2": 700 / 3 + 4200 * 1 / 4, "3": 700 / 3}, rel=1e-5
    )
    assert {node.payer(part): part.idle_ms for part in window.shares} == {
        "1": 0, "2": 0, "3": 10_000
    }  # fmt: skip


def allocated(holder: HolderKey, part: Partition) -> Claim:
    """Return the claim of a holder that was given one MIG instance."""
    return Claim(
        holder,
        reserved_ppm=part.memory_ppm,
        compute_ppm=part.compute_ppm,
        allocated=True,
        partitions=(part.uuid,),
    )
