"""The embedded store fulfils the contract, before and after its rows have moved into Parquet."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.telemetry.contract import StoreContract

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import TelemetryStore
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_options import DuckOptions


class TestDuck(StoreContract):
    """Small pieces, so that even few rows need several files."""

    @contextmanager
    def empty_store(self) -> Iterator[TelemetryStore]:
        """Open a store in a new folder."""
        with tempfile.TemporaryDirectory() as folder:
            store = DuckStore(Path(folder), DuckOptions(piece_rows=10))
            try:
                yield store
            finally:
                store.close()

    def states(self, store: TelemetryStore) -> Iterator[None]:
        """All in the database, one day in Parquet, all in Parquet."""
        yield
        for days in (1, 3):
            store.tend(self.origin_ms + days * DAY_MS + 7_200_000)
            yield
