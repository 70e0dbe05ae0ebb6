"""Small Parquet files of one day become few, sorted and summed anew."""

from collections import defaultdict

import duckdb

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.duck_compaction import NODES, node_ranges
from wattkeeper.telemetry.duck_database import Database
from wattkeeper.telemetry.duck_files import File, Files, add_to_list, read_list
from wattkeeper.telemetry.duck_folding import fold
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_schema import FROM_PARQUET, Resolution

_SMALL_FILES = 8
"""So many of one day and resolution are merged."""
_OLD_MS = 2 * DAY_MS
"""Of days that began so long ago, all small ones are."""


def merge(database: Database, files: Files, options: DuckOptions, now_ms: int) -> None:
    """Merge what is due. A crash at any instant leaves the old files listed, or the new ones.

    Raises:
        duckdb.Error: as DuckDB says.
        OSError: as the system says.

    """
    small: dict[tuple[int, int], list[File]] = defaultdict(list)
    with database.reading() as connection:
        for file in read_list(
            connection, "damage IS NULL AND rows < $most", most=options.piece_rows // 2
        ):
            small[file.resolution_ms, file.day_ms].append(file)
    for (resolution_ms, day_ms), of_day in small.items():
        most = 2 if day_ms < now_ms - _OLD_MS else _SMALL_FILES
        if len(of_day) < most:
            continue
        try:
            _merge(database, files, of_day, Resolution(resolution_ms), options.piece_rows)
        except (duckdb.OutOfMemoryException, duckdb.FatalException):
            raise
        except duckdb.Error:
            if not files.examine(of_day):
                raise  # else the others are merged next time


def _merge(
    database: Database, files: Files, old: list[File], resolution: Resolution, most: int
) -> None:
    rows = f"{FROM_PARQUET} WHERE {NODES}"
    if resolution is not Resolution.FULL:
        rows = fold(rows, resolution)
    parameters = {"files": files.paths(old)}
    with database.reading() as connection:
        counts = connection.execute(
            "SELECT node, count(*) FROM read_parquet($files) GROUP BY node ORDER BY node",
            parameters,
        ).fetchall()
    new = [
        files.write(resolution, old[0].day_ms, rows, {**parameters, "first": first, "last": last})
        for first, last in node_ranges(counts, most)
    ]
    files.publish(new)  # for those who read the folder, close to the removal of the old ones
    with database.writing() as connection:
        add_to_list(connection, new)
        connection.execute(
            "DELETE FROM file WHERE path IN (SELECT unnest($paths))",
            {"paths": [file.path for file in old]},
        )
    files.remove(old)
