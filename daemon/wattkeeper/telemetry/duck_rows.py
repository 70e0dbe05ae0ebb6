"""Rows as a table of Arrow, the way by which many of them enter DuckDB at once."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from msgspec.structs import asdict, astuple, replace

from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Cursor, Part, Place, Row
from wattkeeper.telemetry.duck_schema import LABELS, PART, ROW, SPREADS

_ARROW: dict[str, pa.DataType] = {
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
}
_PART = pa.struct([(name, _ARROW[kind]) for name, kind in PART])
_TYPES = {name: _ARROW.get(kind, pa.list_(_PART)) for name, kind in ROW}
_NOBODY = Part(*[None] * len(PART))  # type: ignore[arg-type]
_NO_STATS = Stats()
_ZERO = Spread(0, 0, 0)
_NO_SPREAD = Spread(*[None] * 3)  # type: ignore[arg-type]


def rows_table(rows: Sequence[Row], numbers: Mapping[Place, int]) -> pa.Table:
    """Return rows as columns of the table `hot`, less `batch`. `numbers`: of all places."""
    parts = [row.parts for row in rows]
    greatest = [of[0] if len(of) == 1 else _greatest(of) for of in parts]
    columns = {
        "place": [numbers[row.place] for row in rows],
        "start_ms": [row.start_ms for row in rows],
        "end_ms": [row.end_ms for row in rows],
        "covered_ms": [row.covered_ms for row in rows],
        "energy_uj": [row.uj for row in rows],
        "idle_uj": [
            of[0].idle_uj if len(of) == 1 else sum(part.idle_uj for part in of) for of in parts
        ],
        "method": [row.method for row in rows],
        "recovered": [row.recovered for row in rows],
        "account": [part.account for part in greatest],
        "manager": [part.manager for part in greatest],
        "workload": [part.workload for part in greatest],
        "birth_ms": [part.birth_ms for part in greatest],
        "shares": [None if _whole(row) else list(map(astuple, row.parts)) for row in rows],
        **_stats_columns([row.stats or _NO_STATS for row in rows]),
    }
    return pa.table({name: pa.array(columns[name], kind) for name, kind in _TYPES.items()})


def _greatest(parts: Sequence[Part]) -> Part:
    return max(parts, key=lambda part: part.uj, default=_NOBODY)


def _whole(row: Row) -> bool:
    """Tell whether the holder's columns say all: there is none, or one from start to end."""
    if len(row.parts) == 1:
        part = row.parts[0]
        return part.from_ms == 0 and part.to_ms == row.end_ms - row.start_ms
    return not row.parts


def _stats_columns(stats: Sequence[Stats]) -> dict[str, Sequence[int | None]]:
    columns: dict[str, Sequence[int | None]] = {
        "throttled_ms": [one.throttled_ms for one in stats],
    }
    for field, (least, mean, greatest) in SPREADS.items():
        spreads: list[Spread] = [getattr(one, field) or _NO_SPREAD for one in stats]
        columns[least] = [spread.least for spread in spreads]
        columns[mean] = [spread.mean for spread in spreads]
        columns[greatest] = [spread.greatest for spread in spreads]
    return columns


def fitting(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Return what of rows fits the columns, and how many things did not.

    A node that counts nonsense must not keep the others' rows out for ever: a statistic that is no
    number of its column is not seen, a row whose energy is none is none.
    """
    kept: list[Row] = []
    misfits = 0
    for row in rows:
        stats = row.stats and _fitting_stats(row.stats)
        misfits += stats != row.stats
        numbers = [row.start_ms, row.end_ms, row.uj]
        numbers += [
            number for part in row.parts for number in (part.birth_ms, part.uj, part.idle_uj)
        ]
        short = [row.covered_ms, *(ms for part in row.parts for ms in (part.from_ms, part.to_ms))]
        if max(map(abs, numbers)) < 1 << 63 and max(map(abs, short)) < 1 << 31:
            kept.append(replace(row, stats=stats))
        else:
            misfits += 1
    return kept, misfits


def _fitting_stats(stats: Stats) -> Stats:
    good = {}
    for name, value in asdict(stats).items():
        bits = 63 if name == "memory_used_bytes" else 31
        numbers = (value,) if isinstance(value, int) else astuple(value or _ZERO)
        good[name] = value if max(map(abs, numbers)) < 1 << bits else None
    return Stats(**good)


def places_table(numbers: Mapping[Place, int]) -> pa.Table:
    """Return places as columns of the table `place`."""
    texts = zip(*numbers, strict=True)
    return pa.table(
        {
            "place": pa.array(numbers.values(), pa.int32()),
            **{name: pa.array(of, pa.string()) for name, of in zip(LABELS, texts, strict=True)},
        }
    )


def cursors_table(cursors: Mapping[str, Cursor]) -> pa.Table:
    """Return cursors as columns of the table `cursor`."""
    return pa.table(
        {
            "journal": pa.array(cursors, pa.string()),
            "seq": pa.array([one.seq for one in cursors.values()], pa.int64()),
            "hash": pa.array([one.hash for one in cursors.values()], pa.binary()),
        }
    )
