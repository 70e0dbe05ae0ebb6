"""Many rows in one statement, without SQLAlchemy's work on every row."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from wattkeeper.ledger import arrays

if TYPE_CHECKING:
    from sqlalchemy.sql.dml import UpdateBase

Row = tuple[object, ...]

CHUNK = 20_000
"""Rows per call, so that a commit's memory is bounded."""


def insert(connection: sa.Connection, table: sa.Table, columns: str, rows: Iterable[Row]) -> None:
    """Insert rows whose values stand in the order of `columns` (names between spaces)."""
    names = columns.split()
    if _is_postgresql(connection):
        arrays.insert(connection, table, names, _storable(table, names, rows), CHUNK)
        return
    statement = sa.insert(table).values({name: sa.bindparam(name) for name in names})
    execute(connection, statement, names, _storable(table, names, rows))


def insert_new(
    connection: sa.Connection, table: sa.Table, columns: str, rows: Iterable[Row]
) -> None:
    """Insert rows, but for those one of whose keys is there already."""
    names = columns.split()
    values: dict[str, object] = {name: sa.bindparam(name) for name in names}
    statement = _dialect(connection).insert(table).values(values).on_conflict_do_nothing()
    execute(connection, statement, names, _storable(table, names, rows))


def put(connection: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> None:
    """Insert rows, or put them in the place of those with the same primary key.

    The values of a row stand in the order of the table's columns.
    """
    names = [column.name for column in table.columns]
    statement = (
        _dialect(connection).insert(table).values({name: sa.bindparam(name) for name in names})
    )
    keys = [column.name for column in table.primary_key]
    change = {name: statement.excluded[name] for name in names if name not in keys}
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=change)
    execute(connection, upsert, names, rows)


def accumulate(
    connection: sa.Connection,
    table: sa.Table,
    sums: Sequence[str],
    greatest: Sequence[str],
    rows: Iterable[Row],
) -> None:
    """Add rows to those with the same primary key: `sums` are added, of `greatest` the most stays.

    The values of a row stand in the order of the table's columns.
    """
    if _is_postgresql(connection):
        arrays.accumulate(connection, table, sums, greatest, rows, CHUNK)
        return
    names = [column.name for column in table.columns]
    statement = sqlite.insert(table).values({name: sa.bindparam(name) for name in names})
    new = statement.excluded
    change = {name: table.c[name] + new[name] for name in sums}
    for name in greatest:
        change[name] = sa.case((new[name] > table.c[name], new[name]), else_=table.c[name])
    keys = [column.name for column in table.primary_key]
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=change)
    execute(connection, upsert, names, rows)


def update(
    connection: sa.Connection, table: sa.Table, columns: str, key: str, rows: Iterable[Row]
) -> None:
    """Set `columns` where `key` is the last value of each row."""
    names = columns.split()
    if _is_postgresql(connection):
        arrays.update(connection, table, names, key, _storable(table, names, rows), CHUNK)
        return
    values: dict[str, object] = {name: sa.bindparam(f"new_{name}") for name in names}
    statement = sa.update(table).where(table.c[key] == sa.bindparam("of_key")).values(values)
    execute(
        connection,
        statement,
        [*(f"new_{name}" for name in names), "of_key"],
        _storable(table, names, rows),
    )


def _is_postgresql(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _dialect(connection: sa.Connection) -> Any:
    return postgresql if _is_postgresql(connection) else sqlite


def _storable(table: sa.Table, names: Sequence[str], rows: Iterable[Row]) -> Iterable[Row]:
    """Replace NUL in texts, which PostgreSQL cannot hold; rows of numbers pass as they are."""
    if not any(isinstance(table.c[name].type, sa.Text) for name in names):
        return rows
    return (
        tuple(v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in row) for row in rows
    )


def execute(
    connection: sa.Connection, statement: "UpdateBase", names: Sequence[str], rows: Iterable[Row]
) -> None:
    """Run a statement once per row; `names` are its parameters in the order of a row's values."""
    source = iter(rows)
    chunk = list(islice(source, CHUNK))
    if not chunk:
        return  # most statements of a commit have nothing to do, and compiling them is its cost
    compiled = statement.compile(dialect=connection.dialect)
    sql = str(compiled)
    while chunk:
        if compiled.positiontup is None:
            connection.exec_driver_sql(sql, [dict(zip(names, row, strict=True)) for row in chunk])
        else:
            order = [names.index(name) for name in compiled.positiontup]
            if order != list(range(len(names))):
                chunk = [tuple(row[i] for i in order) for row in chunk]
            connection.exec_driver_sql(sql, chunk)
        chunk = list(islice(source, CHUNK))
