"""New SQLite ledgers at once: going through every version of the schema takes each 0.15 s of CPU.

Only here: programs that tests start, and ledgers of older versions, are migrated as a user's.
"""

import functools

import sqlalchemy as sa

from wattkeeper.ledger import store

_migrate = store._migrate


def use() -> None:
    """Let this process make new ledgers from what the first one became."""
    store._migrate = _make


def _make(connection: sa.Connection) -> None:
    if connection.dialect.name != "sqlite" or sa.inspect(connection).get_table_names():
        _migrate(connection)
        return
    for statement in _statements():
        connection.exec_driver_sql(statement)


@functools.cache
def _statements() -> tuple[str, ...]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        _migrate(connection)
        database = connection.connection.driver_connection
        assert database is not None
        dump = tuple(database.iterdump())
    engine.dispose()
    return dump[1:-1]  # without BEGIN and COMMIT
