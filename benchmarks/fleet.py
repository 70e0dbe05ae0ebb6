"""What ten thousand agents deliver, pre-encoded as far as it goes.

All nodes count alike, so the records of one round, and with them the chain's hashes, are encoded
once; what tells one node's delivery from another's is the head of the batch: cluster, node,
journal, boot and clocks. A body is one zlib stream: the head stored, then the deflated rest.
"""

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from wattkeeper.delivery.wire import (
    GENESIS,
    Batch,
    Live,
    Snapshot,
    SourceReport,
    chain,
    encode_record,
)
from wattkeeper.model.holder import FIRST_HOLDER, Account, HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, Method
from wattkeeper.model.window import EpochInfo, Point, Share, Spread, Stats, Window

WINDOW_MS = 10_000
POINT_MS = 300_000
GPUS = 8
CPU_METERS = ("cpu/0/package", "cpu/0/dram", "cpu/1/package", "cpu/1/dram")
METERS = GPUS + len(CPU_METERS)
_EPOCH = EpochInfo("", "benchmark")
_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Round:
    """What every node delivers for one window: the shared end of each body, and where it leads."""

    deflated: bytes
    plain: bytes
    accepted: int
    accepted_hash: str


class Fleet:
    """Nodes alike, each with eight GPUs and two sockets, and `holders` jobs on every CPU meter.

    `start_ms` is the grid line where all of them begin.
    """

    def __init__(self, nodes: int, holders: int, start_ms: int, seed: int = 1) -> None:
        self.nodes = nodes
        self.start_ms = start_ms
        self._holders = list(range(FIRST_HOLDER, FIRST_HOLDER + holders))
        self._jobs = list(range(FIRST_HOLDER, FIRST_HOLDER + max(holders, GPUS)))
        self._chance = random.Random(seed)
        self._count_uj = [10**12 + 7 * i for i in range(METERS)]
        self._last = 0
        self._hash = GENESIS
        self._sent = 0

    @property
    def shares(self) -> int:
        """Shares in the windows of one node and round."""
        return GPUS + len(CPU_METERS) * (len(self._holders) + 1)

    @property
    def values(self) -> int:
        """Numbers that one round of one node carries and a Prometheus would need series for.

        Per GPU 17: energy; least, mean and greatest of power, temperature, utilization, memory
        and clock; throttled time. Per CPU meter 4: energy and three of power. One per share.
        """
        return GPUS * 17 + len(CPU_METERS) * 4 + self.shares

    def next_round(self) -> Round:
        """Encode the next window of every meter."""
        start_ms = self.start_ms + self._sent * WINDOW_MS
        records = []
        if self._sent == 0 or not start_ms % POINT_MS:
            records += [self._point(meter, start_ms) for meter in range(METERS)]
        records += [self._window(meter, start_ms) for meter in range(METERS)]
        first, previous = self._last + 1, self._hash
        for payload in records:
            self._hash = chain(self._hash, payload)
        self._last += len(records)
        self._sent += 1
        batch = Batch(
            cluster="", node="", journal="", boot="", agent="", wall_ms=0, boot_ms=0,
            oldest=first, first=first, previous=previous, records=tuple(records),
            snapshot=self._snapshot(start_ms + WINDOW_MS),
        )  # fmt: skip
        plain = _after_head(batch)
        return Round(_deflate(plain), plain, self._last, self._hash.hex())

    def _point(self, meter: int, at_ms: int) -> bytes:
        boot_ms = at_ms - self.start_ms + POINT_MS
        return encode_record(Point(meter + 1, meter + 1, at_ms, boot_ms, self._count_uj[meter]))

    def _window(self, meter: int, start_ms: int) -> bytes:
        end_ms = start_ms + WINDOW_MS
        gpu = meter < GPUS
        holders = [self._jobs[meter]] if gpu else [*self._holders, int(Account.SYSTEM)]
        draw = self._chance.randrange
        shares = tuple(
            Share(h, draw(4 * 10**9) if gpu else draw(2 * 10**9) // len(holders), 0, WINDOW_MS)
            for h in holders
        )
        first_uj = self._count_uj[meter]
        self._count_uj[meter] += sum(share.uj for share in shares)
        power = Spread(draw(200_000), draw(400_000), draw(700_000))
        stats = Stats(power)
        if gpu:
            heat, load = Spread(61_000, 62_000, draw(70_000)), Spread(0, draw(10**6), 10**6)
            memory, clock = Spread(1 << 34, 1 << 35, draw(1 << 36)), Spread(345_000, 10**6, 10**6)
            stats = Stats(power, heat, load, memory, clock, draw(100))
        return encode_record(
            Window(
                meter + 1, meter + 1, start_ms, end_ms, end_ms - self.start_ms + POINT_MS,
                first_uj, self._count_uj[meter], WINDOW_MS, Method.COUNTER, shares, stats,
            )
        )  # fmt: skip

    def _snapshot(self, at_ms: int) -> Snapshot:
        """Return a glimpse of the size that a real agent sends."""
        live = tuple(
            Live(meter + 1, at_ms, 400_000, 62_000, 900_000, tuple(self._holders[:2]))
            for meter in range(METERS)
        )
        names = ["nvml", "rapl", "hwmon", "host", "cgroups", "marks", "journal", "delivery"]
        names += [f"gpu/{i}" for i in range(GPUS)]
        return Snapshot(live, tuple(SourceReport(name, "ok", "") for name in names), "", 0)

    def body(self, node: int, round_: Round, wall_ms: int) -> bytes:
        """Return the delivery of one node."""
        return _stream(self._head(node, wall_ms), round_)

    def first_body(self, node: int, round_: Round, wall_ms: int) -> bytes:
        """Return a node's first delivery, which carries its dictionary."""
        dictionary = {
            "meters": self._meters(node),
            "holders": {
                number: HolderInfo(
                    "slurm", f"{node}{number}", self.start_ms,
                    {"job_id": f"{node}{number}", "user": f"u{number}", "account": f"a{node % 50}"},
                )
                for number in self._jobs
            },
            "epochs": {i + 1: EpochInfo(f"boot-{node}", "benchmark") for i in range(METERS)},
        }  # fmt: skip
        batch = msgspec.msgpack.decode(self._head(node, wall_ms) + round_.plain)
        return zlib.compress(_encode({**batch, **dictionary}), 1)

    @staticmethod
    def _meters(node: int) -> Mapping[int, MeterInfo]:
        meters = {}
        for i in range(GPUS):
            uuid = f"GPU-{node:08x}-0000-4000-8000-{i:012x}"
            labels = {"uuid": uuid, "model": "NVIDIA H100 80GB HBM3", "vendor": "nvidia"}
            meters[i + 1] = MeterInfo(f"gpu/{uuid}", Component.GPU, "nvml", labels)
        for i, name in enumerate(CPU_METERS, GPUS + 1):
            component = Component.DRAM if name.endswith("dram") else Component.CPU
            meters[i] = MeterInfo(name, component, "rapl")
        return meters

    def _head(self, node: int, wall_ms: int) -> bytes:
        """Return the MessagePack of a batch up to the field `oldest`."""
        fields = {
            "cluster": "benchmark",
            "node": f"node{node:05}",
            "journal": f"journal-{node:05}",
            "boot": f"boot-{node}",
            "agent": "0.1.0",
            "wall_ms": wall_ms,
            "boot_ms": wall_ms - self.start_ms + POINT_MS,
        }
        packed = _encode(fields)
        # Of the map's header only the size differs: it counts all fields of a batch.
        return b"\xde" + len(Batch.__struct_fields__).to_bytes(2) + packed[1:]


def _after_head(batch: Batch) -> bytes:
    packed = _encode(batch)
    return packed[packed.index(b"\xa6oldest") :]


def _deflate(plain: bytes) -> bytes:
    compress = zlib.compressobj(1, zlib.DEFLATED, -15)
    return compress.compress(plain) + compress.flush()


def _stream(head: bytes, round_: Round) -> bytes:
    """Return a zlib stream: header, `head` in a stored block, the deflated rest, Adler-32."""
    size = len(head)
    stored = b"\x00" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + head
    checksum = zlib.adler32(round_.plain, zlib.adler32(head))
    return b"\x78\x01" + stored + round_.deflated + checksum.to_bytes(4, "big")
