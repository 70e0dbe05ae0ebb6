"""What can happen to a journal's files: killed as they are, torn, wiped, cloned, no room left."""

import shutil
import sqlite3
import struct
from pathlib import Path

from wattkeeper.metering.journal import FILE

_HEADER = 32
_FRAME_HEADER = 24


def copy_as_is(old: Path, new: Path) -> None:
    """Copy a SQLite file with its log, whatever state a kill has left both in."""
    new.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal"):
        piece = old.with_name(old.name + suffix)
        if piece.exists():
            shutil.copyfile(piece, new.with_name(new.name + suffix))


def remove(path: Path) -> None:
    """Delete a SQLite file and what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def tear(folder: Path, size: int) -> bool:
    """Cut `size` bytes off the end of a journal's log, as if its last write had not come through.

    False where there is no log to tear.
    """
    log = folder / f"{FILE}-wal"
    if not log.exists():
        return False
    data = log.read_bytes()
    end = _written(data)
    if end <= _HEADER:
        return False
    log.write_bytes(data[: max(_HEADER, end - size)])
    return True


def fill(connection: sqlite3.Connection) -> None:
    """Leave a database no room: its file may not grow any more."""
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


def free(connection: sqlite3.Connection) -> None:
    """Let the file grow again."""
    connection.execute("PRAGMA max_page_count = 1073741823")


def _written(data: bytes) -> int:
    """Return where the current frames of a write-ahead log end; older ones may lie behind."""
    if len(data) < _HEADER:
        return 0
    (page,) = struct.unpack(">I", data[8:12])
    salts = data[16:24]
    at = _HEADER
    while at + _FRAME_HEADER + page <= len(data) and data[at + 8 : at + 16] == salts:
        at += _FRAME_HEADER + page
    return at
