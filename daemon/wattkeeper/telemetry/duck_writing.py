"""Rows and cursors go into the database, both or neither."""

import threading
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from wattkeeper.telemetry.base import Cursor, Place, Row
from wattkeeper.telemetry.duck_database import Database
from wattkeeper.telemetry.duck_rows import cursors_table, fitting, places_table, rows_table


class Writer:
    """Writes in batches, and remembers what every batch needs to know of those before it.

    `misfits`: how many values did not fit the columns and were left out.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._opening = 0
        self._batch = 0
        self._numbers: dict[Place, int] = {}
        self._cursors: dict[str, Cursor] = {}
        self.misfits = 0
        with database.reading() as connection:
            self._recall(connection)

    def cursors(self) -> Mapping[str, Cursor]:
        """Return the cursors that are on disk."""
        with self._lock:
            return dict(self._cursors)

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Write in one transaction.

        Raises:
            TelemetryError: the database cannot be opened anew.
            duckdb.Error: nothing was written.

        """
        with self._lock:
            batch, new = self._batch + 1, dict[Place, int]()
            try:
                with self._database.writing() as connection:
                    self._recall(connection)
                    batch, new = self._batch + 1, self._new_places(rows)
                    self._insert(connection, batch, rows, cursors, new)
            except duckdb.FatalException:
                if not self._landed(batch):
                    raise
            self._batch = batch
            self._numbers |= new
            self._cursors |= cursors

    def _recall(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Look at what is on disk if the database was opened since."""
        if self._opening == self._database.openings:
            return
        self._batch = connection.execute("SELECT batch FROM state").fetchall()[0][0]
        self._numbers = {
            Place(*texts): number
            for number, *texts in connection.execute("SELECT * FROM place").fetchall()
        }
        self._cursors = {
            journal: Cursor(seq, hash_)
            for journal, seq, hash_ in connection.execute("SELECT * FROM cursor").fetchall()
        }
        self._opening = self._database.openings

    def _landed(self, batch: int) -> bool:
        """Tell whether a batch is on disk whose commit failed: perhaps only what came after it."""
        with self._database.reading() as connection:
            found: int = connection.execute("SELECT batch FROM state").fetchall()[0][0]
        return found == batch

    def _new_places(self, rows: Sequence[Row]) -> dict[Place, int]:
        places = dict.fromkeys(row.place for row in rows if row.place not in self._numbers)
        return {place: number for number, place in enumerate(places, len(self._numbers) + 1)}

    def _insert(
        self,
        connection: duckdb.DuckDBPyConnection,
        batch: int,
        rows: Sequence[Row],
        cursors: Mapping[str, Cursor],
        new: dict[Place, int],
    ) -> None:
        if rows:
            numbers = self._numbers | new if new else self._numbers
            connection.register("fresh", self._table(rows, numbers))
            connection.execute("INSERT INTO hot SELECT $batch, * FROM fresh", {"batch": batch})
        if new:
            connection.register("fresh", places_table(new))
            connection.execute("INSERT INTO place SELECT * FROM fresh")
        if cursors:
            connection.register("fresh", cursors_table(cursors))
            connection.execute("DELETE FROM cursor WHERE journal IN (SELECT journal FROM fresh)")
            connection.execute("INSERT INTO cursor SELECT * FROM fresh")
        connection.execute("UPDATE state SET batch = $batch", {"batch": batch})

    def _table(self, rows: Sequence[Row], numbers: Mapping[Place, int]) -> pa.Table:
        try:
            return rows_table(rows, numbers)
        except (pa.ArrowInvalid, OverflowError):
            kept, misfits = fitting(rows)
            table = rows_table(kept, numbers)
            self.misfits += misfits
            return table
