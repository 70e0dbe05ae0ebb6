"""The two databases that a ledger can be in, each with the settings that the books need."""

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from wattkeeper.values import hide_passwords

POSTGRESQL = "postgresql"
_DRIVER = "postgresql+psycopg"
_WRITING = """
    SET LOCAL idle_in_transaction_session_timeout = '60s';
    SET LOCAL lock_timeout = '30s';
    SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off'
"""
"""A writer that hangs, or was cut off, lets go of what others wait for; what agents are told to be
committed is on disk."""
_CONNECT: dict[str, object] = {
    "connect_timeout": 10,
    "application_name": "wattkeeper",
    # A server that vanished without a word is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SCHEMA_LOCK = 0x77617474_00000001
"""Key of the lock under which a schema is made: aggregators may start at the same instant."""
_NAMES_LOCK = 0x77617474_00000002
"""Key of the lock under which runs and holders are written, before any of their rows is touched."""
_MEMBERS_LOCK = 0x77617474_00000003
"""Key of the lock under which an aggregator looks who else is there."""


def connect(url: str | Path) -> sa.Engine:
    """Return the engine of a database; nothing is opened yet.

    Raises:
        ValueError: no URL of a database that can hold a ledger; says how one looks.

    """
    try:
        parsed = sa.make_url(f"sqlite:///{url}" if isinstance(url, Path) else url)
    except sa.exc.ArgumentError:
        raise ValueError("is no URL; " + _HOW) from None
    if parsed.drivername in (POSTGRESQL, _DRIVER):
        return _postgresql(parsed.set(drivername=_DRIVER))
    if parsed.drivername != "sqlite":
        raise ValueError(f"{parsed.drivername} is no database for a ledger; {_HOW}")
    engine = sa.create_engine(parsed)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


_HOW = "write sqlite:////absolute/path/ledger.sqlite or postgresql://user@host/database"


def reader(engine: sa.Engine) -> sa.Engine:
    """Return the engine for questions: one view of all tables for each transaction.

    SQLite's transactions are so by themselves.
    """
    if not is_shared(engine):
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def shown(url: sa.URL) -> str:
    """Return a URL as it may be shown."""
    return hide_passwords(url.render_as_string(hide_password=True))


def cause(error: BaseException) -> str:
    """Return what a database said, in one line."""
    said = str(getattr(error, "orig", None) or error).strip()
    return hide_passwords("; ".join(line.strip() for line in said.splitlines() if line.strip()))


def check(connection: sa.Connection) -> None:
    """Keep others from making the schema at the same time, and see that it can hold any text.

    Raises:
        ValueError: the database cannot hold a ledger; says why.

    """
    if not is_shared(connection.engine):
        return
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise ValueError(
            f"its texts are in {encoding}; make one with TEMPLATE template0 ENCODING 'UTF8'"
        )


def is_shared(engine: sa.Engine) -> bool:
    """Tell whether several aggregators may write: a SQLite file is one's alone."""
    return engine.dialect.name == POSTGRESQL


def lock_names(connection: sa.Connection) -> None:
    """Be the only one that says which runs there are, until the transaction ends."""
    if is_shared(connection.engine):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_NAMES_LOCK)))


def lock_members(connection: sa.Connection) -> None:
    """Be the only one that enters the list of aggregators, until the transaction ends."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MEMBERS_LOCK)))


def rewrite(engine: sa.Engine) -> str:
    """Let nothing be found in the database's files that is in no row any more.

    Return why that could not be done, "" if it was. To be called outside of a transaction. Takes
    as long as it takes to copy the file: pages that were split or merged keep parts of old rows.
    """
    return _ROWS_STAY if is_shared(engine) else _pragmas(engine, "VACUUM", _EMPTY_LOG)


def empty_log(engine: sa.Engine) -> str:
    """Let SQLite's write-ahead log hold no old rows; return why that could not be done."""
    return "" if is_shared(engine) else _pragmas(engine, _EMPTY_LOG)


def _pragmas(engine: sa.Engine, *statements: str) -> str:
    connection = engine.raw_connection()
    busy: tuple[int, ...] | None = None
    try:
        cursor = connection.cursor()
        for statement in statements:
            busy = cursor.execute(statement).fetchone()
        cursor.close()
    except sqlite3.OperationalError as error:
        return f"old rows may be left in free parts of the file: {error}; try again"
    finally:
        connection.close()
    return _IN_WAL if busy and busy[0] else ""


_EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"
_ROWS_STAY = (
    "PostgreSQL keeps old rows in its files until VACUUM FULL of identity, workload, "
    "workload_label and breach, and in its WAL as long as that is kept"
)
_IN_WAL = "somebody was reading: the file ending in -wal may hold old rows until it is used again"


def now_ms(connection: sa.Connection) -> int:
    """Return UTC milliseconds by PostgreSQL's own clock, the same for all that ask it."""
    epoch = sa.func.date_part("epoch", sa.func.clock_timestamp())
    return int(connection.execute(sa.select(epoch)).scalar_one() * 1000)


def draw(connection: sa.Connection, count: int) -> list[int]:
    """Return ids that no other aggregator is given; lost if the transaction fails."""
    query = sa.text("SELECT nextval('number') FROM generate_series(1, :count)")
    return list(connection.scalars(query, {"count": count}))


def set_number(connection: sa.Connection, newest: int, serial: str | None = None) -> None:
    """Let ids go on behind the newest: those that `draw` gives, or those of a table's own."""
    sequence = f"pg_get_serial_sequence('{serial}', 'id')" if serial else "'number'"
    connection.execute(sa.text(f"SELECT setval({sequence}, :newest)"), {"newest": newest})


def _postgresql(url: sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            connect_args={key: value for key, value in _CONNECT.items() if key not in url.query},
            pool_size=8,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError:
        raise ValueError("PostgreSQL needs `pip install 'wattkeeper[postgresql]'`") from None
    sa.event.listen(engine, "connect", _prepare_postgresql)
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    from psycopg.adapt import Loader  # noqa: PLC0415 - an extra of its own

    class Whole(Loader):
        """PostgreSQL sums 64-bit numbers to decimals; here they are whole."""

        def load(self, data: Any) -> int:
            return int(bytes(data))

    connection.adapters.register_loader("numeric", Whole)


def _begin_postgresql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("ledger_writes", False):
        connection.exec_driver_sql(_WRITING)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # sqlite3 would open no transaction for reads, and a balance needs one view of all tables.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=30000",
        "cache_size=-65536",
        # What was erased is not to be found in the file; most systems' SQLite does so by default.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("ledger_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
