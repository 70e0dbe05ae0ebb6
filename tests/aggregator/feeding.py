"""A small agent that delivers real batches: one GPU and one CPU package, a window per 10 s."""

from dataclasses import dataclass, field

from wattkeeper.delivery import wire
from wattkeeper.model.holder import FIRST_HOLDER, Account, HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, Method
from wattkeeper.model.window import EpochInfo, Point, Record, Share, Spread, Stats, Window

START_MS = 1_800_000_000_000
"""Begin of a slot."""
STEP_MS = 10_000
SLOT_MS = 900_000
GPU_UJ = 4_000_000_000
"""400 W for 10 s."""
CPU_UJ = 1_000_000_000
UUID = "GPU-5c1f0000-0000-0000-0000-000000000001"


@dataclass(slots=True)
class Feeder:
    """A node whose journal starts at `origin_ms`.

    Its holder has the GPU whole and half the CPU; an eighth of the CPU is the system's, the
    rest is idle.
    """

    node: str = "node001"
    cluster: str = "west"
    journal: str = "journal-1"
    boot: str = "boot-1"
    labels: dict[str, str] = field(
        default_factory=lambda: {
            "job_id": "123",
            "user": "alice",
            "account": "physics",
            "partition": "gpu",
            "name": "train",
        }
    )
    raw_id: str = "123"
    uuid: str = UUID
    origin_ms: int = START_MS
    birth_ms: int = 0
    first: int = 1
    previous: bytes = wire.GENESIS
    at_ms: int = 0
    counts: dict[int, int] = field(default_factory=lambda: {1: 7, 2: 5})
    known: bool = False

    def __post_init__(self) -> None:
        self.birth_ms = self.birth_ms or self.origin_ms
        self.at_ms = self.at_ms or self.origin_ms

    def batch(self, records: list[Record], snapshot: wire.Snapshot | None = None) -> wire.Batch:
        """Return the next batch with these records; the chain goes on after it."""
        payloads = tuple(wire.encode_record(record) for record in records)
        batch = wire.Batch(
            cluster=self.cluster,
            node=self.node,
            journal=self.journal,
            boot=self.boot,
            agent="0.1.0",
            wall_ms=self.at_ms,
            boot_ms=self.at_ms - self.origin_ms + 1000,
            oldest=1,
            first=self.first,
            previous=self.previous,
            records=payloads,
            meters={} if self.known else self._meters(),
            holders={} if self.known else self._holders(),
            epochs={} if self.known else {1: EpochInfo(self.boot, "load-1")},
            snapshot=snapshot,
        )
        self.known = True
        self.first += len(payloads)
        for payload in payloads:
            self.previous = wire.chain(self.previous, payload)
        return batch

    def run(self, windows: int) -> list[Record]:
        """Return the records of the next `windows` windows of both meters."""
        records: list[Record] = []
        if self.at_ms == self.origin_ms:
            records += [self._point(1), self._point(2)]
        for _ in range(windows):
            records += [self._window(1, GPU_UJ), self._window(2, CPU_UJ)]
            self.at_ms += STEP_MS
            if self.at_ms % SLOT_MS == 0:
                records += [self._point(1), self._point(2)]
        return records

    def snapshot(
        self, utilization_ppm: int = 900_000, advertise: str = "", *, held: bool = True
    ) -> wire.Snapshot:
        """Return what the node looks like now; `held`: whether it sees its job on the devices."""
        holder = (FIRST_HOLDER,) if held else ()
        return wire.Snapshot(
            meters=(
                wire.Live(1, self.at_ms, 400_000, 61_000, utilization_ppm, holder),
                wire.Live(2, self.at_ms, 100_000, None, None, holder),
            ),
            sources=(wire.SourceReport("nvml", "ok", "1 GPU"),),
            advertise=advertise,
            pending=0,
        )

    def _meters(self) -> dict[int, MeterInfo]:
        return {
            1: MeterInfo(
                f"gpu/{self.uuid}", Component.GPU, "nvml", {"uuid": self.uuid, "gpu": "0"}
            ),
            2: MeterInfo("cpu/0/package", Component.CPU, "rapl"),
        }

    def _holders(self) -> dict[int, HolderInfo]:
        info = HolderInfo("slurm", self.raw_id, self.birth_ms, self.labels)
        return {FIRST_HOLDER: info}

    def _window(self, meter: int, uj: int) -> Window:
        first = self.counts[meter]
        self.counts[meter] += uj
        shares = [Share(FIRST_HOLDER, uj if meter == 1 else uj // 2, 0, STEP_MS)]
        if meter == 2:
            shares.append(Share(Account.SYSTEM, uj // 8, 0, STEP_MS))
            shares.append(Share(Account.IDLE, uj - uj // 2 - uj // 8, 0, STEP_MS))
        return Window(
            meter=meter,
            epoch=1,
            start_ms=self.at_ms,
            end_ms=self.at_ms + STEP_MS,
            boot_ms=self.at_ms + STEP_MS - self.origin_ms + 1000,
            first_uj=first,
            last_uj=first + uj,
            covered_ms=STEP_MS,
            method=Method.COUNTER,
            shares=tuple(shares),
            stats=Stats(power_mw=Spread(uj // STEP_MS, uj // STEP_MS, uj // STEP_MS)),
        )

    def _point(self, meter: int) -> Point:
        boot_ms = self.at_ms - self.origin_ms + 1000
        return Point(meter, 1, self.at_ms, boot_ms, self.counts[meter])
