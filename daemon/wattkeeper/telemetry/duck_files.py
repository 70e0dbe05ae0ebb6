"""The Parquet files of the history. Valid is what the table `file` lists."""

import contextlib
import datetime as dt
import glob
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.duck_database import FILE, Database, first_line
from wattkeeper.telemetry.duck_disk import fsync
from wattkeeper.telemetry.duck_schema import Resolution, to_parquet

FOLDER = "parquet"
_OURS = re.compile(r"\.?\d{4,}-\d\d-\d\d-[0-9a-f]{12}\.parquet(\.tmp)?")
_FORMAT = (
    "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, DICTIONARY_SIZE_LIMIT 1000, "
    "USE_TMP_FILE false"
)
"""Of the dictionary sizes tried, 1000 gave the smallest files: larger ones keep noisy integers and
the rising times from being packed as differences."""


class File(NamedTuple):
    """A file of the list, as its table has it.

    `path`: below `parquet/`; `from_ms`, `to_ms`: first and last end of its rows, which all belong
    to the UTC day that begins at `day_ms`; `damage`: why it is not read, None if it is.
    """

    path: str
    resolution_ms: int
    day_ms: int
    from_ms: int
    to_ms: int
    first_node: str
    last_node: str
    rows: int
    bytes: int
    damage: str | None = None


class Files:
    """The folder `parquet/` and its list in the database."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder / FOLDER
        self._database = database
        for resolution in Resolution:
            (self.folder / resolution.folder).mkdir(parents=True, exist_ok=True)

    def paths(self, files: Iterable[File]) -> list[str]:
        """Return the paths of files as DuckDB's functions take them."""
        return [glob.escape(str(self.folder / file.path)) for file in files]

    def write(
        self, resolution: Resolution, day_ms: int, rows: str, parameters: Mapping[str, object]
    ) -> File:
        """Write a file from a query of rows: durable, under a name that no reader looks at.

        Raises:
            duckdb.Error: the rows cannot be read, or the disk is full.
            OSError: as the system says.

        """
        day = dt.datetime.fromtimestamp(day_ms / 1000, dt.UTC).date()
        path = f"{resolution.folder}/{day}-{uuid.uuid4().hex[:12]}.parquet"
        hidden = _hidden(self.folder / path)
        try:
            with self._database.reading() as connection:
                connection.execute(
                    f"COPY ({to_parquet(rows)}) TO ($to) ({_FORMAT})",
                    {"to": str(hidden), **parameters},
                )
                from_ms, to_ms, first, last, count = connection.execute(
                    "SELECT min(epoch_ms(end_time)), max(epoch_ms(end_time)), min(node), "
                    "max(node), count(*) FROM read_parquet($file)",
                    {"file": glob.escape(str(hidden))},
                ).fetchall()[0]
            fsync(hidden)
        except (duckdb.Error, OSError):
            hidden.unlink(missing_ok=True)
            raise
        size = hidden.stat().st_size
        return File(path, resolution, day_ms, from_ms, to_ms, first, last, count, size)

    def publish(self, files: Sequence[File]) -> None:
        """Give files their names, durably, for the list to name them next.

        Raises:
            OSError: as the system says.

        """
        for file in files:
            path = self.folder / file.path
            _hidden(path).rename(path)
        for folder in {(self.folder / file.path).parent for file in files}:
            fsync(folder)

    def remove(self, files: Iterable[File]) -> None:
        """Remove files that are no longer listed. What cannot be removed, `sweep` finds."""
        for file in files:
            with contextlib.suppress(OSError):
                (self.folder / file.path).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a crash left: files that were written and not listed, or the reverse.

        Only while no file is being written.
        """
        with self._database.reading() as connection:
            listed = {file.path for file in read_list(connection)}
        for resolution in Resolution:
            for found in (self.folder / resolution.folder).iterdir():
                if f"{resolution.folder}/{found.name}" not in listed and _OURS.fullmatch(
                    found.name
                ):
                    found.unlink(missing_ok=True)

    def unsound(self, files: Iterable[File]) -> list[File]:
        """Return those of listed files that do not stand where they should, in full length."""
        return [file for file in files if self._flaw(file) is not None]

    def check(self) -> None:
        """Set unsound files aside, and take in again those that can be read by now.

        Raises:
            duckdb.Error: the list cannot be read or written.

        """
        with self._database.reading() as connection:
            listed = read_list(connection)
        unsound = set(self.unsound(listed))
        self.examine(file for file in listed if file.damage is not None or file in unsound)

    def _flaw(self, file: File) -> str | None:
        try:
            size = (self.folder / file.path).stat().st_size
        except OSError as error:
            return error.strerror or str(error)
        if size != file.bytes:
            return f"{size} bytes long, not {file.bytes} as it was written"
        return None

    def examine(self, files: Iterable[File], limit_s: float | None = None) -> bool:
        """Read files to the end and set those aside, in the list, that cannot be read.

        Those set aside before are taken in again where they can. Returns whether anything in
        the list changed.

        Raises:
            duckdb.Error: the list cannot be written.

        """
        found = [(file, self._flaw(file) or self._illegible(file, limit_s)) for file in files]
        changed = [(damage, file.path) for file, damage in found if damage != file.damage]
        if changed:
            with self._database.writing() as connection:
                connection.executemany("UPDATE file SET damage = ? WHERE path = ?", changed)
        return bool(changed)

    def _illegible(self, file: File, limit_s: float | None) -> str | None:
        query = "SELECT count(*), max(hash(one)) FROM read_parquet($files) one"
        try:
            with self._database.reading(limit_s) as connection:
                rows = connection.execute(query, {"files": self.paths([file])}).fetchall()[0][0]
        except (duckdb.InterruptException, duckdb.OutOfMemoryException, duckdb.FatalException):
            raise
        except duckdb.Error as error:
            return first_line(error)
        return None if rows == file.rows else f"{rows} rows, not {file.rows} as it was written"


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def require_list(folder: Path) -> None:
    """Refuse to begin a new list where there are files: all would be taken for a crash's leftovers.

    Raises:
        TelemetryError: the database is gone and files are there.

    """
    found = next((folder / FOLDER).glob("*/*.parquet"), None)
    if found is not None and not (folder / FILE).exists():
        raise TelemetryError(
            f"telemetry: {folder / FILE} is gone, which lists the files in {folder / FOLDER}; "
            "restore both from a backup, or move that folder away"
        )


def read_list(
    connection: duckdb.DuckDBPyConnection, where: str = "true", **parameters: Any
) -> list[File]:
    """Return listed files. `where`: a constant condition with `$name` parameters.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    columns = ", ".join(File._fields)
    query = f"SELECT {columns} FROM file WHERE {where} ORDER BY day_ms, path"
    return [File(*row) for row in connection.execute(query, parameters or None).fetchall()]


def add_to_list(connection: duckdb.DuckDBPyConnection, files: Sequence[File]) -> None:
    """List files, in the caller's transaction.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    marks = ", ".join("?" for _ in File._fields)
    for file in files:
        connection.execute(f"INSERT INTO file VALUES ({marks})", file)
