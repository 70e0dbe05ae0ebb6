"""The recorder: what agents deliver goes into the store as well, with cursors of its own."""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain as join
from typing import Protocol

from wattkeeper.delivery.wire import GENESIS, Batch, chain
from wattkeeper.model.holder import FIRST_HOLDER
from wattkeeper.model.meter import MeterInfo
from wattkeeper.model.window import Window
from wattkeeper.telemetry.base import Cursor, Place, Row, TelemetryError, TelemetryStore
from wattkeeper.telemetry.rows import HolderName, place_of, rows_of

MOST_WAITING = 600_000
"""Windows that wait for the store before no more are taken: the agents keep theirs meanwhile."""
_KEPT_HOLDERS = 512
"""Names of holders kept of each journal, the newest; older ones are looked up again."""

_log = logging.getLogger(__name__)


class Names(Protocol):
    """Looks up what a journal's numbers mean, where the recorder was not there to hear it."""

    def meters(self, wanted: Mapping[str, Collection[int]]) -> Mapping[tuple[str, int], MeterInfo]:
        """Return meters by (journal's name, number), as far as they are known on disk."""

    def holders(
        self, wanted: Mapping[str, Collection[int]]
    ) -> Mapping[tuple[str, int], HolderName]:
        """Return holders by (journal's name, number), as far as they are known on disk."""


@dataclass(slots=True)
class Track:
    """How far a journal was taken into memory, and how far it is in the store; its dictionary."""

    cursor: Cursor
    committed: int
    cluster: str = ""
    node: str = ""
    meters: dict[int, MeterInfo] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    holders: dict[int, HolderName] = field(default_factory=dict)

    def place(self, number: int) -> Place:
        """Return a meter."""
        found = self.places.get(number)
        if found is None:
            found = place_of(self.cluster, self.node, self.meters[number])
            self.places[number] = found
        return found

    def holder(self, number: int) -> HolderName:
        """Return a holder."""
        return self.holders[number]


class Taken(Protocol):
    """The windows of a delivery after record `after`, each with its start in UTC milliseconds."""

    @property
    def after(self) -> int:
        """The number of a record."""

    @property
    def windows(self) -> Sequence[tuple[int, Window]]:
        """What is to be taken."""


Waiting = tuple[str, int, Window]
"""A journal's name, when the window began in the aggregator's time, and the window."""


class Recorder:
    """Takes the windows of deliveries in memory, and flushes them into the store.

    It follows the intake, record by record. Where it is behind (the store was down, or lost what
    the ledger has), the answer to the agent rewinds the journal to it, and the intake passes over
    what it has. While more windows wait than `MOST_WAITING` it takes no more, asks for nothing
    again, and only what is committed holds back what agents release.

    `take` runs on the event loop, `flush` in a thread; one at a time of each.
    """

    def __init__(self, store: TelemetryStore, names: Names) -> None:
        self._store = store
        self._names = names
        self._tracks = {
            journal: Track(cursor, cursor.seq) for journal, cursor in store.cursors().items()
        }
        self._lock = threading.Lock()
        self._waiting: list[Waiting] = []
        self._touched: set[str] = set()
        self.trouble = ""
        self.flushed = 0

    @property
    def waiting(self) -> int:
        """Windows in memory that the store does not have yet."""
        return len(self._waiting)

    @property
    def open(self) -> bool:
        """Whether it takes windows now."""
        return len(self._waiting) < MOST_WAITING

    def after(self, batch: Batch, ledger: Cursor) -> int | None:
        """Return the record after which the windows of a delivery are wanted, None for none.

        `ledger` is how far the intake has taken the journal, before this delivery.
        """
        if not self.open:
            return None
        track = self._tracks.get(batch.journal)
        cursor = _first(batch, ledger) if track is None else track.cursor
        if cursor != ledger and _differs(cursor, batch):
            _log.warning(
                "history: record %d of journal %s is another than the one taken; what follows "
                "is taken again",
                cursor.seq,
                batch.journal,
            )
            cursor = ledger
        before = batch.first - 1
        if cursor.seq >= before:
            return cursor.seq
        # What lies between no longer exists, or the journal has to be rewound.
        return before if batch.first <= batch.oldest else None

    def take(self, batch: Batch, before: Cursor, ledger: Cursor, taken: Taken | None) -> None:
        """Take the windows of a delivery; the intake was `before`, and is at `ledger` now."""
        track = self._tracks.get(batch.journal)
        if track is None:
            first = _first(batch, before)
            track = self._tracks[batch.journal] = Track(first, first.seq)
        self._learn(track, batch)
        last = batch.first - 1 + len(batch.records)
        if taken is None or min(last, ledger.seq) <= taken.after:
            return
        upto = ledger if ledger.seq <= last else Cursor(last, _value(batch, len(batch.records)))
        with self._lock:
            self._waiting += [(batch.journal, start, window) for start, window in taken.windows]
            self._touched.add(batch.journal)
            track.cursor = upto
            track.committed = min(track.committed, upto.seq)

    def position(self, journal: str) -> tuple[Cursor, int]:
        """Return how far a journal was taken, and how far it is in the store."""
        track = self._tracks[journal]
        return track.cursor, track.committed

    def flush(self) -> bool:
        """Write what was taken; False if the store does not take it (the next try may)."""
        with self._lock:
            waiting, touched = self._waiting, self._touched
            if not touched:
                return not self.trouble
            self._waiting, self._touched = [], set()
            cursors = {journal: self._tracks[journal].cursor for journal in touched}
        try:
            self._store.write(self._rows(waiting), cursors)
        except TelemetryError as error:
            with self._lock:
                self._waiting = waiting + self._waiting
                self._touched |= touched
            self.trouble = str(error)
            return False
        self.trouble = ""
        self.flushed += len(waiting)
        for journal, cursor in cursors.items():
            self._tracks[journal].committed = cursor.seq
        return True

    def _rows(self, waiting: Sequence[Waiting]) -> list[Row]:
        try:
            return self._named(waiting)
        except KeyError:
            self._look_up(waiting)
        try:
            return self._named(waiting)
        except KeyError as error:
            raise TelemetryError(f"names of {error} are not in the ledger yet") from error

    def _named(self, waiting: Sequence[Waiting]) -> list[Row]:
        tracks = self._tracks
        return list(
            join.from_iterable(
                rows_of(window, start_ms, tracks[journal]) for journal, start_ms, window in waiting
            )
        )

    def _learn(self, track: Track, batch: Batch) -> None:
        """Keep what a delivery says of its dictionary; a number never changes its meaning."""
        track.cluster, track.node = batch.cluster, batch.node
        track.meters.update(batch.meters)
        for number, holder in batch.holders.items():
            track.holders[number] = HolderName(holder.manager, holder.raw_id, holder.birth_ms)
        if len(track.holders) > 2 * _KEPT_HOLDERS:
            newest = sorted(track.holders)[-_KEPT_HOLDERS:]
            track.holders = {number: track.holders[number] for number in newest}

    def _look_up(self, waiting: Sequence[Waiting]) -> None:
        """Find the names that windows use and nobody has said since the start."""
        meters: dict[str, set[int]] = {}
        holders: dict[str, set[int]] = {}
        for journal, _, window in waiting:
            track = self._tracks[journal]
            if window.meter not in track.meters:
                meters.setdefault(journal, set()).add(window.meter)
            for one in window.shares:
                if one.holder >= FIRST_HOLDER and one.holder not in track.holders:
                    holders.setdefault(journal, set()).add(one.holder)
        for (journal, number), info in self._names.meters(meters).items():
            self._tracks[journal].meters[number] = info
        for (journal, number), name in self._names.holders(holders).items():
            self._tracks[journal].holders[number] = name


def _first(batch: Batch, ledger: Cursor) -> Cursor:
    """Return where a journal begins that the store has never heard of.

    At its first record if the agent has that yet: perhaps the store was down ever since, while
    the ledger went on. Else the store is new beside older books, and begins where those are.
    """
    return Cursor(0, GENESIS) if batch.oldest == 1 else ledger


def _differs(cursor: Cursor, batch: Batch) -> bool:
    """Tell whether a delivery has another record under the cursor's number."""
    at = cursor.seq - batch.first + 1
    return 0 <= at <= len(batch.records) and _value(batch, at) != cursor.hash


def _value(batch: Batch, records: int) -> bytes:
    """Return the chain's value after so many records of a delivery."""
    value = batch.previous
    for payload in batch.records[:records]:
        value = chain(value, payload)
    return value
