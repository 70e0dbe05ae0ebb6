"""Whole rows out of the embedded store again, in the order in which they are carried elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Part, Place, Row
from wattkeeper.telemetry.duck_files import Files, read_list
from wattkeeper.telemetry.duck_retention import horizons
from wattkeeper.telemetry.duck_schema import (
    FROM_HOT,
    FROM_PARQUET,
    HOLDER,
    LABELS,
    PART,
    SPREADS,
    Resolution,
)

_OF_DAY = "WHERE end_ms > $since AND end_ms <= $until"
_SPREAD_COLUMNS = tuple(column for columns in SPREADS.values() for column in columns)
_COLUMNS = (
    *LABELS, "start_ms", "end_ms", "covered_ms", "energy_uj", "idle_uj", "method", "recovered",
    *HOLDER, "shares", *_SPREAD_COLUMNS, "throttled_ms",
)  # fmt: skip


def days(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Return the UTC days that have rows, by their first millisecond.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    query = (
        f"SELECT DISTINCT (end_ms - 1) // {DAY_MS} * {DAY_MS} FROM hot "
        "UNION SELECT day_ms FROM file WHERE damage IS NULL ORDER BY 1"
    )
    return [day_ms for (day_ms,) in connection.execute(query).fetchall()]


def rows_of(
    connection: duckdb.DuckDBPyConnection, files: Files, day_ms: int, batch: int
) -> Iterator[list[Row]]:
    """Yield the rows of a day at the finest resolution that is kept of it, always in one order.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    kept_from = horizons(connection)
    kept = (resolution for resolution in Resolution if day_ms >= kept_from[resolution])
    resolution = next(kept, Resolution.HOUR)
    listed = read_list(
        connection,
        "damage IS NULL AND day_ms = $day AND resolution_ms = $resolution",
        day=day_ms,
        resolution=int(resolution),
    )
    parameters: dict[str, Any] = {"since": day_ms, "until": day_ms + DAY_MS}
    found = f"SELECT * FROM ({FROM_HOT}) {_OF_DAY}"
    if listed:
        found += f" UNION ALL SELECT * FROM ({FROM_PARQUET}) {_OF_DAY}"
        parameters["files"] = files.paths(listed)
    order = "node, meter, place, start_ms, end_ms, energy_uj, method, covered_ms, account, workload"
    query = f"SELECT {', '.join(_COLUMNS)} FROM ({found}) JOIN place USING (place) ORDER BY {order}"
    answered = connection.execute(query, parameters)
    while some := answered.fetchmany(batch):
        yield [_row(dict(zip(_COLUMNS, one, strict=True))) for one in some]


def _row(found: Mapping[str, Any]) -> Row:
    start_ms, end_ms = found["start_ms"], found["end_ms"]
    parts: list[Part] = []
    if found["shares"] is not None:
        parts = [Part(*(one[name] for name, _ in PART)) for one in found["shares"]]
    elif found["account"] is not None:
        figures = (0, end_ms - start_ms, found["energy_uj"], found["idle_uj"])
        parts = [Part(*(*(found[name] for name in HOLDER), *figures))]
    return Row(
        Place(*(found[name] for name in LABELS)),
        start_ms,
        end_ms,
        found["covered_ms"],
        found["energy_uj"],
        found["method"],
        found["recovered"],
        parts,
        _stats(found),
    )


def _stats(found: Mapping[str, Any]) -> Stats | None:
    spreads = {
        field: Spread(*(round(found[column]) for column in columns))
        for field, columns in SPREADS.items()
        if found[columns[0]] is not None
    }
    throttled_ms = found["throttled_ms"]
    if not spreads and throttled_ms is None:
        return None
    return Stats(**spreads, throttled_ms=throttled_ms)
