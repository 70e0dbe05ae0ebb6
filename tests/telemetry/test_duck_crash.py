"""SIGKILL of the embedded store at any instant: every row once, and nothing left lying about."""

import multiprocessing
import random
import signal
from pathlib import Path

import pytest
from tests.telemetry.duck_fleet import held
from tests.telemetry.duck_life import BATCH, OPTIONS, live, now_ms, told

from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_database import TEMPORARY
from wattkeeper.telemetry.duck_retention import horizons
from wattkeeper.telemetry.duck_schema import Resolution

_FOR_EVER = 1 << 30


def run(folder: Path, batches: int, die_at: int, kill_after_s: float | None) -> bool:
    """Let a store live in a process of its own; return whether it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.telemetry.duck_life"])
    process = context.Process(target=live, args=(str(folder), batches, die_at), daemon=True)
    process.start()
    process.join(kill_after_s)
    if process.is_alive():
        process.kill()
        process.join(30)
    assert process.exitcode in (0, -signal.SIGKILL), "it ended by itself, with an error"
    return process.exitcode != 0


def check(folder: Path, *, settled: bool) -> int:
    """Open what a killed process left and compare it with all that it had taken."""
    store = DuckStore(folder, OPTIONS)
    taken = store.cursors()["j"].seq if store.cursors() else 0
    if settled:
        store.tend(now_ms(taken) + 3_600_000)
    with store._database.reading() as connection:
        kept_from = horizons(connection)
        listed = {path for (path,) in connection.execute("SELECT path FROM file").fetchall()}
        still_hot = {uj for (uj,) in connection.execute("SELECT energy_uj FROM hot").fetchall()}
    rows = [told(number) for number in range(taken)]
    for resolution in Resolution:
        kept = [r for r in rows if r.end_ms > kept_from[resolution] or r.uj in still_hot]
        got = held(store, resolution)
        assert (len(kept), sum(r.uj for r in kept)) == (
            sum(g[2] for g in got),
            sum(g[1] for g in got),
        )
        if resolution is Resolution.FULL:
            assert sorted((r.end_ms, r.uj, 1) for r in kept) == got
    parquet = store._files.folder
    there = {str(path.relative_to(parquet)) for path in parquet.rglob("*") if path.is_file()}
    assert listed == there
    assert [] == list((folder / TEMPORARY).iterdir())
    store.close()
    return taken


@pytest.mark.long
def test_killed_at_each_step(tmp_path: Path) -> None:
    """Before and after each commit, each new name and each removal, one after the other."""
    taken, killed = 0, 0
    for die_at in range(45):
        killed += run(tmp_path, 1, die_at, 60)
        if die_at % 6 == 5:
            now_taken = check(tmp_path, settled=False)
            assert taken <= now_taken
            taken = now_taken
    assert killed > 25
    assert check(tmp_path, settled=True) >= 10 * BATCH


def test_killed_at_any_time(tmp_path: Path) -> None:
    """Wherever the process is, in DuckDB too."""
    chance = random.Random(7)
    for _ in range(12):
        run(tmp_path, 50, _FOR_EVER, chance.uniform(0.1, 0.6))
    check(tmp_path, settled=False)
    check(tmp_path, settled=True)
