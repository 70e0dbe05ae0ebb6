"""Double entry: postings against their daily sums, coverage against its own."""

import functools
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.sums import UNIT
from wattkeeper.model.grid import DAY_MS


def differing_days(connection: sa.Connection, since_ms: int, until_ms: int) -> dict[int, list[str]]:
    """Return, by meter, what differs in the days that [since, until) touches."""
    first, last = since_ms // DAY_MS, (until_ms - 1) // DAY_MS
    days = {
        "first": first,
        "last": last,
        "from_ms": first * DAY_MS,
        "to_ms": (last + 1) * DAY_MS - 1,
    }
    found: dict[int, list[str]] = {}
    for query, what in (
        (_postings(), "postings differ from their daily sums"),
        (_coverage(), "coverage differs from its daily sums"),
    ):
        for row in connection.execute(query, days):
            found.setdefault(row.meter, []).append(f"{what} on day {_day(row.day)}")
    return found


# To put these together takes longer than a small ledger takes to answer them.
_IN_DAYS = sa.bindparam("first", type_=sa.BigInteger), sa.bindparam("last", type_=sa.BigInteger)
_IN_TIME = sa.bindparam("from_ms", type_=sa.BigInteger), sa.bindparam("to_ms", type_=sa.BigInteger)


@functools.cache
def _postings() -> "sa.Select[Any]":
    posting, rollup = schema.posting.c, schema.rollup.c
    day = (posting.slot // DAY_MS).label("day")
    sums = ("uj", "ms", "idle_uj", "idle_ms")
    figures = ("holder", "method", "split", "policy", *sums, "peak_mw", "to_ms")
    booked = sa.select(
        posting.meter, day, *(posting[name] for name in figures), sa.literal(1).label("side")
    ).where(posting.slot.between(*_IN_TIME))
    summed = sa.select(
        rollup.meter, rollup.day, *(rollup[name] for name in figures), sa.literal(-1).label("side")
    ).where(rollup.day.between(*_IN_DAYS))
    both = sa.union_all(booked, summed).subquery().c
    wrong = sa.or_(
        *(_differ(both.side, both[name]) for name in sums),
        _most_differ(both.side, both.peak_mw),
        _most_differ(both.side, both.to_ms),
    )
    per_key = (
        sa.select(both.meter, both.day)
        .group_by(both.meter, both.day, both.holder, both.method, both.split, both.policy)
        .having(wrong)
        .subquery()
    )
    return sa.select(per_key.c.meter, per_key.c.day).distinct().order_by(*per_key.c)


@functools.cache
def _coverage() -> "sa.Select[Any]":
    slot, day = schema.coverage.c, schema.coverage_day.c
    figures = ("covered_ms", "unmeasured_ms", "held_ms")
    by_slot = sa.select(
        slot.meter,
        (slot.slot // DAY_MS).label("day"),
        *(slot[name] for name in figures),
        sa.literal(1).label("side"),
    ).where(slot.slot.between(*_IN_TIME))
    by_day = sa.select(
        day.meter, day.day, *(day[name] for name in figures), sa.literal(-1).label("side")
    ).where(day.day.between(*_IN_DAYS))
    both = sa.union_all(by_slot, by_day).subquery().c
    return (
        sa.select(both.meter, both.day)
        .group_by(both.meter, both.day)
        .having(
            sa.or_(
                *(_differ(both.side, both[name]) for name in figures),
                sa.func.min(both.side) == 1,
                sa.func.max(both.side) == -1,
            )
        )
        .order_by(both.meter, both.day)
    )


def _differ(side: Any, figure: Any) -> "sa.ColumnElement[bool]":
    high = sa.func.sum(side * (figure // UNIT))
    low = sa.func.sum(side * (figure % UNIT))
    differs: sa.ColumnElement[bool] = high * UNIT + low != 0
    return differs


def _most_differ(side: Any, figure: Any) -> "sa.ColumnElement[bool]":
    booked = sa.func.max(sa.case((side == 1, figure), else_=-1))
    summed = sa.func.max(sa.case((side == -1, figure), else_=-1))
    differs: sa.ColumnElement[bool] = booked != summed
    return differs


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * DAY_MS // 1000, UTC).date().isoformat()
