"""The life of an embedded store in a process that is killed, at a step or at any time."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from tests.telemetry.duck_fleet import T0, row

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Cursor, Row
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_database import Database
from wattkeeper.telemetry.duck_options import DuckOptions

OPTIONS = DuckOptions(
    keep_full_ms=3 * DAY_MS,
    keep_five_minutes_ms=6 * DAY_MS,
    hot_rows=70,
    piece_rows=120,
    free_bytes=0,
)
BATCH = 48
"""Rows that are written at once: eight hours."""


def told(number: int) -> Row:
    """Return row `number`; some come four days late."""
    return row(number, T0 + (number - 4 * 144) * 600_000 if number % 17 == 0 else None)


def now_ms(count: int) -> int:
    """Return the time at which so many rows were written."""
    return T0 + count * 600_000 + 660_000


def live(folder: str, batches: int, die_at: int) -> None:
    """Write batches from the store's own cursor on and tend as time goes on.

    `die_at`: number of the step at which the process kills itself.
    """
    _die_at(die_at)
    store = DuckStore(Path(folder), OPTIONS)
    for _ in range(batches):
        taken = store.cursors()["j"].seq if store.cursors() else 0
        rows = [told(number) for number in range(taken, taken + BATCH)]
        store.write(rows, {"j": Cursor(taken + BATCH, b"h")})
        store.tend(now_ms(taken + BATCH))
    store.close()


def _die_at(die_at: int) -> None:
    """Make each side of each commit, and of each thing that is done to a file, a step."""
    steps = iter(range(die_at, -1, -1))
    writing, fsync, rename, unlink = Database.writing, os.fsync, Path.rename, Path.unlink

    def step() -> None:
        if next(steps, None) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def stepwise_writing(self: Database) -> Iterator[duckdb.DuckDBPyConnection]:
        with writing(self) as connection:
            yield connection
            step()
        step()

    def stepwise_fsync(descriptor: int) -> None:
        fsync(descriptor)
        step()

    def stepwise_rename(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        step()
        return renamed

    def stepwise_unlink(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        step()

    Database.writing = stepwise_writing  # type: ignore[method-assign]
    os.fsync = stepwise_fsync  # type: ignore[assignment]
    Path.rename = stepwise_rename  # type: ignore[method-assign,assignment]
    Path.unlink = stepwise_unlink  # type: ignore[method-assign]
