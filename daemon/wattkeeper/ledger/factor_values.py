"""Factors that were fetched, kept so that what is computed again is computed by the same ones."""

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.store import Ledger

_factor = schema.factor


class FactorValue(NamedTuple):
    """A rate in billionths of its unit, in force from an instant on (UTC milliseconds)."""

    at_ms: int
    rate: int
    estimated: bool
    source: str


def keep_factor(
    ledger: Ledger, name: str, unit: str, values: Iterable[FactorValue], now_ms: int
) -> int:
    """Keep values that are new, and those that were measured meanwhile; return how many.

    What was once told as measured never changes, nor does an estimate become another one.

    Raises:
        LeaseLostError: another aggregator fetches now.
        LedgerError: they cannot be written.

    """
    fetched = {value.at_ms: value for value in values}
    if not fetched:
        return 0
    own = (_factor.c.name == name, _factor.c.unit == unit)
    fresh: list[bulk.Row] = []
    measured: list[FactorValue] = []
    with ledger.leading() as connection:
        query = sa.select(_factor.c.at_ms, _factor.c.estimated).where(
            *own, _factor.c.at_ms.between(min(fetched), max(fetched))
        )
        known = {row.at_ms: row.estimated for row in connection.execute(query)}
        for value in fetched.values():
            if value.at_ms not in known:
                fresh.append((name, unit, *value[:2], int(value.estimated), value.source, now_ms))
            elif known[value.at_ms] and not value.estimated:
                measured.append(value)
        columns = "name unit at_ms rate estimated source fetched_ms"
        bulk.insert(connection, _factor, columns, fresh)
        for value in measured:
            change = {"rate": value.rate, "source": value.source, "fetched_ms": now_ms}
            connection.execute(
                sa.update(_factor)
                .where(*own, _factor.c.at_ms == value.at_ms)
                .values(estimated=0, **change)
            )
    return len(fresh) + len(measured)


def kept_factor(
    ledger: Ledger, name: str, unit: str, since_ms: int, until_ms: int
) -> list[FactorValue]:
    """Return what is known of [since, until): with the value before it, or the next one after it.

    In the order of time; empty if nothing was ever fetched.
    """
    at_ms = _factor.c.at_ms
    own = (_factor.c.name == name, _factor.c.unit == unit)
    columns = (at_ms, _factor.c.rate, _factor.c.estimated, _factor.c.source)
    with ledger.reading() as connection:
        before = connection.scalar(sa.select(sa.func.max(at_ms)).where(*own, at_ms <= since_ms))
        begin = since_ms if before is None else before
        inside = sa.select(*columns).where(*own, at_ms >= begin, at_ms < until_ms)
        found = connection.execute(inside.order_by(at_ms)).all()
        if not found:
            later = sa.select(*columns).where(*own, at_ms >= until_ms)
            found = connection.execute(later.order_by(at_ms).limit(1)).all()
    return [FactorValue(row[0], row[1], bool(row[2]), row[3]) for row in found]
