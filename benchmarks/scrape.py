"""What a scrape of the aggregator costs with half a million running jobs in the ledger."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from wattkeeper.aggregator.config import AggregatorSettings, LedgerSection
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.schema import HOLDER_BITS
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS

_SLOT_MS = 900_000
_NOW_MS = 1_800_000_600_000
_HOUR_MS = 3_600_000
_NODES = 10_000
_ACCOUNTS = 3_000
_USERS = 500


def main(args: Sequence[str]) -> int:
    """Run the benchmark and print its results as a table."""
    parser = argparse.ArgumentParser(prog="bench scrape", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500_000)
    parser.add_argument("--scrapes", type=int, default=12)
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="wattkeeper-scrape-") as folder:
        ledger = Ledger.open(Path(folder) / "ledger.sqlite", slot_ms=_SLOT_MS)
        _fill(ledger, options.jobs)
        ledger.close()
        print("| scrape | lasted | bytes |\n|---|---|---|")
        asyncio.run(_scrape(Path(folder), options.scrapes))
    return 0


def _fill(ledger: Ledger, jobs: int) -> None:
    """Write running jobs, one GPU and one CPU each, with two slots and their daily sums."""
    numbers = range(1, jobs + 1)
    nodes = range(1, _NODES + 1)
    meters = [(2 * node - 1 + part, node, part) for node in nodes for part in (0, 1)]
    slots = (_NOW_MS // _SLOT_MS * _SLOT_MS - _SLOT_MS, _NOW_MS // _SLOT_MS * _SLOT_MS)
    # Holder, meter, and a little more energy for each job than for the one before.
    used = [
        (1 << HOLDER_BITS | n, 2 * (n % _NODES + 1) - 1 + part, 1_000_000 + n)
        for n in numbers
        for part in (0, 1)
    ]
    start_ms = _NOW_MS - _HOUR_MS
    with ledger.writing() as connection:
        columns = "id cluster name seen_ms skew_ms"
        rows = ((node, "c", f"n{node}", _NOW_MS, 0) for node in nodes)
        bulk.insert(connection, schema.node, columns, rows)
        columns = "id node name component end_ms boot_ms uj epoch points resume"
        rows_of_meters = (
            (meter, node, f"m{part}", ("gpu", "cpu")[part], _NOW_MS, 0, 0, 0, 0, 0)
            for meter, node, part in meters
        )
        bulk.insert(connection, schema.meter, columns, rows_of_meters)
        columns = "id cluster manager raw_id job_id account state start_ms scheduler"
        runs = (
            (n, "c", "slurm", str(n), str(n), f"a{n % _ACCOUNTS}", "RUNNING", start_ms, "slurm")
            for n in numbers
        )
        bulk.insert(connection, schema.workload, columns, runs)
        names = ((n, f"u{n % _USERS}", "train") for n in numbers)
        bulk.insert(connection, schema.identity, "workload user name", names)
        columns = "id node manager raw_id birth_ms seen_ms workload"
        held = (
            (1 << HOLDER_BITS | n, n % _NODES + 1, "slurm", str(n), start_ms, _NOW_MS, n)
            for n in numbers
        )
        bulk.insert(connection, schema.holder, columns, held)
        figures = "holder meter uj slot method split policy ms peak_mw to_ms idle_uj idle_ms"
        for slot in slots:
            booked = ((*one, slot, 0, 0, 0, 900_000, 1, _NOW_MS, 0, 0) for one in used)
            bulk.insert(connection, schema.posting, figures, booked)
        day = _NOW_MS // DAY_MS
        sums = (
            (holder, meter, 2 * uj, day, 0, 0, 0, 1_800_000, 1, _NOW_MS, 0, 0)
            for holder, meter, uj in used
        )
        bulk.insert(connection, schema.rollup, figures.replace("slot", "day"), sums)


async def _scrape(folder: Path, scrapes: int) -> None:
    began_s = time.monotonic()
    settings = AggregatorSettings(
        listen="127.0.0.1:0",
        data_dir=folder,
        ledger=LedgerSection(url=f"sqlite:///{folder / 'ledger.sqlite'}"),
    )
    aggregator = Aggregator(
        settings, now_ms=lambda: _NOW_MS + int(1000 * (time.monotonic() - began_s))
    )
    await aggregator.start()
    async with aiohttp.ClientSession() as session:
        for number in range(1, scrapes + 1):
            asked_s = time.perf_counter()
            async with session.get(f"{aggregator.url}/metrics") as answer:
                body = await answer.read()
            lasted_s = time.perf_counter() - asked_s
            print(f"| {number} | {lasted_s:.2f} s | {len(body):,} |", flush=True)
            await asyncio.sleep(5)
    await aggregator.stop()
