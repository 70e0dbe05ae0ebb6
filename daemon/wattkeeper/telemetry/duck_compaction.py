"""Rows move from the database into Parquet, in every resolution at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import duckdb

from wattkeeper.model.grid import DAY_MS, floor
from wattkeeper.telemetry.duck_database import Database
from wattkeeper.telemetry.duck_files import File, Files, add_to_list
from wattkeeper.telemetry.duck_folding import fold
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_retention import horizons
from wattkeeper.telemetry.duck_schema import FROM_HOT, FROM_PARQUET, Resolution

_HOUR_MS = 3_600_000
SETTLED_MS = 600_000
"""An hour or a day is over that much after its end: agents deliver within seconds."""
_THESE = "batch <= $batch AND end_ms > $since_ms AND end_ms <= $until_ms"
NODES = "node BETWEEN $first AND $last"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows of one day and some nodes, up to a call of `write`; those that come later stay."""

    batch: int
    since_ms: int
    until_ms: int
    first: str
    last: str

    @property
    def parameters(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def compact(database: Database, files: Files, options: DuckOptions, now_ms: int) -> None:
    """Move what is due. A crash at any instant leaves each row once: here, or in listed files.

    Raises:
        duckdb.Error: as DuckDB says.
        OSError: as the system says.

    """
    with database.reading() as connection:
        pieces = list(_due(connection, options, now_ms))
        kept_from = horizons(connection)
    for piece in pieces:
        _move(database, files, piece, kept_from)
    if pieces:
        with database.writing() as connection:
            connection.execute("UPDATE state SET compacted_ms = $now", {"now": now_ms})


def _due(
    connection: duckdb.DuckDBPyConnection, options: DuckOptions, now_ms: int
) -> Iterator[_Piece]:
    """Yield the pieces of closed days, and of closed hours once they are many."""
    until_ms = floor(now_ms - SETTLED_MS, _HOUR_MS)
    rows = connection.execute(
        "SELECT count(*) FROM hot WHERE end_ms <= $until_ms", {"until_ms": until_ms}
    ).fetchall()[0][0]
    batch, last_ms = connection.execute("SELECT batch, compacted_ms FROM state").fetchall()[0]
    if rows < options.hot_rows:
        # Late rows come in many small calls: they may gather for an hour.
        if last_ms is not None and 0 <= now_ms - last_ms < _HOUR_MS:
            return
        until_ms = floor(until_ms, DAY_MS)
    counts = connection.execute(
        "SELECT (end_ms - 1) // $day * $day AS day_ms, node, count(*) "
        "FROM hot JOIN place USING (place) WHERE batch <= $batch AND end_ms <= $until_ms "
        "GROUP BY ALL ORDER BY ALL",
        {"day": DAY_MS, "batch": batch, "until_ms": until_ms},
    ).fetchall()
    for day_ms in sorted({day_ms for day_ms, _, _ in counts}):
        of_day = [(node, count) for day, node, count in counts if day == day_ms]
        for first, last in node_ranges(of_day, options.piece_rows):
            yield _Piece(batch, day_ms, min(until_ms, day_ms + DAY_MS), first, last)


def node_ranges(counts: list[tuple[str, int]], most: int) -> Iterator[tuple[str, str]]:
    """Cut nodes in their order into ranges of about equally many rows, `most` or little more."""
    total = sum(count for _, count in counts)
    pieces = -(-total // most)
    first, rows, done = counts[0][0], 0, 1
    for (node, count), (following, _) in pairwise([*counts, ("", 0)]):
        rows += count
        if rows >= total * done / pieces and following:
            yield first, node
            first, done = following, done + 1
    yield first, counts[-1][0]


def _move(
    database: Database, files: Files, piece: _Piece, kept_from: dict[Resolution, int]
) -> None:
    rows, parameters = (
        f"{FROM_HOT} JOIN place USING (place) WHERE {_THESE} AND {NODES}",
        piece.parameters,
    )
    written: list[File] = []
    for resolution in Resolution:
        if piece.since_ms < kept_from[resolution]:
            continue
        folded = rows if resolution is Resolution.FULL else fold(rows, resolution)
        written.append(files.write(resolution, piece.since_ms, folded, parameters))
        files.publish(written[-1:])
        if resolution is not Resolution.FULL:  # the next is folded from what is few by now
            rows, parameters = FROM_PARQUET, {"files": files.paths(written[-1:])}
    with database.writing() as connection:
        add_to_list(connection, written)
        connection.execute(
            f"DELETE FROM hot WHERE {_THESE} AND place IN (SELECT place FROM place WHERE {NODES})",
            piece.parameters,
        )
