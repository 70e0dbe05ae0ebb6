"""How the embedded store is: for doctor, log and metrics."""

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb

from wattkeeper.model.state import Finding, State
from wattkeeper.telemetry.duck_database import FILE
from wattkeeper.telemetry.duck_files import FOLDER, File, read_list
from wattkeeper.telemetry.duck_schema import Resolution

_MOST = 10
"""So many damaged files are told one by one."""


def counts(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, float]:
    """Return what lies where. `oldest_ms` and `compacted_ms` only if there is such a time.

    Raises:
        duckdb.Error: as DuckDB says.

    """
    rows, oldest_ms = connection.execute("SELECT count(*), min(end_ms) FROM hot").fetchall()[0]
    compacted_ms = connection.execute("SELECT compacted_ms FROM state").fetchall()[0][0]
    listed = read_list(connection)
    found = {"hot_rows": float(rows), "database_bytes": float(_size(folder))}
    for resolution in Resolution:
        of_it = [file for file in listed if file.resolution_ms == resolution]
        found[f"{resolution.folder}_files"] = len(of_it)
        found[f"{resolution.folder}_rows"] = sum(file.rows for file in of_it)
        found[f"{resolution.folder}_bytes"] = sum(file.bytes for file in of_it)
    found["damaged_files"] = sum(file.damage is not None for file in listed)
    times = [oldest_ms, *(file.from_ms for file in listed)]
    oldest_ms = min((at for at in times if at is not None), default=None)
    if oldest_ms is not None:
        found["oldest_ms"] = oldest_ms
    if compacted_ms is not None:
        found["compacted_ms"] = compacted_ms
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{FILE}*"))


def findings(
    files: Iterable[File], troubles: Mapping[str, str], figures: Mapping[str, float]
) -> list[Finding]:
    """Return what is wrong, or that nothing is. `troubles`: what is failing now -> why."""
    found = [Finding("telemetry", State.FAILING, why) for why in troubles.values()]
    damaged = [file for file in files if file.damage is not None]
    found += [_damage(file) for file in damaged[:_MOST]]
    if len(damaged) > _MOST:
        rest = f"{len(damaged) - _MOST} more files are not read"
        found.append(Finding(f"telemetry/{FOLDER}", State.FAILING, rest, _RESTORE))
    return found or [Finding("telemetry", State.OK, _sizes(figures))]


_RESTORE = "put them back from a backup: they are read again within a minute"


def _damage(file: File) -> Finding:
    first, last = _day(file.from_ms), _day(file.to_ms)
    return Finding(
        f"telemetry/{FOLDER}/{file.path}",
        State.FAILING,
        f"not read: {file.damage}; missing are {file.rows} rows from {first} to {last} UTC of the "
        f"nodes {file.first_node} to {file.last_node}",
        _RESTORE,
    )


def _day(ms: float) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _sizes(figures: Mapping[str, float]) -> str:
    rows = figures["hot_rows"] + figures["full_rows"]
    size = sum(value for name, value in figures.items() if name.endswith("_bytes"))
    misfits = figures["misfits"]
    less = f"; {misfits:g} impossible values of agents were left out" if misfits else ""
    since = f" since {_day(figures['oldest_ms'])} UTC" if "oldest_ms" in figures else ""
    return f"{rows:.0f} rows at full resolution, {size / 1e6:.1f} MB in all{since}{less}"
