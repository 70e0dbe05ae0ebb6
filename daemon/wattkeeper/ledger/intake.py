"""The intake: takes deliveries into memory, commits them to the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from wattkeeper.delivery.wire import GENESIS, Ack, Batch, WireError, chain, decode_record
from wattkeeper.ledger.checks import (
    Unfit,
    check_point,
    check_time,
    check_unmeasured,
    check_window,
)
from wattkeeper.ledger.dating import Dating
from wattkeeper.ledger.entries import check_entries
from wattkeeper.ledger.journals import JournalBook
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.pending import Pending
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import LedgerError
from wattkeeper.ledger.writer import Writer
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.model.window import ClockStep, EpochInfo, Point, Record, Tombstone, Window

MAX_POSTINGS = 4_000_000
"""Postings that wait for a commit before no more are taken: the agents keep theirs meanwhile."""
SKEW_MS = 2000
"""A clock that is off by more is flagged."""


class _Unknown(Exception):  # noqa: N818 - it is a question to the agent
    """A dictionary number that the journal has not sent; carries what the Ack asks from."""

    def __init__(self, kind: str, number: int, meter: MeterBook | None = None) -> None:
        super().__init__(f"{kind}: {number} is not in the journal's dictionary")
        self.kind = kind
        self.meter = meter
        self.number = number


@dataclass(slots=True)
class Taken:
    """What another store is to have of a delivery: its windows after the record numbered `after`.

    With each stands when it began, in the aggregator's time. What was refused, or is time that was
    booked already, is not among them.
    """

    after: int
    windows: list[tuple[int, Window]] = field(default_factory=list)


@dataclass(slots=True)
class _Delivery:
    """One delivery while its records are booked."""

    pending: Pending
    journal: JournalBook
    dating: Dating
    now_ms: int
    taken: Taken | None
    touched: set[MeterBook] = field(default_factory=set)


class Intake(Writer):
    """Takes batches in memory and commits them all in one transaction.

    Windows are posted at once: names that arrive late change only the map from holder to
    workload, never a posting. What they book to `idle` on GPUs that a scheduler grants is kept
    beside, in the same transaction, until `settlement` knows whose it was.

    `accept` and `commit_sync` may run in different threads.
    """

    def position(self, journal: str) -> tuple[int, bytes]:
        """Return number and chain value of the last record taken of a journal."""
        book = self._roster.journals.get(journal)
        return (0, GENESIS) if book is None else (book.accepted, book.hash)

    def has_room(self, batch: Batch, most_nodes: int) -> bool:
        """Tell whether a delivery is of a node that has books, or may have some."""
        nodes = self._roster.nodes
        return len(nodes) < most_nodes or (batch.cluster, batch.node) in nodes

    def is_new(self, journal: str) -> bool:
        """Tell whether nothing was ever taken of a journal."""
        return journal not in self._roster.journals

    def accept(self, batch: Batch, now_ms: int, taken: Taken | None = None) -> Ack:
        """Take a batch into memory; no input or output. `taken` is filled, if it is wanted.

        Raises:
            Refusal: the delivery as a whole is not taken.
            LedgerError: no ids are at hand for what is new in it; `look` draws some.

        """
        if self._ledger.shared and not self._has_numbers(batch):
            raise LedgerError("ledger: no ids are at hand; try again")
        with self._taking:
            self.counts.batches += 1
            try:
                return self._accept(batch, now_ms, taken)
            except Refusal:
                self.counts.refusals += 1
                raise

    def _accept(self, batch: Batch, now_ms: int, taken: Taken | None) -> Ack:
        pending = self._pending
        journal = self._roster.journal(pending, batch, now_ms)
        self._note_node(pending, journal, batch, now_ms)
        self._check_continues(pending, journal, batch, now_ms)
        self._roster.check_rivals(pending, journal, batch, now_ms)
        before = (journal.known_meters, journal.known_holders, journal.known_epochs)
        self._roster.learn(pending, journal, batch, now_ms)
        learned = before != (journal.known_meters, journal.known_holders, journal.known_epochs)
        unknown = self._take_new(pending, journal, batch, now_ms, taken)
        # A long dictionary comes in pieces: while it grows, nothing is taken for gone.
        journal.asked = journal.asked + 1 if unknown and not learned else 0
        pending.journals[journal.id] = (
            journal.accepted,
            journal.hash,
            journal.known_meters,
            journal.known_holders,
            journal.known_epochs,
            now_ms,
            journal.id,
        )
        return _ack(journal, now_ms, unknown)

    def _take_new(
        self,
        pending: Pending,
        journal: JournalBook,
        batch: Batch,
        now_ms: int,
        taken: Taken | None,
    ) -> _Unknown | None:
        """Take the records beyond the cursor, up to one whose dictionary entry is missing."""
        if pending.postings > MAX_POSTINGS:
            return None
        skip = self._skip(pending, journal, batch, now_ms)
        if skip is None:
            return None
        dating = Dating(self._ledger.slot_ms, batch, now_ms)
        delivery = _Delivery(pending, journal, dating, now_ms, taken)
        if taken is not None and taken.after < journal.accepted:
            _tell_again(delivery, batch, skip)
        try:
            self._take(delivery, batch.records[skip:] if skip else batch.records)
        except _Unknown as unknown:
            return unknown
        return None

    def _note_node(self, pending: Pending, journal: JournalBook, batch: Batch, now_ms: int) -> None:
        node = journal.node
        skew = batch.wall_ms - now_ms
        if abs(skew) > SKEW_MS:
            if not node.skew_ms:
                self._roster.event(pending, node, now_ms, "clock", f"clock is off by {skew} ms")
            node.skew_ms = skew
        else:
            node.skew_ms = 0
        pending.nodes[node.id] = (
            journal.id,
            node.boot,
            node.agent,
            now_ms,
            node.skew_ms,
            node.id,
        )

    def _check_continues(
        self, pending: Pending, journal: JournalBook, batch: Batch, now_ms: int
    ) -> None:
        """Compare the chain's value at the cursor, and the dictionary, with what is known."""
        at = journal.accepted - batch.first + 1
        try:
            check_entries(journal, batch)
            if at < 0 or at > len(batch.records):
                return
            value = batch.previous
            for payload in batch.records[:at]:
                value = chain(value, payload)
            if value != journal.hash:
                detail = (
                    f"journal {journal.name}: record {journal.accepted} is another than the one "
                    "booked under its number"
                )
                raise Refusal("fork", detail)
        except Refusal as refusal:
            self._roster.event(pending, journal.node, now_ms, refusal.kind, refusal.detail)
            raise

    def _skip(
        self, pending: Pending, journal: JournalBook, batch: Batch, now_ms: int
    ) -> int | None:
        """Return how many records of the batch were taken before; None to rewind the journal."""
        expected = journal.accepted + 1
        if batch.first <= expected:
            skip = min(expected - batch.first, len(batch.records))
            self.counts.replayed += skip
            return skip
        if batch.first > batch.oldest:
            return None
        detail = f"records {expected} to {batch.first - 1} of {journal.name} no longer exist"
        self._roster.event(pending, journal.node, now_ms, "jump", detail)
        for meter in journal.meters.values():
            meter.resume = True
        journal.accepted = batch.first - 1
        journal.hash = batch.previous
        return 0

    def _take(self, delivery: _Delivery, payloads: Sequence[bytes]) -> None:
        journal, counts = delivery.journal, self.counts
        try:
            for payload in payloads:
                try:
                    booked = self._book(delivery, decode_record(payload))
                except _Unknown as unknown:
                    if journal.asked < self._roster.patience:
                        raise
                    self._refuse(delivery, unknown.meter, unknown)
                except WireError as why:
                    self._refuse(delivery, None, why)
                else:
                    counts.records += 1
                    counts.overlaps += not booked
                journal.accepted += 1
                journal.hash = chain(journal.hash, payload)
        finally:
            for meter in delivery.touched:
                delivery.pending.meters[meter.id] = meter.row()

    def _book(self, delivery: _Delivery, record: Record) -> bool:
        pending, journal = delivery.pending, delivery.journal
        if isinstance(record, ClockStep):
            detail = f"wall clock stepped by {record.by_ms} ms"
            self._roster.event(pending, journal.node, delivery.now_ms, "clock-step", detail)
            return True
        if isinstance(record, Tombstone):
            # Somebody or something changed the agent's journal: the balance has to say so.
            meter = journal.meters.get(record.meter)
            self._refuse(delivery, meter, Unfit(record.reason[:MAX_LABEL]))
            return True
        meter = journal.meters.get(record.meter)
        if meter is None:
            raise _Unknown("meters", record.meter)
        delivery.touched.add(meter)
        try:
            if isinstance(record, Window):
                return self._book_window(delivery, meter, record)
            if isinstance(record, Point):
                return self._book_point(delivery, meter, record)
            check_unmeasured(record)
            start = record.start_ms + delivery.dating.shift(record.end_ms, record.boot_ms)
            check_time(start, start + record.end_ms - record.start_ms, delivery.now_ms)
            return self._continuity.unmeasured(pending, meter, record, start)
        except Unfit as why:
            self._refuse(delivery, meter, why)
            return True

    def _book_window(self, delivery: _Delivery, meter: MeterBook, window: Window) -> bool:
        journal, taken = delivery.journal, delivery.taken
        highest = check_window(window, meter.host)
        if highest > journal.known_holders:
            raise _Unknown("holders", highest, meter)
        info = _epoch(journal, meter, window.epoch)
        start = _start(delivery.dating, info, window)
        check_time(start, start + window.end_ms - window.start_ms, delivery.now_ms)
        self.counts.windows += 1
        booked = self._continuity.window(delivery.pending, journal, meter, info, window, start)
        if booked and taken is not None and journal.accepted >= taken.after:
            taken.windows.append((start, window))
        return booked

    def _book_point(self, delivery: _Delivery, meter: MeterBook, point: Point) -> bool:
        check_point(point)
        dating, journal = delivery.dating, delivery.journal
        info = _epoch(journal, meter, point.epoch)
        at = point.at_ms
        if info.boot == dating.boot:
            at += dating.shift(point.at_ms, point.boot_ms)
        check_time(at, at, delivery.now_ms)
        return self._continuity.point(delivery.pending, journal, meter, info, point, at)

    def _refuse(self, delivery: _Delivery, meter: MeterBook | None, why: Exception) -> None:
        """Put a tombstone at the record's number; its joules become a gap of its meter.

        Without a known meter it may have been any of the journal's.
        """
        self.counts.refused += 1
        journal, pending = delivery.journal, delivery.pending
        hit = [meter] if meter else list(journal.meters.values())
        at_ms = max((book.end_ms for book in hit), default=0) or delivery.now_ms
        row = (journal.id, journal.accepted + 1, meter.id if meter else None, at_ms, str(why)[:500])
        pending.refused.append(row)
        for book in hit:
            book.resume = True
            pending.meters[book.id] = book.row()


def _tell_again(delivery: _Delivery, batch: Batch, skip: int) -> None:
    """Let the other store have windows of this delivery that the ledger has already."""
    journal, taken = delivery.journal, delivery.taken
    assert taken is not None
    for payload in batch.records[max(0, taken.after - batch.first + 1) : skip]:
        try:
            window = decode_record(payload)
        except WireError:
            continue  # refused before
        if not isinstance(window, Window) or window.meter not in journal.meters:
            continue
        info = journal.epochs.get(window.epoch)
        if info is not None and window.flaw() is None:
            taken.windows.append((_start(delivery.dating, info, window), window))


def _start(dating: Dating, info: EpochInfo, window: Window) -> int:
    """Return when a window began, in the aggregator's time."""
    if info.boot != dating.boot:
        return window.start_ms
    return window.start_ms + dating.shift(window.end_ms, window.boot_ms)


def _epoch(journal: JournalBook, meter: MeterBook, number: int) -> EpochInfo:
    info = journal.epochs.get(number)
    if info is None:
        raise _Unknown("epochs", number, meter)
    return info


def _ack(journal: JournalBook, now_ms: int, unknown: _Unknown | None = None) -> Ack:
    known = {
        "meters": journal.known_meters,
        "holders": journal.known_holders,
        "epochs": journal.known_epochs,
    }
    if unknown is not None:
        known[unknown.kind] = min(known[unknown.kind], unknown.number - 1)
    return Ack(
        accepted=journal.accepted,
        accepted_hash=journal.hash.hex(),
        committed=journal.committed,
        wall_ms=now_ms,
        **known,
    )
