"""Who of several aggregators does what one does for all: ask schedulers, settle, export totals.

A row with an expiry, and not a lock of a session: it moves from a holder that hangs as well as
from one that died, within seconds, by the database's clock alone, through any pool of connections.
Its token counts the holders. What only the holder may write checks the token in the transaction
that writes (`Ledger.leading`), and keeps the row from being taken until that has ended: so no two
ever write at once, however long one of them was stopped in between.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import database, schema
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError

_BOOKS = "books"
MOVING = "moving"
"""The setting that a ledger has while another one is moved into it."""

_lease, _aggregator = schema.lease, schema.aggregator


@dataclass(frozen=True, slots=True)
class _Term:
    """The time that one holder has it; `until_s`: until when that is certain, by our own clock."""

    token: int
    until_s: float


class Lease:
    """One aggregator's share in the lease of a ledger. On one that is not shared it always has it.

    `name`: what others are told of this one; the same after a restart. A holder that was not heard
    of for `ttl_s` has lost it.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        *,
        ttl_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._name = name
        self._id = uuid.uuid4().hex
        self._ttl_s = ttl_s
        self._clock = clock
        self._term: _Term | None = None
        self._alone = False
        if ledger.shared:
            ledger.fence = self._check

    @property
    def every_s(self) -> float:
        """How often it wants to be renewed."""
        return self._ttl_s / 3

    @property
    def token(self) -> int | None:
        """A number for the time that this one holds the lease; None while another does."""
        if not self._ledger.shared:
            return 0
        term = self._term
        return term.token if term is not None and self._clock() < term.until_s else None

    def join(self, *, alone: bool) -> None:
        """Enter the list of aggregators that use this ledger. Blocks.

        `alone`: this one cannot share, for what it keeps beside the ledger is its own.

        Raises:
            LedgerError: it cannot share and is not the only one, or one of the others cannot.

        """
        if not self._ledger.shared:
            return
        with self._ledger.writing() as connection:
            database.lock_members(connection)
            now_ms = database.now_ms(connection)
            _refuse_half_a_ledger(connection)
            # Its own past, which nobody ended, and those that nobody has heard of.
            gone = sa.or_(_aggregator.c.name == self._name, _aggregator.c.until_ms < now_ms)
            connection.execute(sa.delete(_aggregator).where(gone))
            for other in connection.execute(sa.select(_aggregator)).all():
                if alone or other.alone:
                    who = self._name if alone else other.name
                    raise LedgerError(
                        f"ledger.url: {other.name} uses this ledger too, and the history that "
                        f"{who} keeps in its data_dir would have a part of the windows only; set "
                        "telemetry.url for all of them, or stop the other one"
                    )
            self._alone = alone
            self._enter(connection, now_ms)

    def renew(self) -> bool:
        """Say that this one lives; keep the lease, or take it where nobody has it. Blocks.

        Returns whether it holds it now.

        Raises:
            LedgerError: the database does not answer; a lease that is held runs out.

        """
        if not self._ledger.shared:
            return True
        until_s = self._clock() + self._ttl_s
        with self._ledger.writing() as connection:
            now_ms = database.now_ms(connection)
            alive = sa.update(_aggregator).where(_aggregator.c.id == self._id)
            if not connection.execute(alive.values(until_ms=now_ms + self._ttl_ms)).rowcount:
                self._enter(connection, now_ms)
            token = self._keep(connection, now_ms) or self._take(connection, now_ms)
        self._term = None if token is None else _Term(token, until_s)
        return self._term is not None

    def leave(self) -> None:
        """Let another one have it at once. Blocks.

        Raises:
            LedgerError: the database does not answer; it runs out by itself.

        """
        term, self._term = self._term, None
        if not self._ledger.shared:
            return
        with self._ledger.writing() as connection:
            connection.execute(sa.delete(_aggregator).where(_aggregator.c.id == self._id))
            if term is not None:
                connection.execute(sa.update(_lease).where(*self._own(term)).values(until_ms=0))

    def _enter(self, connection: sa.Connection, now_ms: int) -> None:
        row = {"id": self._id, "name": self._name, "alone": int(self._alone)}
        connection.execute(sa.insert(_aggregator).values(row | {"until_ms": now_ms + self._ttl_ms}))

    def _keep(self, connection: sa.Connection, now_ms: int) -> int | None:
        if self._term is None:
            return None
        # Does not touch the row's key, and so does not wait for `_check` of our own transactions.
        own = sa.update(_lease).where(*self._own(self._term))
        kept = connection.execute(own.values(until_ms=now_ms + self._ttl_ms)).rowcount
        return self._term.token if kept else None

    def _take(self, connection: sa.Connection, now_ms: int) -> int | None:
        # Locks the row's key: it is skipped while the holder is in the middle of a transaction.
        free = sa.select(_lease.c.token).where(_lease.c.name == _BOOKS, _lease.c.until_ms < now_ms)
        token = connection.scalar(free.with_for_update(skip_locked=True))
        if token is None:
            return None
        taken = {"holder": self._id, "token": token + 1, "until_ms": now_ms + self._ttl_ms}
        connection.execute(sa.update(_lease).where(_lease.c.name == _BOOKS).values(taken))
        return int(token) + 1

    def _check(self, connection: sa.Connection) -> None:
        term = self._term
        own = self._own(term) if term is not None else (sa.false(),)
        held = sa.select(_lease.c.token).where(*own).with_for_update(read=True, key_share=True)
        if connection.scalar(held) is None:
            raise LeaseLostError("ledger: another aggregator does this now")

    def _own(self, term: _Term) -> "tuple[sa.ColumnElement[bool], ...]":
        return (
            _lease.c.name == _BOOKS,
            _lease.c.holder == self._id,
            _lease.c.token == term.token,
        )

    @property
    def _ttl_ms(self) -> int:
        return round(self._ttl_s * 1000)


def refuse_members(connection: sa.Connection) -> None:
    """Be alone with a ledger that is shared: none of its aggregators lives, and none joins.

    Raises:
        LedgerError: an aggregator is using it.

    """
    database.lock_members(connection)
    live = sa.select(_aggregator.c.name).where(_aggregator.c.until_ms > database.now_ms(connection))
    name = connection.scalar(live.limit(1))
    if name is not None:
        raise LedgerError(f"the aggregator {name} is using it; stop it first")


def _refuse_half_a_ledger(connection: sa.Connection) -> None:
    moving = sa.select(schema.setting.c.key).where(schema.setting.c.key == MOVING)
    if connection.scalar(moving) is not None:
        raise LedgerError(
            "ledger.url: books are being moved into this ledger; run `wattkeeper migrate` until "
            "it has ended"
        )
