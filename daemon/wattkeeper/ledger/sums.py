"""Exact sums of microjoules beyond 64 bits.

SQLite's SUM raises at 2^63 µJ (2.56 GWh): a fleet's year is a thousand times that.
"""

from typing import Any

import sqlalchemy as sa

UNIT = 1_000_000_000


def parts(column: "sa.ColumnElement[int]", name: str = "uj") -> "list[sa.Label[Any]]":
    """Return the two columns, `<name>_high` and `<name>_low`, that `whole` joins."""
    return [
        sa.func.sum(column // UNIT).label(f"{name}_high"),
        sa.func.sum(column % UNIT).label(f"{name}_low"),
    ]


def whole(high: int | None, low: int | None) -> int:
    """Join the two sums; 0 where nothing was summed."""
    return int(high or 0) * UNIT + int(low or 0)
