"""An agent without hardware, and an aggregator that keeps only what the protocol needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.runtime import Agent
from wattkeeper.agent.transport import RefusedError, UnreachableError
from wattkeeper.delivery.wire import GENESIS, Ack, Batch, chain, decode_record, pack, unpack
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.metering.journal import Journal
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.model.window import Record, Window

GPU = "gpu/GPU-0001"


@dataclass
class FakeClock:
    """Both clocks, moved by hand."""

    boot: int = 10**12
    wall: int = 1_790_000_000_000_000_000

    def boot_ns(self) -> int:
        """Return boot time."""
        return self.boot

    def wall_ns(self) -> int:
        """Return UTC."""
        return self.wall

    def pass_time(self, ms: int) -> None:
        """Move both."""
        self.boot += ms * 10**6
        self.wall += ms * 10**6

    async def sleep_until(self, boot_ns: int) -> None:
        """Be there at once."""
        self.pass_time(max(0, boot_ns - self.boot) // 10**6 + 1)


@dataclass
class FakeSource:
    """One GPU at 300 W."""

    clock: FakeClock
    name: str = "fake"
    info: MeterInfo = field(
        default_factory=lambda: MeterInfo(
            GPU, Component.GPU, "fake", {"uuid": "GPU-0001", "model": 'A "B"\n\\C', "gpu": "0"}
        )
    )
    closed: bool = False
    silent: bool = False
    reads: int = 0

    async def start(self) -> None:
        """Nothing to find."""

    def meters(self) -> Sequence[MeterSpec]:
        """Return the GPU."""
        return [MeterSpec(self.info, limit_mw=700_000)]

    def gauges(self) -> Sequence[Gauge]:
        """Return one."""
        return [Gauge("host_memory_total_bytes", (), 64)]

    def findings(self) -> Sequence[Finding]:
        """Return that all is well."""
        return [Finding(self.name, State.OK, "one GPU")]

    async def read(self, deadline_s: float) -> Sequence[Reading]:
        """Return 300 W since boot."""
        self.reads += 1
        if self.silent:
            return []
        temperature = Gauge(
            "gpu_temperature_celsius", (("sensor", "core"), ("uuid", "GPU-0001")), 40
        )
        return [
            Reading(
                GPU, self.clock.boot, energy_uj=self.clock.boot * 3 // 10, power_mw=300_000,
                memory_used_bytes=1 << 30, gauges=(temperature,),
            )
        ]  # fmt: skip

    async def close(self) -> None:
        """Note it."""
        self.closed = True


@dataclass
class FakeHolders:
    """Whoever the test says."""

    now: list[HolderKey] = field(default_factory=list)
    closed: bool = False

    async def look(self) -> None:
        """Nothing to look at."""

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return who holds the GPU."""
        return {GPU: [Claim(key) for key in self.now]}

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return what is known of them."""
        return {key: HolderInfo(key.manager, key.raw_id, key.birth_ms) for key in self.now}

    def findings(self) -> Sequence[Finding]:
        """Return that all is well."""
        return [Finding("marks", State.OK, "")]

    async def close(self) -> None:
        """Note it."""
        self.closed = True


class FakeAggregator:
    """Takes deliveries as the protocol says; every batch goes through its real encoding."""

    def __init__(self) -> None:
        self.journal = ""
        self.accepted = 0
        self.committed = 0
        self.lag = 0
        self.hash = GENESIS
        self.records: list[Record] = []
        self.batches: list[Batch] = []
        self.down = False
        self.refuse: RefusedError | None = None
        self.holders: dict[int, HolderInfo] = {}
        self.closed = False

    async def send(self, batch: Batch) -> Ack:
        """Take a delivery."""
        if self.down:
            raise UnreachableError("down")
        batch = unpack(pack(batch))
        self.batches.append(batch)
        if self.refuse is not None:
            raise self.refuse
        if batch.journal != self.journal:
            assert self.journal in ("", batch.fork_of), "two live journals"
            self.journal, self.accepted, self.committed, self.hash = batch.journal, 0, 0, GENESIS
            self.holders = {}
        self.holders |= batch.holders
        if batch.first == self.accepted + 1 or batch.first == batch.oldest > self.accepted:
            if batch.first == self.accepted + 1 and batch.previous != self.hash:
                raise RefusedError("fork", "another chain")
            self.accepted, self.hash = batch.first - 1, batch.previous
            for payload in batch.records:
                record = decode_record(payload)
                assert not isinstance(record, Window) or self._known(record), record
                self.records.append(record)
                self.hash = chain(self.hash, payload)
                self.accepted += 1
        self.committed = max(self.committed, self.accepted - self.lag)
        return Ack(
            self.accepted, self.hash.hex(), self.committed,
            max(batch.meters, default=0), max(self.holders, default=0), 0, 0,
        )  # fmt: skip

    def _known(self, window: Window) -> bool:
        return all(part.holder < 16 or part.holder in self.holders for part in window.shares)

    async def close(self) -> None:
        """Note it."""
        self.closed = True


@dataclass
class Bench:
    """An agent on fakes."""

    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    holders: FakeHolders = field(default_factory=FakeHolders)
    aggregator: FakeAggregator = field(default_factory=FakeAggregator)
    settings: dict[str, Any] = field(default_factory=dict)
    max_bytes: int = 1 << 28
    boot: str = "boot-1"
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the agent on what its folder holds."""
        settings = AgentSettings(
            data_dir=self.folder, node="n1", sample_interval=timedelta(seconds=1), **self.settings
        )
        self.journal = Journal(
            self.folder, cluster="default", node="n1", max_bytes=self.max_bytes, durable=False
        )
        self.source = FakeSource(self.clock)
        self.agent = Agent(
            settings, self.clock, self.boot, [self.source], self.holders, self.journal,
            self.aggregator, memos=lambda: {"holders": [key.raw_id for key in self.holders.now]},
        )  # fmt: skip

    async def run(self, seconds: int) -> None:
        """Tick once a second."""
        for _ in range(seconds):
            self.clock.pass_time(1000)
            await self.agent.tick()

    async def deliver(self) -> int:
        """Deliver until there is no more; return how often."""
        times = 1
        while await self.agent.deliver_once():
            times += 1
            assert times < 50, "the sender does not come to rest"
        return times

    def delivered_uj(self) -> int:
        """Return the energy of every window at the aggregator."""
        return sum(r.energy_uj for r in self.aggregator.records if isinstance(r, Window))
