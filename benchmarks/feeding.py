"""The same values for every history, and what it costs to take and keep them."""

import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines import Engine, size_of
from benchmarks.fleet_day import FleetDay
from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Cursor, Row
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.remote_series import held, meter_values
from wattkeeper.telemetry.remote_wire import encode

_TEND_MS = 60_000
_LATER_DAYS = (1, 2, 3)
"""So many days after their own there is nothing left to be done about rows."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is fed: so many nodes, windows of that length up to an instant.

    `batch`: how many windows of all meters are in a write, `request`: in a request to a peer.
    """

    nodes: int
    window_ms: int
    until_ms: int
    batch: int
    request: int

    def batches(self, windows: int) -> Iterator[tuple[int, list[Row]]]:
        """Yield rows of so many windows, and the instant up to which they go."""
        day = FleetDay(self.nodes, self.window_ms)
        while day.at_ms < self.until_ms:
            left = (self.until_ms - day.at_ms) // self.window_ms
            rows = day.windows(min(windows, left))
            yield day.at_ms, rows


@dataclass(frozen=True, slots=True)
class Cost:
    """What an engine used for `values` numbers.

    `cpu_s`: to take them, and to lay them down as they stay. `kept`: bytes of the values alone;
    `more`: what else there is on disk, by name. `memory`: at its peak, in bytes.
    """

    values: int
    cpu_s: tuple[float, float]
    kept: int
    more: dict[str, int]
    memory: int


def count(rows: Sequence[Row]) -> int:
    """Return how many samples rows are to an engine: every number that a series would have."""
    of_meters = sum(value is not None for row in rows for value in meter_values(row))
    return of_meters + sum(1 + bool(idle_uj) for row in rows for _, _, idle_uj in held(row))


def feed_embedded(folder: Path, load: Load) -> Cost:
    """Write into the embedded store; runs in a process of its own, whose CPU and memory count."""
    store = DuckStore(folder)
    cpu, values, tended_ms, number = [0.0, 0.0], 0, 0, 0
    journals = [f"{node:032x}" for node in range(load.nodes)]
    for at_ms, rows in load.batches(load.batch):
        number += len(rows) // load.nodes
        values += count(rows)
        began = time.process_time()
        store.write(rows, {journal: Cursor(number, bytes(32)) for journal in journals})
        cpu[0] += time.process_time() - began
        if at_ms - tended_ms >= _TEND_MS:
            tended_ms = at_ms
            began = time.process_time()
            store.tend(at_ms)
            cpu[1] += time.process_time() - began
    began = time.process_time()
    for days in _LATER_DAYS:
        store.tend(load.until_ms + days * DAY_MS)
    cpu[1] += time.process_time() - began
    figures = store.counts()
    store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    more = {
        "5-minute and hourly rows": int(figures["5m_bytes"] + figures["1h_bytes"]),
        "database": size_of(folder) - sum(int(figures[f"{r}_bytes"]) for r in ("full", "5m", "1h")),
    }
    return Cost(values, (cpu[0], cpu[1]), int(figures["full_bytes"]), more, peak)


def feed_engines(engines: Sequence[Engine], load: Load) -> list[Cost]:
    """Send the same by remote write, to all at once; wait until each has written all it has."""
    for engine in engines:
        engine.start()
    began = [engine.program.use().cpu_s for engine in engines]
    sent: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, len(engines))) as pool:
        for _, rows in load.batches(load.request):
            body = encode(rows)
            for future in sent:
                future.result()
            sent = [pool.submit(engine.take, body) for engine in engines]
        for future in sent:
            future.result()
    return [_cost(engine, cpu_s) for engine, cpu_s in zip(engines, began, strict=True)]


def _cost(engine: Engine, began_s: float) -> Cost:
    values, taken_s = engine.taken(), engine.program.use().cpu_s
    engine.settle()
    settled_s = engine.program.use().cpu_s
    peak = engine.peak()
    engine.stop()
    return Cost(values, (taken_s - began_s, settled_s - taken_s), engine.size(), {}, peak)
