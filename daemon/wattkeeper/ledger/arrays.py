"""Many rows in one statement of PostgreSQL: a parameter is a whole column."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Row = tuple[object, ...]


def insert(
    connection: sa.Connection, table: sa.Table, names: Sequence[str], rows: Iterable[Row], size: int
) -> None:
    """Insert rows whose values stand in the order of `names`, `size` at a time."""
    statement = sa.insert(table).from_select(names, sa.select(*_columns(table, names)))
    _execute(connection, statement, names, rows, size)


def accumulate(
    connection: sa.Connection,
    table: sa.Table,
    sums: Sequence[str],
    greatest: Sequence[str],
    rows: Iterable[Row],
    size: int,
) -> None:
    """Add rows to those with the same primary key, in the order of the keys; as `bulk` says."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    new = _columns(table, names)
    # Rows of one statement that have the same key are put together first.
    query = (
        sa.select(
            *(new[name] for name in keys),
            *(sa.cast(sa.func.sum(new[name]), sa.BigInteger) for name in sums),
            *(sa.func.max(new[name]) for name in greatest),
        )
        .group_by(*(new[name] for name in keys))
        .order_by(*(new[name] for name in keys))
    )
    statement = postgresql.insert(table).from_select([*keys, *sums, *greatest], query)
    excluded = statement.excluded
    change: dict[str, Any] = {name: table.c[name] + excluded[name] for name in sums}
    for name in greatest:
        change[name] = sa.func.greatest(table.c[name], excluded[name])
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=change)
    _execute(connection, upsert, names, rows, size)


def update(
    connection: sa.Connection,
    table: sa.Table,
    names: Sequence[str],
    key: str,
    rows: Iterable[Row],
    size: int,
) -> None:
    """Set columns where `key` is the last value of each row."""
    new = _columns(table, [*names, key])
    statement = (
        sa.update(table).values({name: new[name] for name in names}).where(table.c[key] == new[key])
    )
    _execute(connection, statement, [*names, key], rows, size)


def _columns(table: sa.Table, names: Sequence[str]) -> Any:
    """Return the columns of rows that are given as arrays."""
    arrays = (
        sa.bindparam(f"all_{name}", type_=postgresql.ARRAY(table.c[name].type)) for name in names
    )
    columns = (sa.column(name, table.c[name].type) for name in names)
    return sa.func.unnest(*arrays).table_valued(*columns, name="new").render_derived().c


def _execute(
    connection: sa.Connection,
    statement: sa.Executable,
    names: Sequence[str],
    rows: Iterable[Row],
    size: int,
) -> None:
    source = iter(rows)
    while chunk := list(islice(source, size)):
        columns = map(list, zip(*chunk, strict=True))
        parameters = {f"all_{n}": column for n, column in zip(names, columns, strict=True)}
        connection.execute(statement, parameters)
