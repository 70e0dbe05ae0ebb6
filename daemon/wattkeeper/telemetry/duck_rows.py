"""Rows as a table of Arrow, the way by which many of them enter DuckDB at once."""

from collections.abc import Mapping, Sequence

import msgspec
import pyarrow as pa

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
    fields = list(zip(*rows, strict=True)) or [()] * len(Row._fields)
    places, start, end, covered, uj, method, recovered, parts, stats = fields
    greatest = [one[0] if len(one) == 1 else _greatest(one) for one in parts]
    account, manager, workload, birth, *_ = list(zip(*greatest, strict=True)) or [()] * len(PART)
    columns = {
        "place": [numbers[place] for place in places],
        "start_ms": start,
        "end_ms": end,
        "covered_ms": covered,
        "energy_uj": uj,
        "idle_uj": [one[0][7] if len(one) == 1 else sum(p[7] for p in one) for one in parts],
        "method": method,
        "recovered": recovered,
        "account": account,
        "manager": manager,
        "workload": workload,
        "birth_ms": birth,
        "shares": [None if _whole(*row) else row[0] for row in zip(parts, start, end, strict=True)],
        **_stats_columns([one or _NO_STATS for one in stats]),
    }
    return pa.table({name: pa.array(columns[name], kind) for name, kind in _TYPES.items()})


def _greatest(parts: Sequence[Part]) -> Part:
    return max(parts, key=lambda part: part.uj, default=_NOBODY)


def _whole(parts: Sequence[Part], start_ms: int, end_ms: int) -> bool:
    """Tell whether the holder's columns say all: there is none, or one from start to end."""
    if len(parts) == 1:
        return parts[0][4] == 0 and parts[0][5] == end_ms - start_ms
    return not parts


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
            kept.append(row._replace(stats=stats))
        else:
            misfits += 1
    return kept, misfits


def _fitting_stats(stats: Stats) -> Stats:
    good = {}
    for name, value in msgspec.structs.asdict(stats).items():
        bits = 63 if name == "memory_used_bytes" else 31
        numbers = (value,) if isinstance(value, int) else msgspec.structs.astuple(value or _ZERO)
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
