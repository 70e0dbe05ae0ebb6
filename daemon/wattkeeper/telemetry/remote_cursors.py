"""How far journals were taken, on disk: a remote engine cannot say it."""

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from wattkeeper.telemetry.base import Cursor, TelemetryError

_VERSION = 1


class Cursors(Protocol):
    """Where cursors are kept. Called in threads, by one at a time."""

    def read(self) -> Mapping[str, Cursor]:
        """Return all, by the journal's name.

        Raises:
            TelemetryError: they cannot be read.

        """

    def move(self, cursors: Mapping[str, Cursor]) -> None:
        """Put these on disk, all or none.

        Raises:
            TelemetryError: they are not on disk.

        """

    def close(self) -> None:
        """Let go of it."""


class SqliteCursors:
    """Cursors in a small database of their own.

    Raises:
        TelemetryError: it cannot be opened, or is of a newer version.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise TelemetryError(f"telemetry: cannot open {path}: {error}") from error
        try:
            self._prepare()
        except (sqlite3.Error, TelemetryError) as error:
            self._database.close()
            if isinstance(error, TelemetryError):
                raise
            raise TelemetryError(f"telemetry: cannot open {path}: {error}") from error

    def read(self) -> Mapping[str, Cursor]:
        """Return all, by the journal's name."""
        with self._lock:
            try:
                found = self._database.execute("SELECT journal, seq, hash FROM cursor").fetchall()
            except sqlite3.Error as error:
                raise TelemetryError(f"telemetry: cannot read {self._path}: {error}") from error
        return {journal: Cursor(seq, digest) for journal, seq, digest in found}

    def move(self, cursors: Mapping[str, Cursor]) -> None:
        """Put these on disk, all or none."""
        if not cursors:
            return
        with self._lock:
            try:
                with self._database:
                    self._database.execute("BEGIN IMMEDIATE")
                    self._database.executemany(
                        "INSERT INTO cursor VALUES (?, ?, ?) ON CONFLICT (journal) "
                        "DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
                        [(name, cursor.seq, cursor.hash) for name, cursor in cursors.items()],
                    )
            except sqlite3.Error as error:
                raise TelemetryError(
                    f"telemetry: {self._path} does not take the cursors: {error}; is the disk full "
                    "or read-only?"
                ) from error

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        self._database.execute("PRAGMA synchronous = FULL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise TelemetryError(
                f"telemetry: {self._path} is of a newer version of Wattkeeper ({version}); start "
                "that one, or move the file away: journals are then sent from their beginnings"
            )
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS cursor (journal TEXT PRIMARY KEY NOT NULL, "
                "seq INTEGER NOT NULL, hash BLOB NOT NULL) WITHOUT ROWID"
            )
            self._database.execute(f"PRAGMA user_version = {_VERSION}")
