"""The database of the ledger: opened, migrated, with the settings it was made with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from wattkeeper.ledger import database, schema
from wattkeeper.model.grid import SLOTS_MS

DEFAULT_SLOT_MS = 900_000


class LedgerError(RuntimeError):
    """The ledger cannot be opened or written. The message says why and what to do."""


class LeaseLostError(LedgerError):
    """Another aggregator does what only one may do; nothing was written."""


class Ledger:
    """An open ledger. `slot_ms` is the length of its slots; use it in threads only.

    `fence` checks, at the start of a transaction of `leading`, that the lease is still held.
    """

    def __init__(self, engine: sa.Engine, slot_ms: int) -> None:
        self.engine = engine
        self._reader = database.reader(engine)
        self.slot_ms = slot_ms
        self.fence: Callable[[sa.Connection], None] | None = None

    def __str__(self) -> str:
        return database.shown(self.engine.url)

    @classmethod
    def open(cls, url: str | Path, *, slot_ms: int | None = None) -> "Ledger":
        """Open or make the ledger at a SQLAlchemy URL, or at the path of a SQLite file.

        `slot_ms`: None takes the ledger's own, 15 minutes in a new one.

        Raises:
            LedgerError: not writable, of a newer version, or made with another slot.

        """
        if slot_ms is not None and slot_ms not in SLOTS_MS:
            minutes = ", ".join(str(slot // 60_000) for slot in SLOTS_MS)
            raise LedgerError(f"ledger.slot: {slot_ms} ms is none of {minutes} minutes")
        try:
            engine = database.connect(url)
        except ValueError as error:
            raise LedgerError(f"ledger.url: {error}") from None
        try:
            with writing(engine) as connection:
                database.check(connection)
                _migrate(connection)
                return cls(engine, _slot(connection, slot_ms))
        except (sa.exc.SQLAlchemyError, ValueError, LedgerError) as error:
            engine.dispose()
            if isinstance(error, LedgerError):
                raise
            why = f"ledger.url: cannot open {database.shown(engine.url)}: {database.cause(error)}"
            raise LedgerError(why) from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view of the books, whatever is committed meanwhile."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or nothing.

        Raises:
            LedgerError: the database does not take it (disk full, locked, read-only).

        """
        try:
            with writing(self.engine) as connection:
                yield connection
        except (sa.exc.DBAPIError, OverflowError) as error:
            raise LedgerError(f"ledger: not written: {database.cause(error)}") from error

    @contextmanager
    def leading(self) -> Iterator[sa.Connection]:
        """One transaction of what one aggregator does for all; nobody names runs meanwhile.

        Raises:
            LeaseLostError: another one does it now.
            LedgerError: as `writing`.

        """
        with self.writing() as connection:
            if self.fence is not None:
                self.fence(connection)
            database.lock_names(connection)
            yield connection

    @property
    def shared(self) -> bool:
        """Whether other aggregators may write it too: on PostgreSQL they may."""
        return database.is_shared(self.engine)

    def newest_ms(self) -> int | None:
        """Return the newest booked instant in UTC milliseconds, None in an empty ledger."""
        with self.reading() as connection:
            newest: int | None = connection.scalar(sa.select(sa.func.max(schema.meter.c.end_ms)))
            return newest

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that takes the write lock at its start, not at its first write."""
    with engine.connect().execution_options(ledger_writes=True) as connection, connection.begin():
        yield connection


def _migrate(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise LedgerError(
            "ledger.url: the ledger was written by a newer version of wattkeeper; "
            f"run that version or a newer one ({error})"
        ) from error


def _slot(connection: sa.Connection, asked_ms: int | None) -> int:
    query = sa.select(schema.setting.c.value).where(schema.setting.c.key == "slot_ms")
    stored = connection.execute(query).scalar()
    if stored is None:
        slot_ms = asked_ms or DEFAULT_SLOT_MS
        connection.execute(sa.insert(schema.setting).values(key="slot_ms", value=str(slot_ms)))
        return slot_ms
    if asked_ms not in (None, int(stored)):
        raise LedgerError(
            f"ledger.slot: this ledger was made with slots of {int(stored) // 60_000} minutes; its "
            f"postings cannot be cut anew. Set ledger.slot to that, or begin another ledger"
        )
    return int(stored)
