"""Deliveries of a simulated fleet: nodes of eight GPUs in racks, a day in few windows."""

import math
import random
from collections.abc import Iterator

from wattkeeper.delivery import wire
from wattkeeper.model.holder import FIRST_HOLDER, Account, HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, Method
from wattkeeper.model.window import EpochInfo, Point, Record, Share, Spread, Stats, Window

SLOT_MS = 900_000
GPUS = 8
METERS = GPUS + 2
"""Eight GPUs, a CPU package and its memory; the host's own meter comes beside them."""
HOST = METERS + 1
HOSTILE = '<script>alert("x")</script>\u202e"\'><img src=x onerror=alert(1)>'
_USERS = ("alice", "bob", "chen", "dmitri", "eve", "farah", "goran", "hana")
_ACCOUNTS = ("physics", "vision", "language", "robotics", "chemistry")
_NAMES = ("llama-ft", "resnet-sweep", "whisper", "diffusion", HOSTILE, "eval", "pretrain-7b")


class SimulatedFleet:
    """Its nodes deliver windows as long as a slot, up to `end_ms`, and how they are then."""

    def __init__(self, nodes: int, slots: int, end_ms: int, seed: int = 1) -> None:
        self.nodes = nodes
        self.end_ms = end_ms // SLOT_MS * SLOT_MS
        self.start_ms = self.end_ms - slots * SLOT_MS
        self._seed = seed
        self._chance = random.Random(seed)

    @property
    def racks(self) -> dict[str, tuple[str, ...]]:
        """The nodes of each rack, sixteen or fewer, as the configuration has them."""
        racks = -(-self.nodes // 16)
        names = [self.name(number) for number in range(self.nodes)]
        return {f"r{rack + 1:02}": tuple(names[rack::racks]) for rack in range(racks)}

    @staticmethod
    def name(number: int) -> str:
        """Return what a node is called."""
        return f"gpu{number + 1:03}"

    def batches(self) -> Iterator[wire.Batch]:
        """Return the one delivery of each node, the same each time."""
        self._chance = random.Random(self._seed)
        for number in range(self.nodes):
            yield self._batch(number)

    def _batch(self, number: int) -> wire.Batch:
        job = number // 2
        free = job % 9 == 8
        idle = job % 7 == 5
        heat = 34 + 44 * self._chance.random()
        load = 0 if free or idle else round(1e6 * min(1, 0.5 + self._chance.random()))
        watts = [self._draw(load) for _ in range(METERS)]
        holder = () if free else (FIRST_HOLDER,)
        records = list(self._records(watts, holder))
        return wire.Batch(
            cluster="west", node=self.name(number), journal=f"journal-{number}", boot="boot-1",
            agent="0.1.0", wall_ms=self.end_ms, boot_ms=self.end_ms - self.start_ms + 1000,
            oldest=1, first=1, previous=wire.GENESIS,
            records=tuple(map(wire.encode_record, records)),
            meters=self._meters(number),
            holders={FIRST_HOLDER: self._holder(job)},
            epochs={1: EpochInfo("boot-1", "load-1")},
            snapshot=self._snapshot(watts, heat, load, holder),
        )  # fmt: skip

    def _draw(self, load: int) -> int:
        return round((70 + 620 * load / 1e6) * (0.92 + 0.16 * self._chance.random()))

    def _records(self, watts: list[int], holder: tuple[int, ...]) -> Iterator[Record]:
        counts = [7 * meter for meter in range(HOST)]
        for at_ms in range(self.start_ms, self.end_ms + 1, SLOT_MS):
            boot_ms = at_ms - self.start_ms + 1000
            for meter, uj in enumerate(counts):
                yield Point(meter + 1, 1, at_ms, boot_ms, uj)
            if at_ms == self.end_ms:
                return
            wave = 0.8 + 0.2 * math.sin(at_ms / SLOT_MS / 7)
            payer = holder[0] if holder else int(Account.IDLE)
            drawn = [
                round(watts[meter] * 1000 * wave * (1 if meter < GPUS else 0.3)) * SLOT_MS
                for meter in range(METERS)
            ]
            shares = [(Share(payer, uj, 0, SLOT_MS),) for uj in drawn]
            known = Share(Account.COMPONENTS, sum(drawn), 0, SLOT_MS)
            host = (known, Share(Account.OVERHEAD, sum(drawn) // 5, 0, SLOT_MS))
            for meter, parts in enumerate((*shares, host)):
                uj = sum(part.uj for part in parts)
                mw = uj // SLOT_MS
                yield Window(
                    meter=meter + 1, epoch=1, start_ms=at_ms, end_ms=at_ms + SLOT_MS,
                    boot_ms=boot_ms + SLOT_MS, first_uj=counts[meter], last_uj=counts[meter] + uj,
                    covered_ms=SLOT_MS, method=Method.COUNTER,
                    shares=parts, stats=Stats(Spread(mw, mw, mw)),
                )  # fmt: skip
                counts[meter] += uj

    def _snapshot(
        self, watts: list[int], heat: float, load: int, holder: tuple[int, ...]
    ) -> wire.Snapshot:
        def live(meter: int) -> wire.Live:
            if meter >= GPUS:
                return wire.Live(meter + 1, self.end_ms, watts[meter] * 300, None, None, holder)
            mc = round((heat + 9 * self._chance.random()) * 1000)
            return wire.Live(meter + 1, self.end_ms, watts[meter] * 1000, mc, load, holder)

        sources = [wire.SourceReport(name, "ok", "") for name in ("nvml", "rapl", "cgroups")]
        if self._chance.random() < 0.05:
            sources[1] = wire.SourceReport("rapl", "denied", "energy_uj cannot be read")
        return wire.Snapshot(tuple(map(live, range(METERS))), tuple(sources), "", 0)

    def _holder(self, job: int) -> HolderInfo:
        labels = {
            "job_id": str(1000 + job),
            "user": _USERS[job % len(_USERS)],
            "account": _ACCOUNTS[job % len(_ACCOUNTS)],
            "partition": "gpu",
            "name": _NAMES[job % len(_NAMES)],
        }
        return HolderInfo("slurm", str(1000 + job), self.start_ms, labels)

    @staticmethod
    def _meters(number: int) -> dict[int, MeterInfo]:
        meters = {}
        for index in range(GPUS):
            uuid = f"GPU-{number:08x}-0000-4000-8000-{index:012x}"
            labels = {"uuid": uuid, "gpu": str(index), "model": "NVIDIA H100 80GB HBM3"}
            meters[index + 1] = MeterInfo(f"gpu/{uuid}", Component.GPU, "nvml", labels)
        meters[GPUS + 1] = MeterInfo("cpu/0/package", Component.CPU, "rapl")
        meters[GPUS + 2] = MeterInfo("cpu/0/dram", Component.DRAM, "rapl")
        meters[HOST] = MeterInfo("host/dcmi", Component.HOST, "dcmi")
        return meters
