"""A little fleet whose every row is known, and what an embedded store holds of it."""

from collections import Counter
from collections.abc import Sequence

import duckdb
from msgspec.structs import replace

from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Part, Place, Row
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_schema import FROM_HOT, FROM_PARQUET, Resolution

T0 = 1_790_035_200_000
"""A UTC midnight."""
PLACES = tuple(
    Place("c", f"n{node}", f"gpu/GPU-{node}", "gpu", f"GPU-{node}", "0", "H100", "nvml")
    for node in range(1, 5)
)


def row(number: int, at_ms: int | None = None) -> Row:
    """Return row `number`: 10 s of one of four meters, one every ten minutes, told by its energy.

    Every third has two holders.
    """
    start_ms = T0 + number * 600_000 if at_ms is None else at_ms
    uj = 1000 + number
    job = Part("workload", "slurm", str(number // 200), T0, 0, 10_000, uj, 0)
    parts: Sequence[Part] = (job,)
    if number % 3 == 0:
        parts = (
            replace(job, uj=600, to_ms=6000),
            Part("idle", "", "", 0, 6000, 10_000, uj - 600, 0),
        )
    spread = Spread(number, number + 1, number + 2)
    stats = Stats(spread, spread, spread, spread, spread, number % 10_000)
    return Row(
        PLACES[number % 4], start_ms, start_ms + 10_000, 10_000, uj, "counter", False, parts, stats
    )


def held(store: DuckStore, resolution: Resolution) -> list[tuple[int, int, int]]:
    """Return (end, energy, windows) of all that a store has in a resolution, or in no file yet."""
    columns = "SELECT end_ms, energy_uj, windows"
    with store._database.reading() as connection:
        found = connection.execute(f"{columns} FROM ({FROM_HOT})").fetchall()
        if files := _files(store, connection, resolution):
            found += connection.execute(
                f"{columns} FROM ({FROM_PARQUET})", {"files": files}
            ).fetchall()
    return sorted(found)


def _files(
    store: DuckStore, connection: duckdb.DuckDBPyConnection, resolution: Resolution
) -> list[str]:
    listed = connection.execute("SELECT path FROM file WHERE resolution_ms = ?", [resolution])
    return [str(store._files.folder / path) for (path,) in listed.fetchall()]


def energy_by_holder(store: DuckStore, resolution: Resolution) -> Counter[tuple[object, ...]]:
    """Return the energy and idle energy of each holder in each hour and meter, from files alone."""
    found: Counter[tuple[object, ...]] = Counter()
    with store._database.reading() as connection:
        for hour, place, single, shares, uj, idle_uj in connection.execute(
            "SELECT (end_ms - 1) // 3600000, place, (account, manager, workload, birth_ms), "
            f"shares, energy_uj, idle_uj FROM ({FROM_PARQUET})",
            {"files": _files(store, connection, resolution)},
        ).fetchall():
            parts = [(*single, uj, idle_uj)] if shares is None else []
            for part in shares or ():
                names = ("account", "manager", "workload", "birth_ms", "uj", "idle_uj")
                parts.append(tuple(part[name] for name in names))
            for *holder, part_uj, part_idle_uj in parts:
                found[hour, place, *holder, "all"] += part_uj
                found[hour, place, *holder, "idle"] += part_idle_uj
    return found
