"""The DuckDB database of the telemetry: opened, bounded, opened anew after a fatal error."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.duck_disk import fsync
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_schema import TABLES, VERSION

FILE = "telemetry.duckdb"
TEMPORARY = "tmp"
_PATIENCE_S = 10.0
"""For others who use the database, before it is closed or opened anew."""


class Database:
    """The database in a folder. Each `reading` and `writing` has a connection of its own.

    After a full disk in the wrong moment DuckDB refuses everything until it is opened anew; that
    is done at the next use. `openings` counts, so that a user knows when to look anew at what is
    on disk.

    Raises:
        TelemetryError: it cannot be opened.

    """

    def __init__(self, folder: Path, options: DuckOptions) -> None:
        self._path = folder / FILE
        self._options = options
        self._gate = threading.Condition()
        self._write = threading.Lock()
        self._live: set[duckdb.DuckDBPyConnection] = set()
        self._broken = self._closed = False
        self.openings = 1
        self._connection = self._open()

    @contextmanager
    def reading(self, limit_s: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """One consistent view. Each query in it ends after `limit_s`, with an InterruptException.

        Raises:
            TelemetryError: it cannot be opened anew, or is closed.
            duckdb.Error: as DuckDB says.

        """
        with self._used() as connection:
            if limit_s is not None:
                connection.execute(f"SET max_execution_time = {max(1, int(limit_s * 1000))}")
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction, one at a time: all of it or nothing; after a FatalException, either.

        Raises:
            TelemetryError: it cannot be opened anew, or is closed.
            duckdb.Error: as DuckDB says.

        """
        with self._write, self._used() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """End what is running and let go of the file."""
        with self._gate:
            self._closed = True
            for connection in self._live:
                connection.interrupt()
            self._gate.wait_for(lambda: not self._live, _PATIENCE_S)
            with contextlib.suppress(duckdb.Error):  # a full disk: the log has it all
                self._connection.close()

    @contextmanager
    def _used(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._gate:
            self._mend()
            connection = self._connection.cursor()
            self._live.add(connection)
        try:
            yield connection
        except (duckdb.FatalException, duckdb.InternalException):
            self._broken = True
            raise
        finally:
            with contextlib.suppress(duckdb.Error):
                connection.close()  # takes back what was not committed
            with self._gate:
                self._live.discard(connection)
                self._gate.notify_all()

    def _mend(self) -> None:
        if self._broken and not self._gate.wait_for(lambda: not self._live, _PATIENCE_S):
            raise TelemetryError("telemetry: waits for questions to end, to open its database anew")
        if self._closed:
            raise TelemetryError("telemetry: closed")
        if self._broken:  # no longer, if another thread was first
            with contextlib.suppress(duckdb.Error):
                self._connection.close()
            self._connection = self._open()
            self._broken = False
            self.openings += 1

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            if not self._path.exists():
                self._create()
            connection = self._connect(self._path)
        except (duckdb.Error, OSError) as error:
            raise TelemetryError(
                f"telemetry: cannot open {self._path}: {_remedy(error)}"
            ) from error
        try:
            version = connection.execute("SELECT max(version) FROM state").fetchall()[0][0]
        except duckdb.Error as error:
            connection.close()
            raise TelemetryError(
                f"telemetry: {self._path} is another program's database ({first_line(error)}); "
                "move it away, or choose another folder"
            ) from error
        if version > VERSION:
            connection.close()
            raise TelemetryError(
                f"telemetry: {self._path} was written by a newer version of wattkeeper (schema "
                f"{version}, this one knows {VERSION}); run that version or a newer one"
            )
        return connection

    def _create(self) -> None:
        """Make the file under another name first, so that a crash leaves no half-made one."""
        new = self._path.with_suffix(".new")
        for leftover in (new, new.with_suffix(".new.wal")):
            leftover.unlink(missing_ok=True)
        with contextlib.closing(self._connect(new)) as connection:
            connection.execute(TABLES)
            connection.execute("CHECKPOINT")
        new.rename(self._path)
        fsync(self._path.parent)

    def _connect(self, path: Path) -> duckdb.DuckDBPyConnection:
        options = self._options
        connection = duckdb.connect(
            path,
            config={
                "memory_limit": f"{options.memory_bytes}B",
                "threads": options.threads,
                "temp_directory": str(path.parent / TEMPORARY),
                "max_temp_directory_size": f"{options.temp_bytes}B",
                "autoinstall_known_extensions": False,  # it never asks the network for anything
                "autoload_known_extensions": False,
                "force_compression": "uncompressed",  # rows stay for an hour or a day
            },
        )
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        # Files never change, and no name comes twice.
        connection.execute("SET GLOBAL parquet_metadata_cache = true")
        return connection


def first_line(error: BaseException) -> str:
    """Return an error in one line, as it stands in messages."""
    return str(error).partition("\n")[0]


def _remedy(error: BaseException) -> str:
    told = first_line(error)
    if "Conflicting lock" in told:
        return f"{told}. Another aggregator uses this folder: stop it, or give each its own"
    if "not a valid DuckDB" in told:
        return f"{told} Move it away, or restore it from a backup together with parquet/"
    if isinstance(error, OSError) or "Permission denied" in told or "Read-only" in told:
        return f"{told}. Make the folder writable for this user"
    return f"{told}. Restore it from a backup together with parquet/"
