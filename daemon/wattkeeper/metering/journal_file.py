"""The journal's file: opened, checked, and put aside where it is damaged or another node's."""

import sqlite3
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from wattkeeper.delivery.wire import GENESIS
from wattkeeper.metering.book import BookState
from wattkeeper.metering.dictionary import Dictionary, Row

FILE: Final = "journal.sqlite"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record (
  seq INTEGER PRIMARY KEY, payload BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS entry (
  kind TEXT NOT NULL, number INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (kind, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
"""
_VERSION: Final = 1


class JournalError(OSError):
    """The journal cannot be written or opened; the message says why and what to do."""


class Meta(msgspec.Struct):
    """What the journal knows about itself.

    `nonce` outlives forks: it names counts that only these files know. `last`, `last_hash`: the
    newest record; `released`: the newest that may be gone; `released_hash`: the chain there;
    `sent`: the newest that may ever have left the node, so that it is never merged.
    """

    journal: str
    nonce: str
    node: str
    cluster: str
    last: int = 0
    last_hash: bytes = GENESIS
    released: int = 0
    released_hash: bytes = GENESIS
    sent: int = 0
    fork_of: str = ""
    next_numbers: dict[str, int] = {}


def fresh_id() -> str:
    """Return a new journal id."""
    return uuid.uuid4().hex


def stored_meta(db: sqlite3.Connection) -> Meta | None:
    """Return what the journal knows about itself, None if it is new."""
    row = db.execute("SELECT value FROM meta WHERE key = 'meta'").fetchone()
    return None if row is None else msgspec.msgpack.decode(row[0], type=Meta)


def stored_dictionary(db: sqlite3.Connection, next_numbers: Mapping[str, int]) -> Dictionary:
    """Return the dictionary as stored."""
    rows = db.execute("SELECT kind, number, payload FROM entry")
    return Dictionary((Row(*row) for row in rows), next_numbers)


def stored_states(db: sqlite3.Connection) -> dict[str, BookState]:
    """Return the books as of the last append."""
    rows = db.execute("SELECT name, payload FROM state WHERE name LIKE 'book:%'")
    return {
        name.removeprefix("book:"): msgspec.msgpack.decode(payload, type=BookState)
        for name, payload in rows
    }


def open_file(
    path: Path, cluster: str, node: str, *, durable: bool
) -> tuple[sqlite3.Connection, str]:
    """Open the file; say which one was put aside and why, if one was.

    A damaged one would stop the metering. One of another node came with a disk image: the node
    that wrote its windows delivers them, and its counts are those of another machine.
    """
    try:
        db = _connect(path, durable=durable)
    except sqlite3.OperationalError as error:
        raise JournalError(f"data_dir: cannot open {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        why = f"is damaged ({error})"
    else:
        meta = stored_meta(db)
        if meta is None or (meta.cluster, meta.node) == (cluster, node):
            return db, ""
        why = f"is the journal of node {meta.node} in cluster {meta.cluster}"
        db.close()
    aside = path.with_name(f"{path.name}.aside-{fresh_id()[:8]}")
    for suffix in ("", "-wal", "-shm"):
        piece = path.with_name(path.name + suffix)
        if piece.exists():
            piece.rename(aside.with_name(aside.name + suffix))
    return _connect(path, durable=durable), f"{aside} {why}"


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise JournalError(
                f"data_dir: {path} was written by a newer agent (format {version}, this one "
                f"reads {_VERSION}); upgrade this agent or give it another data_dir"
            )
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError(f"{path} is damaged")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_VERSION}")
        _check(db, path)
    except (sqlite3.Error, JournalError):
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    """SQLite keeps no checksums: read what the agent cannot do without."""
    try:
        meta = stored_meta(db)
        stored_dictionary(db, meta.next_numbers if meta else {})
        stored_states(db)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise sqlite3.DatabaseError(f"{path} is damaged: {error}") from error
