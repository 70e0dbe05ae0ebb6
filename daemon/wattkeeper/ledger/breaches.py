"""The levels that budgets reached: when, how far, and who has been told. Kept in the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.store import Ledger


class Told(IntEnum):
    """What the receiver of alerts has taken: nothing, that a level is reached, that it is left."""

    NOTHING = 0
    REACHED = 1
    LEFT = 2


@dataclass(frozen=True, slots=True)
class Breach:
    """A level that was reached, in [from_ms, to_ms); `to_ms` is None while it still is.

    `worst`: the most that was seen, as a part of the limit; `coverage`: how complete that reading
    was, None where it is not known. `detail` is JSON. Instants are UTC milliseconds.
    """

    id: int
    budget: str
    level: str
    from_ms: int
    to_ms: int | None
    worst: float
    coverage: float | None
    detail: str
    told: Told = Told.NOTHING


_PPM = 1_000_000
_table = schema.breach


def reach(
    ledger: Ledger,
    budget: str,
    level: str,
    at_ms: int,
    worst: float,
    coverage: float | None,
    detail: str,
) -> Breach:
    """Write down that a level is reached.

    Raises:
        LedgerError: the database does not take it; LeaseLostError if another one judges now.

    """
    values = {
        "budget": budget,
        "level": level,
        "from_ms": at_ms,
        "worst_ppm": _ppm(worst),
        "coverage_ppm": None if coverage is None else _ppm(coverage),
        "detail": detail,
        "told": Told.NOTHING.value,
    }
    with ledger.leading() as connection:
        done = connection.execute(sa.insert(_table).values(values))
        assert done.inserted_primary_key is not None
        number: int = done.inserted_primary_key[0]
    return Breach(number, budget, level, at_ms, None, worst, coverage, detail)


def worsen(ledger: Ledger, number: int, worst: float, coverage: float | None, detail: str) -> None:
    """Write down that it is worse than before."""
    values = {
        "worst_ppm": _ppm(worst),
        "coverage_ppm": None if coverage is None else _ppm(coverage),
        "detail": detail,
    }
    with ledger.leading() as connection:
        connection.execute(sa.update(_table).where(_table.c.id == number).values(values))


def leave(ledger: Ledger, numbers: Iterable[int], at_ms: int) -> None:
    """Write down that levels are left."""
    rows = [(at_ms, number) for number in numbers]
    with ledger.leading() as connection:
        bulk.update(connection, _table, "to_ms", "id", rows)


def tell(ledger: Ledger, numbers: Iterable[int], told: Told) -> None:
    """Write down what the receiver of alerts has taken."""
    rows = [(told.value, number) for number in numbers]
    with ledger.leading() as connection:
        bulk.update(connection, _table, "told", "id", rows)


def reached_now(ledger: Ledger) -> list[Breach]:
    """Return the levels that are reached and not left, the oldest first."""
    return _breaches(ledger, _table.c.to_ms.is_(None))


def untold(ledger: Ledger, since_ms: int) -> list[Breach]:
    """Return what was left since an instant and the receiver of alerts has not heard of."""
    left = sa.and_(_table.c.to_ms >= since_ms, _table.c.told < Told.LEFT.value)
    return _breaches(ledger, left)


def history(ledger: Ledger, budgets: Sequence[str], most: int) -> dict[str, list[Breach]]:
    """Return of each budget the last breaches, the newest first, at most so many."""
    ranked = sa.select(
        _table,
        sa.func.row_number()
        .over(partition_by=_table.c.budget, order_by=(_table.c.from_ms.desc(), _table.c.id.desc()))
        .label("place"),
    ).subquery()
    query = (
        sa.select(ranked)
        .where(ranked.c.budget.in_(budgets), ranked.c.place <= most)
        .order_by(ranked.c.budget, ranked.c.place)
    )
    found: dict[str, list[Breach]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(query):
            found.setdefault(row.budget, []).append(_breach(row))
    return found


def put_states(ledger: Ledger, states: Mapping[str, str], at_ms: int) -> None:
    """Keep how each budget stands, in this order, in the place of what was kept before."""
    table = schema.budget_state
    with ledger.leading() as connection:
        connection.execute(sa.delete(table))
        rows = [(name, place, at_ms, body) for place, (name, body) in enumerate(states.items())]
        bulk.insert(connection, table, "budget place at_ms body", rows)


def states(ledger: Ledger) -> list[str]:
    """Return how each budget stood last, as it was kept."""
    table = schema.budget_state.c
    with ledger.reading() as connection:
        return list(connection.scalars(sa.select(table.body).order_by(table.place)))


def _breaches(ledger: Ledger, where: "sa.ColumnElement[bool]") -> list[Breach]:
    query = sa.select(_table).where(where).order_by(_table.c.from_ms, _table.c.id)
    with ledger.reading() as connection:
        return [_breach(row) for row in connection.execute(query)]


def _breach(row: "sa.Row[tuple[object, ...]]") -> Breach:
    return Breach(
        row.id,
        row.budget,
        row.level,
        row.from_ms,
        row.to_ms,
        row.worst_ppm / _PPM,
        None if row.coverage_ppm is None else row.coverage_ppm / _PPM,
        row.detail,
        Told(row.told),
    )


def _ppm(ratio: float) -> int:
    return round(ratio * _PPM)
