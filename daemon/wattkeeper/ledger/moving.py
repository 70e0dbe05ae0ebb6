"""A ledger from a SQLite file into an empty PostgreSQL: piece by piece, resumable, and proven.

How far it came stands in the new ledger, in the transaction of each piece; while it does, no
aggregator starts on it. Rows go over in the order of their keys, so memory holds one piece.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
import sqlalchemy as sa

from wattkeeper.ledger import database, schema
from wattkeeper.ledger.lease import MOVING, refuse_members
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.model.grid import DAY_MS

PIECE = 50_000
"""Rows in one transaction."""
_OWN = (schema.aggregator, schema.lease, schema.recorded)
"""What a ledger says of its aggregators, and of an engine's history, is not moved."""
_KEPT = ("slot_ms", MOVING)
"""Settings that the new ledger has of its own."""
_HASH_BYTES = 16

Told = Callable[[int], None]
"""Is told how many rows more have been done."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: how many rows, and a sum of their hashes, in whatever order."""

    rows: int
    digest: int


@dataclass(slots=True)
class Proof:
    """What was compared at the end. `differences` says, in words, what is not the same."""

    tables: dict[str, Content] = field(default_factory=dict)
    meters: int = 0
    differences: list[str] = field(default_factory=list)


def tables() -> list[sa.Table]:
    """Return the tables that are moved, in their order."""
    return [table for table in schema.metadata.sorted_tables if table not in _OWN]


def begin(source: Ledger, target: Ledger, *, again: bool = False) -> None:
    """Make the target one that is moved into, or go on with it. `again`: from an empty one.

    Raises:
        LedgerError: an aggregator is using it, it holds other books, or another move into it began.

    """
    if not target.shared:
        raise LedgerError("the new ledger is no PostgreSQL")
    name = str(source)
    with target.writing() as connection:
        refuse_members(connection)
        known = _progress(connection)
        if again and known is not None:
            for table in tables():
                own = table.c.key.not_in(_KEPT) if table is schema.setting else sa.true()
                connection.execute(sa.delete(table).where(own))
            known = None
        if known is not None and known.source != name:
            raise LedgerError(
                f"a move from {known.source} into it has begun and not ended; end that one, "
                "or begin again with --again"
            )
        if known is None:
            if any(_count(connection, table) for table in (schema.node, schema.workload)):
                raise LedgerError("it holds books already; move into an empty database")
            _note(connection, _Progress(name))


def total(ledger: Ledger) -> int:
    """Return how many rows there are to move."""
    with ledger.reading() as connection:
        return sum(_count(connection, table) for table in tables())


def copy(source: Ledger, target: Ledger, told: Told) -> None:
    """Move all rows that are not there yet. May be killed at any time, and called again.

    Raises:
        LedgerError: the target does not take it, or the source holds what no ledger can.

    """
    with source.reading() as old, target.reading() as new:
        progress = _progress(new) or _Progress(str(source))
        names = [table.name for table in tables()]
        done = names.index(progress.table) if progress.table else 0
        told(sum(_count(new, table) for table in tables()))
        new.rollback()  # its view is not needed any more
        for table in tables()[done:]:
            after = progress.after if table.name == progress.table else None
            for rows in _pieces(old, table, after):
                _put(target, table, rows, _Progress(str(source), table.name, _key(table, rows[-1])))
                told(len(rows))
    with target.writing() as connection:
        _set_numbers(connection)


def prove(source: Ledger, target: Ledger, told: Told) -> Proof:
    """Compare both: every row of every table by its hash, and the balance of every meter."""
    proof = Proof()
    with source.reading() as old, target.reading() as new:
        for table in tables():
            one, other = _content(old, table, told), _content(new, table, told)
            proof.tables[table.name] = one
            if one != other:
                proof.differences.append(
                    f"{table.name}: {one.rows} rows before, {other.rows} now"
                    + (", and others" if one.rows == other.rows else "")
                )
        days = sorted(old.scalars(sa.select(schema.coverage_day.c.day).distinct()))
    for day in days:
        at_ms = day * DAY_MS
        before, now = (balance(ledger, at_ms, at_ms + DAY_MS) for ledger in (source, target))
        proof.meters = max(proof.meters, len(before.meters))
        for meter, other_meter in zip(before.meters, now.meters, strict=False):
            if meter != other_meter:
                proof.differences.append(f"{meter.node} {meter.meter}: its balance is another")
    return proof


def end(target: Ledger) -> None:
    """Let aggregators use the target. Raises LedgerError."""
    with target.writing() as connection:
        connection.execute(sa.delete(schema.setting).where(schema.setting.c.key == MOVING))


@dataclass(frozen=True, slots=True)
class _Progress:
    source: str
    table: str = ""
    after: Sequence[Any] | None = None


def _progress(connection: sa.Connection) -> _Progress | None:
    setting = schema.setting.c
    text = connection.scalar(sa.select(setting.value).where(setting.key == MOVING))
    return None if text is None else _Progress(**json.loads(text))


def _note(connection: sa.Connection, progress: _Progress) -> None:
    setting = schema.setting
    connection.execute(sa.delete(setting).where(setting.c.key == MOVING))
    value = json.dumps(
        {"source": progress.source, "table": progress.table, "after": progress.after}
    )
    connection.execute(sa.insert(setting).values(key=MOVING, value=value))


def _select(table: sa.Table) -> "sa.Select[Any]":
    query = sa.select(table)
    return query.where(table.c.key.not_in(_KEPT)) if table is schema.setting else query


def _count(connection: sa.Connection, table: sa.Table) -> int:
    rows = _select(table).subquery()
    return connection.scalar(sa.select(sa.func.count()).select_from(rows)) or 0


def _pieces(
    connection: sa.Connection, table: sa.Table, after: Sequence[Any] | None
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows behind a key, in the order of the keys."""
    keys = list(table.primary_key.columns)
    while True:
        query = _select(table).order_by(*keys).limit(PIECE)
        if after is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(*map(sa.literal, after)))
        rows = [tuple(row) for row in connection.execute(query)]
        if not rows:
            return
        yield rows
        after = _key(table, rows[-1])


def _key(table: sa.Table, row: tuple[Any, ...]) -> list[Any]:
    names = [column.name for column in table.columns]
    return [row[names.index(column.name)] for column in table.primary_key.columns]


def _put(
    target: Ledger, table: sa.Table, rows: Sequence[tuple[Any, ...]], progress: _Progress
) -> None:
    """Write a piece, and that it is there."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    with target.writing() as connection:
        cursor = connection.connection.cursor()
        try:
            with cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copying:
                for row in _storable(table, rows):
                    copying.write_row(row)
        except connection.dialect.loaded_dbapi.Error as error:
            raise LedgerError(f"{table.name}: {database.cause(error)}") from error
        finally:
            cursor.close()
        _note(connection, progress)


def _storable(table: sa.Table, rows: Iterable[Any]) -> Iterable[Any]:
    """Return rows as PostgreSQL can hold them: no NUL in texts."""
    if not any(isinstance(column.type, sa.Text) for column in table.columns):
        return rows
    return (
        [value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in row]
        for row in rows
    )


def _content(connection: sa.Connection, table: sa.Table, told: Told) -> Content:
    rows = digest = 0
    encode = msgspec.msgpack.Encoder().encode
    result = connection.execution_options(yield_per=10_000).execute(_select(table))
    for some in result.partitions():
        for row in _storable(table, some):
            packed = encode(tuple(row))
            digest += int.from_bytes(blake2b(packed, digest_size=_HASH_BYTES).digest())
        rows += len(some)
        told(len(some))
    return Content(rows, digest)


def _set_numbers(connection: sa.Connection) -> None:
    """Let everything that counts go on behind what was moved."""
    newest = [_newest(connection, table) for table in (schema.node, schema.journal, schema.meter)]
    if any(newest):
        database.set_number(connection, max(newest))
    for table in tables():
        key, *others = table.primary_key.columns
        counts = not others and key.name == "id" and key.autoincrement is not False
        if counts and (number := _newest(connection, table)):
            database.set_number(connection, number, table.name)


def _newest(connection: sa.Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
