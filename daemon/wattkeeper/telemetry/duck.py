"""The embedded store: DuckDB for what is new, Parquet files for the rest."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from wattkeeper.model.state import Finding
from wattkeeper.telemetry.base import Answer, Cursor, Question, Row, TelemetryError
from wattkeeper.telemetry.duck_asking import Inquiry
from wattkeeper.telemetry.duck_compaction import compact
from wattkeeper.telemetry.duck_database import TEMPORARY, Database, first_line
from wattkeeper.telemetry.duck_disk import clear, require_room
from wattkeeper.telemetry.duck_files import File, Files, read_list, require_list
from wattkeeper.telemetry.duck_health import counts, findings
from wattkeeper.telemetry.duck_merging import merge
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_reading import days, rows_of
from wattkeeper.telemetry.duck_retention import expire
from wattkeeper.telemetry.duck_writing import Writer

_AGAIN = 3
"""How often a question is put whose files went away, or turned out to be damaged, meanwhile."""


class DuckStore:
    """A `TelemetryStore` in a folder of this machine. docs/telemetry.md tells what lies there.

    Raises:
        TelemetryError: the folder cannot be used.

    """

    def __init__(self, folder: Path, options: DuckOptions | None = None) -> None:
        self._folder = folder
        self._options = options or DuckOptions()
        self._tending = threading.Lock()
        self._troubles: dict[str, str] = {}
        with self._explained("opened"):
            folder.mkdir(parents=True, exist_ok=True)
            require_list(folder)
            self._database = Database(folder, self._options)
            try:
                clear(folder / TEMPORARY)
                self._files = Files(folder, self._database)
                self._files.sweep()
                self._writer = Writer(self._database)
            except (duckdb.Error, OSError, TelemetryError):
                self._database.close()
                raise

    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far each journal is on disk, by the journal's name."""
        return self._writer.cursors()

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take rows and move the cursors, both or neither.

        Raises:
            TelemetryError: nothing was taken; the same rows may come again.

        """
        with self._noted("written"):
            require_room(self._folder, self._options.free_bytes)
            self._writer.write(rows, cursors)

    def ask(self, question: Question) -> Answer:
        """Answer a question. What stands in files that cannot be read is missing in the answer.

        Raises:
            TelemetryError: it cannot be answered now.

        """
        ends = time.monotonic() + self._options.ask_s
        advice = "ask for a shorter time, a longer step or fewer meters"
        with self._explained("answered"):
            try:
                for _ in range(_AGAIN):
                    answer = self._attempt(question, ends)
                    if answer is not None:
                        return answer
            except duckdb.InterruptException as error:
                raise TelemetryError(
                    f"telemetry: no answer within {self._options.ask_s:g} s; {advice}"
                ) from error
            except duckdb.OutOfMemoryException as error:
                raise TelemetryError(
                    f"telemetry: no answer with {self._options.memory_bytes >> 20} MiB of memory; "
                    f"{advice}, or give it more"
                ) from error
        raise TelemetryError("telemetry: its files change all the time; ask again")

    def days(self) -> Sequence[int]:
        """Return the UTC days that have rows, by their first millisecond.

        Raises:
            TelemetryError: they cannot be read.

        """
        with self._explained("read"), self._database.reading() as connection:
            return days(connection)

    @contextmanager
    def rows_of(self, day_ms: int, batch: int) -> Iterator[Iterator[list[Row]]]:
        """Give the rows of a day, at the finest resolution that is kept of it, in one order.

        Raises:
            TelemetryError: they cannot be read.

        """
        with self._explained("read"), self._database.reading() as connection:
            yield rows_of(connection, self._files, day_ms, batch)

    def tend(self, now_ms: int) -> None:
        """Do what is due: retention, compaction, merging; look after damaged files.

        Raises:
            TelemetryError: it could not be done; it is tried again.

        """
        with self._tending, self._noted("tended"):
            self._files.sweep()
            self._files.check()
            expire(self._database, self._files, self._options, now_ms)
            require_room(self._folder, self._options.free_bytes)
            compact(self._database, self._files, self._options, now_ms)
            merge(self._database, self._files, self._options, now_ms)

    def findings(self) -> Sequence[Finding]:
        """Return how the store is, for health, log and metrics."""
        figures = {"misfits": float(self._writer.misfits)}
        try:
            with self._explained("read"), self._database.reading() as connection:
                figures |= counts(connection, self._folder)
                damaged = read_list(connection, "damage IS NOT NULL")
        except TelemetryError as error:
            return findings([], {**self._troubles, "read": str(error)}, figures)
        return findings(damaged, self._troubles, figures)

    def counts(self) -> Mapping[str, float]:
        """Return figures for metrics by name, fewer if the database cannot be read."""
        figures = {"misfits": float(self._writer.misfits)}
        with (
            contextlib.suppress(TelemetryError),
            self._explained("counted"),
            self._database.reading() as connection,
        ):
            figures |= counts(connection, self._folder)
        return figures

    def close(self) -> None:
        """Let go of everything; what was written is safe."""
        self._database.close()

    def _attempt(self, question: Question, ends: float) -> Answer | None:
        """Answer it, or set aside what could not be read and return None."""
        files: list[File] = []
        try:
            with self._database.reading(ends - time.monotonic()) as connection:
                inquiry = Inquiry(connection, self._files, question)
                files = inquiry.files
                suspects = self._files.unsound(files)
                if not suspects:
                    return inquiry.answer()
        except (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb.FatalException):
            raise
        except duckdb.Error:
            if not self._files.examine(files, ends - time.monotonic()):
                raise
        else:
            self._files.examine(suspects, ends - time.monotonic())
        return None

    @contextmanager
    def _noted(self, done: str) -> Iterator[None]:
        try:
            with self._explained(done):
                yield
        except TelemetryError as error:
            self._troubles[done] = str(error)
            raise
        self._troubles.pop(done, None)

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            raise TelemetryError(f"telemetry: not {done}: {first_line(error)}") from error
