"""The stretches that wait to be settled, or may be settled anew: kept few, and not for ever."""

from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.model.grid import DAY_MS, floor

LONGEST_WAIT_MS = 7 * DAY_MS
"""For how long a stretch waits for a scheduler that does not answer."""
GRANTS_KEPT_MS = 14 * DAY_MS
"""For how long grants are kept after their end: windows of a node may come that late."""
MERGED_AFTER_MS = 3_600_000
"""Stretches that wait for longer are joined within their slot: what waits stays few."""
_LOOKED_BACK_MS = 4 * 3_600_000
_EVENT = "unsettled"


def tidy(connection: sa.Connection, slot_ms: int, now_ms: int, most: int) -> bool:
    """Forget what is over, at most so many rows of each kind. Returns whether there is more."""
    counts = (
        _forget(connection, _over(most)),
        _give_up(connection, now_ms, most),
        _merge(connection, slot_ms, now_ms, most),
        _forget_grants(connection, now_ms, most),
    )
    return most in counts


def _over(most: int) -> "sa.Select[Any]":
    """Stretches whose grants can change no more: the scheduler spoke of later times."""
    idle, meter, node, spoke = schema.idle.c, schema.meter.c, schema.node.c, schema.granting.c
    return (
        sa.select(idle.id)
        .join(schema.meter, meter.id == idle.meter)
        .join(schema.node, node.id == meter.node)
        .where(
            idle.keep_ms < sa.select(sa.func.max(spoke.until_ms)).scalar_subquery(),
            idle.keep_ms < _spoke_until(),
        )
        .limit(most)
    )


def _spoke_until() -> "sa.ScalarSelect[int]":
    """Return up to when a scheduler spoke of the cluster of `node`."""
    spoke = schema.granting.c
    mine = spoke.cluster == schema.node.c.cluster
    return sa.select(sa.func.max(spoke.until_ms)).where(mine).scalar_subquery()


def _forget(connection: sa.Connection, which: "sa.Select[Any]") -> int:
    numbers = [(row.id,) for row in connection.execute(which)]
    for table, column in ((schema.settled, schema.settled.c.idle), (schema.idle, schema.idle.c.id)):
        statement = sa.delete(table).where(column == sa.bindparam("of_id"))
        bulk.execute(connection, statement, ["of_id"], numbers)
    return len(numbers)


def _give_up(connection: sa.Connection, now_ms: int, most: int) -> int:
    """Leave with `idle` what has waited for too long, and say so once in that time.

    What its scheduler has spoken of is not waiting for it, however late its node delivered it.
    """
    idle, meter, event = schema.idle.c, schema.meter.c, schema.event.c
    oldest_ms = now_ms - LONGEST_WAIT_MS
    which = (
        sa.select(idle.id, meter.node)
        .join(schema.meter, meter.id == idle.meter)
        .join(schema.node, schema.node.c.id == meter.node)
        .where(idle.keep_ms.is_(None), idle.to_ms < oldest_ms, idle.to_ms > _spoke_until())
        .order_by(idle.to_ms)
        .limit(most)
    )
    nodes = {row.node for row in connection.execute(which)}
    if not nodes:
        return 0
    told = sa.select(event.node).where(
        event.kind == _EVENT, event.at_ms >= oldest_ms, event.node.in_(nodes)
    )
    detail = "idle energy waited 7 days for the scheduler's word on its GPUs, and stays idle"
    untold = sorted(nodes - set(connection.execute(told).scalars()))
    rows = [(now_ms, node, _EVENT, detail) for node in untold]
    bulk.insert(connection, schema.event, "at_ms node kind detail", rows)
    return _forget(connection, which)


def _merge(connection: sa.Connection, slot_ms: int, now_ms: int, most: int) -> int:
    """Join stretches that follow each other, of slots that have waited for long.

    Only those of which nothing was posted. It costs the edges of grants inside them the exact
    course of power, which is flat at rest.
    """
    idle, settled = schema.idle.c, schema.settled.c
    until_ms = floor(now_ms - MERGED_AFTER_MS, slot_ms)
    slot = idle.from_ms // slot_ms
    key = (idle.meter, idle.gpu, idle.method, idle.policy)
    begin, end = sa.func.min(idle.from_ms), sa.func.max(idle.to_ms)
    posted = sa.exists(sa.select(settled.idle).where(settled.idle == idle.id))
    which = (
        sa.select(
            *key, begin.label("begin"), end.label("end"), sa.func.sum(idle.uj).label("sum_uj")
        )
        .where(
            idle.keep_ms.is_(None),
            idle.to_ms.between(until_ms - _LOOKED_BACK_MS, until_ms),
            ~posted,
        )
        .group_by(*key, slot)
        .having(sa.func.count() > 1, sa.func.sum(idle.to_ms - idle.from_ms) == end - begin)
        .limit(most)
    )
    groups = [tuple(row) for row in connection.execute(which)]
    names = ["of_meter", "of_gpu", "of_method", "of_policy", "begin_ms", "end_ms"]
    statement = sa.delete(schema.idle).where(
        *(column == sa.bindparam(name) for column, name in zip(key, names, strict=False)),
        idle.keep_ms.is_(None),
        idle.from_ms >= sa.bindparam("begin_ms"),
        idle.to_ms <= sa.bindparam("end_ms"),
    )
    bulk.execute(connection, statement, names, [group[:-1] for group in groups])
    columns = "meter gpu method policy from_ms to_ms uj"
    bulk.insert(connection, schema.idle, columns, groups)
    return len(groups)


def _forget_grants(connection: sa.Connection, now_ms: int, most: int) -> int:
    table = schema.granted.c
    oldest_ms = now_ms - GRANTS_KEPT_MS
    over = sa.func.coalesce(table.to_ms, table.seen_ms) < oldest_ms
    which = sa.select(table.id).where(table.seen_ms < oldest_ms, over).limit(most)
    numbers = [(row.id,) for row in connection.execute(which)]
    statement = sa.delete(schema.granted).where(table.id == sa.bindparam("of_id"))
    bulk.execute(connection, statement, ["of_id"], numbers)
    return len(numbers)
