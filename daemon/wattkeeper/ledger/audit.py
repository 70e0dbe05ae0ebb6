"""The audit log. Entries are appended, and go when they are old; none is ever changed.

But for one thing: the name of a person who is forgotten is replaced in what others asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import msgspec
import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.erasing import without
from wattkeeper.ledger.store import Ledger

_table = schema.audit
_COLUMNS = "at_ms who role address act what result times"
_SEEN = "audited"
"""The setting that keeps what was configured when it was last looked at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did, at an instant (UTC milliseconds), and with which result.

    `who` is a user, or the name of a token, "" where nothing was proven. `times`: how often since
    the entry before it that is alike.
    """

    at_ms: int
    who: str
    role: str
    address: str
    act: str
    what: str
    result: str
    times: int = 1


def append(ledger: Ledger, entries: Sequence[Entry]) -> None:
    """Write entries.

    Raises:
        LedgerError: the database does not take them.

    """
    with ledger.writing() as connection:
        bulk.insert(connection, _table, _COLUMNS, map(astuple, entries))


def entries(
    ledger: Ledger, since_ms: int, until_ms: int, only: Mapping[str, str], most: int
) -> list[Entry]:
    """Return the newest entries of a time, the newest first. `only`: values of its columns."""
    columns = [_table.c[name] for name in _COLUMNS.split()]
    query = (
        sa.select(*columns)
        .where(_table.c.at_ms >= since_ms, _table.c.at_ms < until_ms)
        .where(*(_table.c[name] == value for name, value in only.items()))
        .order_by(_table.c.at_ms.desc(), _table.c.id.desc())
        .limit(most)
    )
    with ledger.reading() as connection:
        return [Entry(*row) for row in connection.execute(query)]


def expire(ledger: Ledger, before_ms: int) -> None:
    """Drop entries from before an instant.

    Raises:
        LedgerError: the database does not take it.

    """
    with ledger.writing() as connection:
        connection.execute(sa.delete(_table).where(_table.c.at_ms < before_ms))


def rename(connection: sa.Connection, user: str, called: str) -> None:
    """Call a person something else wherever others asked for them."""
    named = sa.func.lower(_table.c.what).contains(user.lower(), autoescape=True)
    for row in connection.execute(sa.select(_table.c.id, _table.c.what).where(named)).all():
        what = without(row.what, user, called)
        connection.execute(sa.update(_table).where(_table.c.id == row.id).values(what=what))


def changed(ledger: Ledger, now: Mapping[str, str], at_ms: int) -> list[Entry]:
    """Append what is configured otherwise than when it was last looked at; return that.

    Raises:
        LedgerError: the database does not take it.

    """
    setting = schema.setting.c
    with ledger.reading() as connection:
        kept = connection.scalar(sa.select(setting.value).where(setting.key == _SEEN))
    before: dict[str, str] = msgspec.json.decode(kept or "{}")
    if before == now:
        return []
    news = [
        Entry(at_ms, "", "configuration", "", "configuration", what, "changed")
        for key in sorted({**before, **now})
        if (what := _difference(key, before.get(key, ""), now.get(key, "")))
    ]
    text = msgspec.json.encode(dict(now)).decode()
    with ledger.writing() as connection:
        bulk.insert(connection, _table, _COLUMNS, map(astuple, news))
        connection.execute(sa.delete(schema.setting).where(setting.key == _SEEN))
        connection.execute(sa.insert(schema.setting).values(key=_SEEN, value=text))
    return news


def _difference(key: str, before: str, now: str) -> str:
    return "" if before == now else f"{key}: {before or 'unset'} -> {now or 'unset'}"
