"""Statements of closed periods: never changed, each with a hash that the next one holds.

A statement is canonical JSON: keys in order, no spaces, whole numbers and text only, in UTF-8. Its
hash is the SHA-256 of these bytes, and it holds the hash of the statement before it, so that none
can be changed, left out or put in between without being seen.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.store import Ledger, LedgerError

_table = schema.statement


class ClosedMeanwhileError(LedgerError):
    """Another statement was written first; this one would not follow it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A closed period [since_ms, until_ms), UTC. `previous` is empty in the first one."""

    number: int
    period: str
    since_ms: int
    until_ms: int
    closed_ms: int
    previous: str
    hash: str
    body: str

    @property
    def intact(self) -> bool:
        """Whether the body is the one that was closed, and says what its row says."""
        said = self.told()
        times = (_instant_ms(said.get(name)) for name in ("since", "until", "closed"))
        return self.hash == digest(self.body) and (
            (self.number, self.period, self.previous or None)
            == (said.get("number"), said.get("period"), said.get("previous"))
            and (self.since_ms, self.until_ms, self.closed_ms) == tuple(times)
        )

    def told(self) -> dict[str, Any]:
        """Return the body as it is read; empty if it is no JSON any more."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}


def canonical(body: Mapping[str, Any]) -> str:
    """Return the one text of a body. It holds no fractions: they have more than one."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(body: str) -> str:
    """Return the hash of a body's text."""
    return hashlib.sha256(body.encode()).hexdigest()


def _instant_ms(text: object) -> int | None:
    """Return UTC milliseconds of an instant of a body, None if it is none."""
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def statements(ledger: Ledger) -> list[Statement]:
    """Return all statements, in their order."""
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(_table).order_by(_table.c.number)).all()
    return [Statement(*row) for row in rows]


def broken_links(all_of_them: list[Statement]) -> set[int]:
    """Return the numbers of statements that do not follow the one before, or are not intact."""
    broken: set[int] = set()
    number, last = 0, ""
    for one in all_of_them:
        if not one.intact or one.number != number + 1 or one.previous != last:
            broken.add(one.number)
        number, last = one.number, one.hash
    return broken


def append(
    ledger: Ledger,
    after: Statement | None,
    body: Mapping[str, Any],
    times: tuple[int, int, int],
) -> Statement:
    """Write the statement that follows `after`, None for the first one.

    `body` has `number`, `period` and `previous`, and as `since`, `until` and `closed` what `times`
    has: begin, end, and when it was closed.

    Raises:
        ClosedMeanwhileError: another one follows it already.
        LedgerError: it cannot be written.

    """
    text = canonical(body)
    number = after.number + 1 if after else 1
    previous = after.hash if after else ""
    made = Statement(number, body["period"], *times, previous, digest(text), text)
    with ledger.writing() as connection:
        newest = connection.scalar(sa.select(sa.func.max(_table.c.number)))
        if (newest or 0) != number - 1:
            raise ClosedMeanwhileError("another period was closed meanwhile; try again")
        names = [column.name for column in _table.columns]
        values = {name: getattr(made, name) for name in names}
        connection.execute(sa.insert(_table).values(values))
    return made
