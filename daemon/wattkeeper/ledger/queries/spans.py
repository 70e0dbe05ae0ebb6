"""What the counters advanced per slot, from the chain of points alone."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.seal import lay, seal, slots


@dataclass(slots=True)
class Measured:
    """One meter's advance: µJ by slot, its last point that was read, what is wrong with them."""

    by_slot: dict[int, int] = field(default_factory=dict)
    n: int = 0
    epoch: int = 0
    at_ms: int = 0
    value_uj: int = 0
    problems: list[str] = field(default_factory=list)


def measure(
    connection: sa.Connection, slot_ms: int, since_ms: int, until_ms: int
) -> dict[int, Measured]:
    """Return the advance of every meter in the slots of [since, until); checks every seal.

    The chain is read from the point before `since` to the one after `until`.
    """
    within = lambda slot: since_ms <= slot < until_ms  # noqa: E731 - bound to the range
    found: dict[int, Measured] = {}
    for meter, rows in groupby(_points(connection, since_ms, until_ms), lambda row: row.meter):
        found[meter] = _walk(rows, slot_ms, within)
    return found


def _points(
    connection: sa.Connection, since_ms: int, until_ms: int
) -> "Iterator[sa.Row[tuple[int, ...]]]":
    point = schema.point.c
    # One more than needed on the left, so that the first point's own seal can be checked.
    before = (
        sa.select(point.meter, (sa.func.max(point.n) - 1).label("n"))
        .where(point.at_ms <= since_ms)
        .group_by(point.meter)
        .subquery()
    )
    # A clock that stepped back, or a clone, leaves later points at earlier times: the first one
    # behind `since` decides.
    behind = (
        sa.select(point.meter, (sa.func.min(point.n) - 2).label("n"))
        .where(point.at_ms > since_ms)
        .group_by(point.meter)
        .subquery()
    )
    begin = sa.func.coalesce(behind.c.n, before.c.n)
    after = (
        sa.select(point.meter, sa.func.max(point.n).label("n"))
        .where(point.at_ms < until_ms)
        .group_by(point.meter)
        .subquery()
    )
    query = (
        sa.select(schema.point)
        .outerjoin(before, before.c.meter == point.meter)
        .outerjoin(behind, behind.c.meter == point.meter)
        .outerjoin(after, after.c.meter == point.meter)
        .where(
            sa.or_(begin.is_(None), point.n >= begin),
            point.n <= sa.func.coalesce(after.c.n, 0) + 1,
        )
        .order_by(point.meter, point.n)
    )
    yield from connection.execute(query)


def _walk(
    rows: "Iterable[sa.Row[tuple[int, ...]]]", slot_ms: int, within: Callable[[int], bool]
) -> Measured:
    measured = Measured()
    sealed: int | None = None
    for row in rows:
        if not all(isinstance(value, int) for value in row):
            measured.problems.append(f"point {row.n} was altered: it is no whole number")
            continue
        first = sealed is None
        if first and row.n == 1:
            sealed = 0
        elif not first and row.n != measured.n + 1:
            measured.problems.append(f"points {measured.n + 1} to {row.n - 1} are missing")
            sealed = None
        elif first and row.n > 1:
            sealed = None
        if sealed is not None:
            digest = seal(sealed, row.n, row.epoch, row.at_ms, row.value_uj)
            if digest != row.seal:
                measured.problems.append(f"point {row.n} was altered")
        sealed = row.seal
        if not first and row.epoch == measured.epoch:
            _add_span(measured, row, slot_ms, within)
        measured.n, measured.epoch = row.n, row.epoch
        measured.at_ms, measured.value_uj = row.at_ms, row.value_uj
    return measured


def _add_span(
    measured: Measured,
    row: "sa.Row[tuple[int, ...]]",
    slot_ms: int,
    within: Callable[[int], bool],
) -> None:
    uj = row.value_uj - measured.value_uj
    if uj < 0:
        measured.problems.append(f"point {row.n} is {-uj} µJ below the one before")
        return
    if uj == 0:
        return
    parts = slots(measured.at_ms, row.at_ms, slot_ms)
    for (slot, _), part in zip(parts, lay([uj], parts)[0], strict=True):
        if within(slot):
            measured.by_slot[slot] = measured.by_slot.get(slot, 0) + part
