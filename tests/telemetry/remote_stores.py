"""Stores on engines, and rows for them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.telemetry.made import HOLDERS, PLACES

from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Part, Place, Row
from wattkeeper.telemetry.remote import RemoteStore
from wattkeeper.telemetry.remote_cursors import SqliteCursors
from wattkeeper.telemetry.remote_options import RemoteOptions

ORIGIN_MS = 1_790_035_200_000
CELL_MS = 10_000


@contextlib.contextmanager
def remote_store(url: str, folder: Path, **options: Any) -> Iterator[RemoteStore]:
    """Open a store with its cursors and its refused rows in a folder."""
    cursors = SqliteCursors(folder / "cursors.sqlite")
    store = RemoteStore(RemoteOptions(url, **options), cursors, folder / "refused")
    try:
        yield store
    finally:
        store.close()


def row(cell: int, place: Place = PLACES[0], *, origin_ms: int = ORIGIN_MS) -> Row:
    """Return a row of ten seconds, that many cells after the origin."""
    start_ms = origin_ms + cell * CELL_MS
    uj = (1000 + cell) * 1_000_000
    part = Part(*HOLDERS[0], 0, CELL_MS, uj, 1_000)
    spread = Spread(1, 2, 3)
    stats = Stats(spread, spread, None, spread, None, 4)
    return Row(place, start_ms, start_ms + CELL_MS, CELL_MS, uj, "counter", False, (part,), stats)


def rows(*cells: int) -> list[Row]:
    """Return such rows of the first meter."""
    return [row(cell) for cell in cells]
