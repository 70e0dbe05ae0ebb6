"""The agent's durable list of records: numbered, chained by hash, committed with the books' state.

SQLite in WAL mode with `synchronous=FULL`: what `append` has returned from survives power loss.
Never on NFS or Lustre, whose locks and syncs do not hold what SQLite needs.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from wattkeeper.delivery.wire import WireError, chain, decode_record, encode_record
from wattkeeper.metering.book import BookState
from wattkeeper.metering.dictionary import HOLDER
from wattkeeper.metering.journal_file import (
    FILE,
    JournalError,
    Meta,
    fresh_id,
    open_file,
    stored_dictionary,
    stored_meta,
    stored_states,
)
from wattkeeper.metering.merge import merge
from wattkeeper.model.window import ClockStep, Record, Tombstone, Unmeasured, Window

__all__ = ["FILE", "Journal", "JournalError", "Stretch", "fresh_id"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records to send: `first` is the number of `payloads[0]`, `previous` the chain before it."""

    first: int
    previous: bytes
    payloads: tuple[bytes, ...]


class Journal:
    """Records, dictionary and book states in one file.

    Every method may be called from a worker thread; they take turns. `new_id` names new journals
    (a simulation gives its own, seeded). `durable=False` trades power-loss safety for speed where
    the disk is not real.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cluster: str,
        node: str,
        max_bytes: int,
        new_id: Callable[[], str] = fresh_id,
        durable: bool = True,
    ) -> None:
        self._lock = threading.Lock()
        self._max_bytes = self._shrink_above = max_bytes
        self._new_id = new_id
        self._db, self.set_aside = open_file(folder / FILE, cluster, node, durable=durable)
        self.meta = stored_meta(self._db) or Meta(new_id(), new_id(), node, cluster)
        self.dictionary = stored_dictionary(self._db, self.meta.next_numbers)
        self.dictionary.used(self.dictionary.entries[HOLDER], self.meta.last)

    def states(self) -> dict[str, BookState]:
        """Return the books as of the last append."""
        return stored_states(self._db)

    def memo(self, name: str) -> Any:
        """Return what was noted under `name` by an append, None if nothing was."""
        with self._reading() as db:
            row = db.execute("SELECT payload FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else msgspec.msgpack.decode(row[0])

    def append(
        self,
        records: Sequence[Record],
        states: Mapping[str, bytes],
        memos: Mapping[str, Any] = {},
    ) -> None:
        """Commit records, the encoded states of their books, and memos, in one transaction.

        Raises:
            JournalError: nothing was written; the caller keeps the records and tries again.

        """
        with self._transaction("write") as db:
            meta = msgspec.structs.replace(self.meta)
            rows = []
            for record in records:
                payload = encode_record(record)
                meta.last_hash = chain(meta.last_hash, payload)
                meta.last += 1
                rows.append((meta.last, payload, meta.last_hash))
                if isinstance(record, Window):
                    self.dictionary.used((part.holder for part in record.shares), meta.last)
            # OR REPLACE: what somebody put behind the end must not stop metering.
            db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", rows)
            encoded = [(f"book:{name}", state) for name, state in states.items()]
            encoded += [(name, msgspec.msgpack.encode(memo)) for name, memo in memos.items()]
            db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", encoded)
            fresh = self.dictionary.fresh()
            db.executemany("INSERT INTO entry VALUES (?, ?, ?)", fresh)
            meta.next_numbers = dict(self.dictionary.next_numbers)
            self._store_meta(db, meta)
        self.dictionary.stored(fresh)

    def stretch(self, after: int, max_bytes: int) -> Stretch:
        """Return the records after number `after` (or the oldest left), about `max_bytes` of them.

        They count as sent from here on.
        """
        with self._transaction("read") as db:
            after = max(after, self.meta.released)
            if not self._has(after):
                self._mend(db)
            previous = self._hash_at(after)
            payloads = self._read(db, after, previous, max_bytes)
            if after + len(payloads) > self.meta.sent:
                meta = msgspec.structs.replace(self.meta, sent=after + len(payloads))
                self._store_meta(db, meta)
            return Stretch(after + 1, previous, tuple(payloads))

    def hash_at(self, seq: int) -> bytes | None:
        """Return the chain's value at a record, None where the journal has no such number."""
        with self._reading():
            known = self.meta.released <= seq <= self.meta.last
            return self._hash_at(seq) if known and self._has(seq) else None

    def release(self, upto: int, held: Sequence[int]) -> None:
        """Drop what every store has on disk; `held` are holders that open windows name."""
        upto = min(upto, self.meta.last)
        if upto <= self.meta.released:
            return
        with self._transaction("release") as db:
            if not self._has(upto):
                self._mend(db)
            meta = msgspec.structs.replace(
                self.meta, released=upto, released_hash=self._hash_at(upto)
            )
            db.execute("DELETE FROM record WHERE seq <= ?", (upto,))
            gone = self.dictionary.unused(upto, held)
            db.executemany(
                "DELETE FROM entry WHERE kind = ? AND number = ?", [(HOLDER, n) for n in gone]
            )
            self._store_meta(db, meta)
        self.dictionary.forget(gone)

    def fork(self) -> None:
        """Go on as another journal: the one at the aggregator is not this one any more.

        What has not been released goes along under new numbers, so nothing is lost; what the
        aggregator has booked already it tells by time.
        """
        with self._transaction("fork") as db:
            self._mend(db)
            rows = db.execute(
                "SELECT payload FROM record WHERE seq <= ? ORDER BY seq", (self.meta.last,)
            ).fetchall()
            meta = Meta(
                self._new_id(), self.meta.nonce, self.meta.node, self.meta.cluster,
                fork_of=self.meta.journal, next_numbers=self.meta.next_numbers,
            )  # fmt: skip
            db.execute("DELETE FROM record")
            # The aggregator may have booked any of them: merged, it could not tell which.
            meta.sent = len(rows)
            self._rechain(db, meta, [payload for (payload,) in rows])

    def shrink(self) -> bool:
        """Merge what was never sent if the file is too large; True if anything was merged.

        The next attempt waits until the file has grown by a sixteenth of what it may hold.
        """
        size = self.size()
        if size <= self._max_bytes:
            self._shrink_above = self._max_bytes
        if size <= self._shrink_above:
            return False
        merged = self._merge_unsent()
        self._shrink_above = max(self._max_bytes, self.size() + self._max_bytes // 16)
        return merged

    def _merge_unsent(self) -> bool:
        with self._transaction("merge") as db:
            self._mend(db)
            kept = max(self.meta.sent, self.meta.released)
            rows = db.execute(
                "SELECT payload FROM record WHERE seq > ? AND seq <= ? ORDER BY seq",
                (kept, self.meta.last),
            )
            records = [decode_record(payload) for (payload,) in rows]
            merged = merge(records)
            if len(merged) == len(records):
                return False
            meta = msgspec.structs.replace(self.meta, last=kept, last_hash=self._hash_at(kept))
            db.execute("DELETE FROM record WHERE seq > ?", (kept,))
            self._rechain(db, meta, [encode_record(record) for record in merged])
            return True

    def size(self) -> int:
        """Bytes in use in the journal's file."""
        with self._reading() as db:
            pages, free, size = (
                db.execute(f"PRAGMA {pragma}").fetchone()[0]
                for pragma in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * size)

    @property
    def pending(self) -> int:
        """Records that the aggregator has not committed."""
        return self.meta.last - self.meta.released

    def pending_since_ms(self) -> int | None:
        """Return the UTC milliseconds of the oldest record not committed, None if there is none."""
        with self._reading() as db:
            row = db.execute("SELECT payload FROM record ORDER BY seq LIMIT 1").fetchone()
        if row is None:
            return None
        try:
            record = decode_record(row[0])
        except WireError:
            return None  # the next delivery puts a tombstone there
        if isinstance(record, Window | Unmeasured):
            return record.end_ms
        return None if isinstance(record, Tombstone) else record.at_ms

    def close(self) -> None:
        """Close the file; everything appended is on disk already."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise JournalError(f"journal: cannot read: {error}") from error

    @contextmanager
    def _transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            meta, done = self.meta, False
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
                done = True
            except sqlite3.Error as error:
                raise JournalError(f"journal: cannot {doing}: {error}") from error
            finally:
                if not done:
                    self.meta = meta
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")

    def _store_meta(self, db: sqlite3.Connection, meta: Meta) -> None:
        db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('meta', ?)", (msgspec.msgpack.encode(meta),)
        )
        self.meta = meta

    def _has(self, seq: int) -> bool:
        if seq == self.meta.released:
            return True
        row = self._db.execute("SELECT 1 FROM record WHERE seq = ?", (seq,)).fetchone()
        return row is not None

    def _hash_at(self, seq: int) -> bytes:
        if seq == self.meta.released:
            return self.meta.released_hash
        row = self._db.execute("SELECT hash FROM record WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise JournalError(f"journal: record {seq} is missing; was the file edited?")
        return bytes(row[0])

    def _read(
        self, db: sqlite3.Connection, after: int, previous: bytes, max_bytes: int
    ) -> list[bytes]:
        payloads: list[bytes] = []
        size = 0
        rows = db.execute(
            "SELECT seq, payload, hash FROM record WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, self.meta.last),
        )
        for seq, payload, stored in rows:
            previous = chain(previous, payload)
            if seq != after + len(payloads) + 1 or stored != previous:
                break
            payloads.append(payload)
            size += len(payload)
            if size >= max_bytes:
                return payloads
        if after + len(payloads) < self.meta.last:
            rows.close()
            self._mend(db)
        return payloads

    def _mend(self, db: sqlite3.Connection) -> None:
        """Put a tombstone wherever the chain is broken: somebody or something changed the file.

        A record that was altered or is lost is given up; every other one stays as it is.
        """
        kept = {
            seq: (payload, stored)
            for seq, payload, stored in db.execute(
                "SELECT seq, payload, hash FROM record WHERE seq > ?", (self.meta.released,)
            )
        }
        payloads, flaws = [], 0
        # What the record before was stored with, and what it comes to; None: it is lost.
        before: set[bytes] | None = {self.meta.released_hash}
        for seq in range(self.meta.released + 1, self.meta.last + 1):
            payload, stored = kept.get(seq, (b"", b""))
            ends = {chain(value, payload) for value in before or ()}
            if seq not in kept or (before is not None and stored not in ends):
                flaws += 1
                reason = f"record {seq} of the journal was altered or lost"
                payloads.append(encode_record(Tombstone(_meter_of(payload), reason)))
            else:
                payloads.append(payload)
            before = {stored} | ends if seq in kept else None
        if flaws:
            meta = msgspec.structs.replace(
                self.meta, last=self.meta.released, last_hash=self.meta.released_hash
            )
            db.execute("DELETE FROM record")
            self._rechain(db, meta, payloads)

    def _rechain(self, db: sqlite3.Connection, meta: Meta, payloads: Sequence[bytes]) -> None:
        """Append encoded records to `meta`'s end and make it the journal's."""
        rows = []
        for payload in payloads:
            meta.last_hash = chain(meta.last_hash, payload)
            meta.last += 1
            rows.append((meta.last, payload, meta.last_hash))
        db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        self._store_meta(db, meta)


def _meter_of(payload: bytes) -> int:
    """Return the meter that an altered record still names, 0 where none can be read."""
    try:
        record = decode_record(payload)
    except WireError:
        return 0
    return 0 if isinstance(record, ClockStep) else record.meter
