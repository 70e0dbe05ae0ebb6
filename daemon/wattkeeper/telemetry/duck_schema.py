"""The columns of the history, in the database and in files; docs/telemetry.md explains them."""

import enum

VERSION = 1
"""Of the tables below. A newer program may add to them; an older one does not open them."""


class Resolution(enum.IntEnum):
    """How long the stretches are that rows stand for, in milliseconds. FULL: as delivered."""

    FULL = 0
    FIVE_MINUTES = 300_000
    HOUR = 3_600_000

    @property
    def folder(self) -> str:
        """Name of its folder below `parquet/`."""
        return {0: "full", 300_000: "5m", 3_600_000: "1h"}[self]


LABELS = ("cluster", "node", "meter", "component", "device", "gpu", "model", "source")
"""Texts of a meter, in the order of `Place`."""

_SPREADS = (
    ("power", "mw", "INTEGER"),
    ("temperature", "mc", "INTEGER"),
    ("utilization", "ppm", "INTEGER"),
    ("memory_used", "bytes", "BIGINT"),
    ("clock", "khz", "INTEGER"),
)
"""Quantity, unit and type of what has a least, a mean and a greatest value."""
LEAST = tuple(f"{name}_min_{unit}" for name, unit, _ in _SPREADS)
MEAN = tuple(f"{name}_mean_{unit}" for name, unit, _ in _SPREADS)
GREATEST = tuple(f"{name}_max_{unit}" for name, unit, _ in _SPREADS)
SPREADS = {
    f"{name}_{unit}": (f"{name}_min_{unit}", f"{name}_mean_{unit}", f"{name}_max_{unit}")
    for name, unit, _ in _SPREADS
}
"""Field of `Stats` -> its three columns."""

PART = (
    ("account", "VARCHAR"),
    ("manager", "VARCHAR"),
    ("workload", "VARCHAR"),
    ("birth_ms", "BIGINT"),
    ("from_ms", "INTEGER"),
    ("to_ms", "INTEGER"),
    ("uj", "BIGINT"),
    ("idle_uj", "BIGINT"),
)
"""Fields and types of a part, in the order of `Part`."""
HOLDER = ("account", "manager", "workload", "birth_ms")
"""Columns that name the holder of the greatest part."""

ROW = (
    ("place", "INTEGER"),
    ("start_ms", "BIGINT"),
    ("end_ms", "BIGINT"),
    ("covered_ms", "INTEGER"),
    ("energy_uj", "BIGINT"),
    ("idle_uj", "BIGINT"),
    ("method", "VARCHAR"),
    ("recovered", "BOOLEAN"),
    *((name, kind) for name, kind in PART if name in HOLDER),
    ("shares", f"STRUCT({', '.join(' '.join(field) for field in PART)})[]"),
    *(
        (f"{name}_{part}_{unit}", kind)
        for name, unit, kind in _SPREADS
        for part in ("min", "mean", "max")
    ),
    ("throttled_ms", "INTEGER"),
)
"""Columns and types of a row that is not in Parquet yet."""

_KEPT = tuple(name for name, _ in ROW if name not in {"place", "start_ms", "end_ms"})
FROM_HOT = f"SELECT {', '.join(name for name, _ in ROW)}, 1 AS windows FROM hot"
FROM_PARQUET = (
    "SELECT place, epoch_ms(start_time) AS start_ms, epoch_ms(end_time) AS end_ms, "
    f"{', '.join(_KEPT)}, windows FROM read_parquet($files)"
)
"""The same columns from either side."""


def to_parquet(rows: str) -> str:
    """Return the query that lays rows (a query of those columns) out as they stand in a file.

    Sorted narrow and named afterwards: a join keeps the order of its larger side.
    """
    return f"""
        SELECT {", ".join(LABELS)}, place,
            make_timestamp_ms(start_ms)::TIMESTAMPTZ AS start_time,
            make_timestamp_ms(end_ms)::TIMESTAMPTZ AS end_time,
            {", ".join(_KEPT)}, windows::INTEGER AS windows
        FROM (
            SELECT fresh.* FROM ({rows}) fresh JOIN (
                SELECT place, row_number() OVER (ORDER BY node, meter, place) AS rank FROM place
            ) USING (place) ORDER BY rank, start_ms
        ) JOIN place USING (place)
    """


TABLES = f"""
CREATE TABLE state (version INTEGER, batch BIGINT, compacted_ms BIGINT);
INSERT INTO state VALUES ({VERSION}, 0, NULL);
CREATE TABLE horizon (resolution_ms BIGINT, before_ms BIGINT);
CREATE TABLE cursor (journal VARCHAR, seq BIGINT, hash BLOB);
CREATE TABLE place (place INTEGER, {", ".join(f"{name} VARCHAR" for name in LABELS)});
CREATE TABLE hot (batch BIGINT, {", ".join(" ".join(column) for column in ROW)});
CREATE TABLE file (
    path VARCHAR, resolution_ms BIGINT, day_ms BIGINT, from_ms BIGINT, to_ms BIGINT,
    first_node VARCHAR, last_node VARCHAR, rows BIGINT, bytes BIGINT, damage VARCHAR
);
"""
"""`batch` numbers the calls of `write`. No keys: an index costs at every write and finds nothing
that a scan of these few rows does not."""
