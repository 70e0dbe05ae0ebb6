"""Old days go, each resolution at its own time, whole files at once."""

import math

import duckdb

from wattkeeper.model.grid import DAY_MS, floor
from wattkeeper.telemetry.duck_database import Database
from wattkeeper.telemetry.duck_files import Files, read_list
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_schema import Resolution


def horizons(connection: duckdb.DuckDBPyConnection) -> dict[Resolution, int]:
    """Return from which day on each resolution is kept, in UTC milliseconds.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    found = dict(connection.execute("SELECT resolution_ms, before_ms FROM horizon").fetchall())
    return {resolution: found.get(resolution, 0) for resolution in Resolution}


def expire(database: Database, files: Files, options: DuckOptions, now_ms: int) -> None:
    """Drop days that are older than their resolution's retention, and remember since when.

    Rows of such a day that come later are kept in the coarser resolutions only.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    for resolution in Resolution:
        kept_ms = options.kept_ms(resolution)
        if math.isinf(kept_ms):
            continue
        before_ms = floor(now_ms - int(kept_ms), DAY_MS)
        with database.writing() as connection:
            if before_ms <= horizons(connection)[resolution]:
                continue
            connection.execute(
                "DELETE FROM horizon WHERE resolution_ms = $resolution",
                {"resolution": resolution},
            )
            connection.execute("INSERT INTO horizon VALUES (?, ?)", [resolution, before_ms])
            these = {"resolution": resolution, "before": before_ms}
            where = "resolution_ms = $resolution AND day_ms < $before"
            old = read_list(connection, where, **these)
            connection.execute(f"DELETE FROM file WHERE {where}", these)
        files.remove(old)
