"""A day of a fleet as rows of the history: jobs that train, swing, wait, and warm their GPUs.

Deterministic by seed, one instant after the other, so that it never stands in memory as a whole.
"""

import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from benchmarks.fleet_jobs import LIMIT_MW, Job, Lane, Load
from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Part, Place, Row

START_MS = 1_748_822_400_000
"""2025-06-02 00:00 UTC: VictoriaMetrics takes nothing from the future."""
GPUS = 8
CPU_METERS = ("cpu/0/package", "cpu/1/package", "cpu/0/dram", "cpu/1/dram")
METERS = GPUS + len(CPU_METERS)

_MODEL = "NVIDIA H100 80GB HBM3"
_CELSIUS_PER_MW, _WARM_MS = 0.062 / 1000, 45_000
_CLOCK_MHZ, _CLOCK_STEP_MHZ, _IDLE_MHZ = 1980, 15, 345
_MIB = 1 << 20
_LATE_MS = 1.5
_RAPL_UJ = 61.03515625
"""What one count of an Intel processor's energy counter is worth; NVML counts millijoules."""
_LANES = ((8,), (8,), (8,), (4, 4), (4, 2, 2), (2, 2, 2, 1, 1), (1,) * 8)
"""How the GPUs of a node are given to jobs: those of a lane go to one job after the other."""
_WIDE_NODES = (2, 4, 4, 8)
_WIDE_PART = 0.5
"""Part of the nodes whose lanes span several of them."""


@dataclass(slots=True)
class Gpu:
    """A GPU: its lane, how thirsty it is, how warm its air, how warm it is itself.

    `late_ms`: how long after the line its counter was read last.
    """

    place: Place
    lane: Lane
    thirst: float
    inlet: float
    celsius: float
    late_ms: float = 0.0

    def row(self, start_ms: int, end_ms: int, draw: Random) -> Row:
        """Return what its agent delivers for an interval."""
        load, random = self.lane.load, draw.random
        lasts_ms = end_ms - start_ms
        mean_mw = load.mean_mw * self.thirst * (0.992 + 0.016 * random())
        low_mw = min(mean_mw, load.low_mw * self.thirst * (0.96 + 0.05 * random()))
        high_mw = max(mean_mw, load.high_mw * self.thirst * (0.99 + 0.04 * random()))
        late_ms, self.late_ms = self.late_ms, _LATE_MS * random()
        covered_ms = round(lasts_ms + self.late_ms - late_ms)
        uj = int(mean_mw * covered_ms * (0.999 + 0.002 * random())) // 1000 * 1000
        before = self.celsius
        steady = self.inlet + mean_mw * _CELSIUS_PER_MW
        self.celsius = steady + (before - steady) * math.exp(-lasts_ms / _WARM_MS)
        cool, warm = sorted((int(before + random()), int(self.celsius + random())))
        heat = (cool * 1000 + warm * 1000) // 2 + int(10 * (warm - cool) * random()) * 50
        throttled = 0
        if high_mw > LIMIT_MW:
            throttled = int(lasts_ms * (mean_mw / LIMIT_MW) ** 4 * random())
        return Row(
            self.place, start_ms, end_ms, covered_ms, uj, "counter", False,
            _parts(load, uj),
            Stats(
                Spread(int(low_mw), int(mean_mw), int(high_mw)),
                Spread(cool * 1000, heat, warm * 1000),
                _utilization(load.busy, random()),
                _memory(load.memory_mib, random()),
                _clock(load.busy, throttled / lasts_ms, random()),
                throttled,
            ),
        )  # fmt: skip


def _parts(load: Load, uj: int) -> list[Part]:
    if len(load.held) == 1:
        since, to, job, _ = load.held[0]
        return [_part(job, since, to, uj)]
    whole = sum((to - since) * mw for since, to, _, mw in load.held)
    parts, left = [], uj
    for since, to, job, mw in load.held[1:]:
        own = int(uj * ((to - since) * mw / whole))
        left -= own
        parts.append(_part(job, since, to, own))
    since, to, job, _ = load.held[0]
    return [_part(job, since, to, left), *parts]


def _part(job: Job | None, since: int, to: int, uj: int) -> Part:
    if job is None:
        return Part("idle", "", "", 0, since, to, uj, 0)
    return Part("workload", "slurm", job.number, job.start_ms, since, to, uj, uj if job.idle else 0)


_AT_REST, _NO_MEMORY = Spread(0, 0, 0), Spread(0, 0, 0)
_RESTING = Spread(*[_IDLE_MHZ * 1000] * 3)
_COOL = Spread(*[_CLOCK_MHZ * 1000] * 3)
_FULL = Spread(*[1_000_000] * 3)


def _utilization(busy: float, random: float) -> Spread:
    if not busy:
        return _AT_REST
    if busy == 1 and random < 0.4:
        return _FULL
    low = int(100 * random) * 10_000
    return Spread(low if busy == 1 else 0, int(busy * (900 + 100 * random)) * 1000, 1_000_000)


def _memory(mib: int, random: float) -> Spread:
    if not mib:
        return _NO_MEMORY
    used = mib * _MIB
    if random < 0.9:
        return Spread(used, used, used)
    more = used + int(random * 40) * 2 * _MIB
    return Spread(used, (used + more) // 2, more)


def _clock(busy: float, throttled: float, random: float) -> Spread:
    if not busy:
        return _RESTING
    if not throttled:
        return _COOL
    lost = int(throttled * random * 30)
    least = _CLOCK_MHZ - lost * 2 * _CLOCK_STEP_MHZ
    mean = 10 * _CLOCK_MHZ - int(lost * random * 10) * _CLOCK_STEP_MHZ
    return Spread(least * 1000, mean * 100, _CLOCK_MHZ * 1000)


@dataclass(slots=True)
class Node:
    """A node with the lanes that its GPUs belong to."""

    gpus: list[Gpu]
    lanes: list[Lane]
    cpus: list[Place]

    def rows(self, start_ms: int, end_ms: int, draw: Random) -> Iterator[Row]:
        """Yield what its agent delivers for an interval."""
        for gpu in self.gpus:
            yield gpu.row(start_ms, end_ms, draw)
        for place in self.cpus:
            yield self._cpu(place, start_ms, end_ms, draw)

    def _cpu(self, place: Place, start_ms: int, end_ms: int, draw: Random) -> Row:
        """A socket or its memory, shared by the jobs of all lanes, the system and nobody."""
        random, lasts_ms = draw.random, end_ms - start_ms
        rest_mw, span_mw = (11_000, 16_000) if place.component == "dram" else (95_000, 190_000)
        held = [
            (since, to, job, (0.02 if job.idle else 1) * lane.gpus * (to - since) / lasts_ms)
            for lane in self.lanes
            for since, to, job, _ in lane.load.held
            if job
        ]
        asked = sum(part for *_, part in held)
        drawn_mw = span_mw * min(1, asked / GPUS / 2) * (0.9 + 0.2 * random())
        parts = [
            _part(job, since, to, int(lasts_ms * drawn_mw * part / asked))
            for since, to, job, part in held
        ]
        system = int(lasts_ms * rest_mw * (0.02 + 0.01 * random()))
        parts.append(Part("system", "", "", 0, 0, lasts_ms, system, 0))
        booked = sum(part.uj for part in parts)
        counts = (booked + lasts_ms * rest_mw * (0.97 + 0.02 * random())) // _RAPL_UJ
        uj = int(counts * _RAPL_UJ)
        parts.append(Part("idle", "", "", 0, 0, lasts_ms, uj - booked, 0))
        mean_mw = uj // lasts_ms
        power = Spread(int(mean_mw * (0.9 + 0.1 * random())), mean_mw + int(99 * random()),
                       int(mean_mw * (1.01 + 0.2 * random())))  # fmt: skip
        covered_ms = lasts_ms + round(random() - random())
        return Row(place, start_ms, end_ms, covered_ms, uj, "counter", False, parts, Stats(power))


class FleetDay:
    """All nodes. `windows` goes on from where it ended."""

    def __init__(self, nodes: int, window_ms: int, seed: int = 1) -> None:
        self.window_ms = window_ms
        self.at_ms = START_MS
        self._draw = Random(f"{seed}/windows")
        chance = Random(f"{seed}/fleet")
        numbers = count(4_810_001)
        self._nodes: list[Node] = []
        while len(self._nodes) < nodes:
            wide = chance.choice(_WIDE_NODES) if chance.random() < _WIDE_PART else 1
            sizes = chance.choice(_LANES) if wide == 1 else (GPUS,)
            lanes = [Lane(size, chance, numbers, START_MS) for size in sizes]
            for _ in range(min(wide, nodes - len(self._nodes))):
                self._nodes.append(_node(len(self._nodes), lanes, chance))
        found: dict[int, Lane] = {id(lane): lane for node in self._nodes for lane in node.lanes}
        self._lanes = list(found.values())

    def windows(self, number: int) -> list[Row]:
        """Return the rows of all meters in the next intervals."""
        rows: list[Row] = []
        for _ in range(number):
            start_ms, end_ms = self.at_ms, self.at_ms + self.window_ms
            for lane in self._lanes:
                lane.advance(start_ms, end_ms)
            for node in self._nodes:
                rows += node.rows(start_ms, end_ms, self._draw)
            self.at_ms = end_ms
        return rows


def _node(number: int, lanes: list[Lane], chance: Random) -> Node:
    name = f"gpu{number // 16 + 1:02}-{number % 16 + 1:02}"
    air = chance.uniform(22, 29)
    of_gpu = [lane for lane in lanes for _ in range(lane.gpus)]
    gpus = []
    for index, lane in enumerate(of_gpu):
        device = f"GPU-{uuid.UUID(int=chance.getrandbits(128), version=4)}"
        place = Place("hall1", name, f"gpu/{device}", "gpu", device, str(index), _MODEL, "nvml")
        gpus.append(Gpu(place, lane, chance.gauss(1, 0.02), air + chance.uniform(0, 6), air + 8))
    cpus = [
        Place(
            "hall1", name, meter, "dram" if meter.endswith("dram") else "cpu",
            meter.partition("/")[2], "", "", "rapl",
        )
        for meter in CPU_METERS
    ]  # fmt: skip
    return Node(gpus, lanes, cpus)
