"""Rows become fewer: those of one meter in the same stretch are summed into one."""

from wattkeeper.telemetry.duck_schema import (
    GREATEST,
    HOLDER,
    LEAST,
    MEAN,
    PART,
    SPREADS,
    Resolution,
)

_KEY = "bucket, place, method, recovered, seen"
"""`seen`: which statistics the rows have, so that `windows` weighs each of a row's means right."""
_SEEN = " + ".join(
    f"({name} IS NOT NULL)::INTEGER * {1 << bit}"
    for bit, name in enumerate((*(spread[1] for spread in SPREADS.values()), "throttled_ms"))
)
_SPREADS = ", ".join(
    [
        *(f"min({name}) AS {name}" for name in LEAST),
        *(f"sum({name}::DOUBLE * windows) / sum(windows) AS {name}" for name in MEAN),
        *(f"max({name}) AS {name}" for name in GREATEST),
    ]
)
_PART = ", ".join(f"{name} := {name}" for name, _ in PART)


def parts_of(rows: str, columns: str) -> str:
    """Return the query of the parts of rows (a named query that has the rows' columns).

    It has the rows' `columns`, the holder, `since_ms`, `until_ms`, `uj` and `idle_uj`.
    """
    return f"""
        SELECT {columns}, {", ".join(HOLDER)}, start_ms AS since_ms, end_ms AS until_ms,
            energy_uj AS uj, idle_uj
        FROM {rows} WHERE shares IS NULL AND account IS NOT NULL
        UNION ALL
        SELECT {columns}, {", ".join(f"part.{name}" for name in HOLDER)},
            start_ms + part.from_ms, start_ms + part.to_ms, part.uj, part.idle_uj
        FROM (SELECT {columns}, start_ms, unnest(shares) AS part FROM {rows})
    """


def fold(rows: str, resolution: Resolution) -> str:
    """Return the query that folds rows (a query of the columns of `FROM_HOT`) into stretches.

    Exact: energy, covered and throttled time and each holder's parts are sums, least and greatest
    stay so, means are weighed by `windows`. What is folded can be folded again, with more rows
    of the same stretch as well.
    """
    return f"""
        WITH fine AS (
            SELECT *, (end_ms - 1) // {resolution:d} AS bucket, {_SEEN} AS seen FROM ({rows})
        ),
        parts AS ({parts_of("fine", _KEY)}),
        held AS (
            SELECT {_KEY}, {", ".join(HOLDER)},
                (min(since_ms) - bucket * {resolution:d})::INTEGER AS from_ms,
                (max(until_ms) - bucket * {resolution:d})::INTEGER AS to_ms,
                sum(uj)::BIGINT AS uj, sum(idle_uj)::BIGINT AS idle_uj
            FROM parts GROUP BY {_KEY}, {", ".join(HOLDER)}
        ),
        shared AS (
            SELECT {_KEY}, list(
                struct_pack({_PART}) ORDER BY uj DESC, {", ".join(HOLDER)}
            ) AS shares
            FROM held GROUP BY {_KEY}
        ),
        summed AS (
            SELECT {_KEY}, sum(covered_ms)::INTEGER AS covered_ms,
                sum(energy_uj)::BIGINT AS energy_uj, sum(idle_uj)::BIGINT AS idle_uj, {_SPREADS},
                sum(throttled_ms)::INTEGER AS throttled_ms, sum(windows)::INTEGER AS windows
            FROM fine GROUP BY {_KEY}
        )
        SELECT summed.*, bucket * {resolution:d} AS start_ms,
            (bucket + 1) * {resolution:d} AS end_ms,
            {", ".join(f"shares[1].{name} AS {name}" for name in HOLDER)},
            CASE WHEN len(shares) = 1 AND shares[1].from_ms = 0
                AND shares[1].to_ms = {resolution:d} THEN NULL ELSE shares END AS shares
        FROM summed LEFT JOIN shared USING ({_KEY})
    """
