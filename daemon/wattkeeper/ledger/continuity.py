"""Each window begins where the last one ended; what lies between is a gap or cannot be known.

All instants given here are already dated: the wrong clock of a node is put right before.
"""

from wattkeeper.ledger.checks import MOST_POWER_MW, Unfit
from wattkeeper.ledger.journals import JournalBook
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.pending import KIND_BITS, Cell, Pending, kind
from wattkeeper.ledger.seal import lay, slots
from wattkeeper.model import microjoules
from wattkeeper.model.grid import floor
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import Method
from wattkeeper.model.window import EpochInfo, Point, Policy, Share, Split, Unmeasured, Window

SAME_INSTANT_MS = 1000
"""Two journals may differ by this about one instant of boot time."""


class Continuity:
    """Books records of single meters into `Pending`, one slot length for all."""

    def __init__(self, slot_ms: int) -> None:
        self._slot_ms = slot_ms

    def window(
        self,
        pending: Pending,
        journal: JournalBook,
        meter: MeterBook,
        info: EpochInfo,
        window: Window,
        start_ms: int,
    ) -> bool:
        """Book a window that begins at `start_ms`; False if its time is booked already.

        Raises:
            Unfit: it does not continue the books of its meter.

        """
        end_ms = start_ms + window.end_ms - window.start_ms
        if (
            start_ms != meter.end_ms
            or window.first_uj != meter.uj
            or meter.info is not info
            or meter.journal != journal.id
            or meter.resume
            or window.boot_ms <= meter.boot_ms
        ):
            boot_start = window.boot_ms - (end_ms - start_ms)
            if not self._enter(
                pending, journal, meter, info, start_ms, boot_start, window.boot_ms, window.first_uj
            ):
                return False
        self._book(pending, journal.base, meter, window, start_ms, end_ms)
        meter.uj = window.last_uj
        meter.end_ms = end_ms
        meter.boot_ms = window.boot_ms
        return True

    def point(
        self,
        pending: Pending,
        journal: JournalBook,
        meter: MeterBook,
        info: EpochInfo,
        point: Point,
        at_ms: int,
    ) -> bool:
        """Append a point; where the books were broken off, they resume at it.

        Returns False if its time is booked already.

        Raises:
            Unfit: the count of an epoch fell.

        """
        broken = meter.journal != journal.id or meter.info is not info
        if broken or (meter.resume and point.boot_ms > meter.boot_ms):
            if not self._enter(
                pending, journal, meter, info, at_ms, point.boot_ms, point.boot_ms, point.value_uj
            ):
                return False
            meter.uj = point.value_uj
            meter.end_ms = at_ms
            meter.boot_ms = point.boot_ms
        if meter.point_epoch == meter.epoch and point.value_uj < meter.point_uj:
            raise Unfit(f"point of {point.value_uj} µJ is below the one before, {meter.point_uj}")
        meter.add_point(pending, at_ms, point.value_uj)
        return True

    def unmeasured(
        self, pending: Pending, meter: MeterBook, record: Unmeasured, start_ms: int
    ) -> bool:
        """Count time whose joules cannot be known, once; False if it was counted."""
        end_ms = start_ms + record.end_ms - record.start_ms
        if meter.first_ms is None:
            meter.first_ms = meter.end_ms = start_ms
        if end_ms <= meter.end_ms:
            return False
        meter.close_points(pending)
        self._cannot_know(pending, meter, max(start_ms, meter.end_ms), end_ms, record.reason)
        meter.end_ms = end_ms
        meter.resume = True
        return True

    def _enter(
        self,
        pending: Pending,
        journal: JournalBook,
        meter: MeterBook,
        info: EpochInfo,
        start_ms: int,
        boot_start: int,
        boot_end: int,
        first_uj: int,
    ) -> bool:
        """Let a meter's books go on at a place that is not simply their end.

        Returns False if that place is in the past of the books. Raises Unfit.
        """
        same_journal = meter.journal == journal.id
        strict = same_journal and not meter.resume
        if info.boot in meter.past and not _is_back(journal, meter, info, start_ms):
            return False
        if meter.epoch == 0:
            self._begin(pending, meter, info, start_ms, first_uj, "first seen")
        elif meter.info.boot == info.boot and _is_past(meter, boot_start, boot_end, same_journal):
            if strict and boot_end > boot_start:
                raise Unfit(f"boot_ms {boot_end} is not after {meter.boot_ms}: booked already")
            return False
        elif not same_journal and _overlaps(meter, info, boot_start, first_uj):
            return False
        elif not _same_epoch(meter.info, info, same_journal):
            self._begin(pending, meter, info, start_ms, first_uj, "new epoch")
        elif strict and first_uj != meter.uj:
            raise Unfit(f"begins at {first_uj} µJ, the one before ended at {meter.uj} µJ")
        elif first_uj < meter.uj or _implausible(meter, boot_start, first_uj):
            self._begin(pending, meter, info, start_ms, first_uj, "count does not continue")
        elif first_uj > meter.uj:
            self._gap(pending, meter, start_ms, boot_start, first_uj)
        else:
            self._jump(pending, meter, start_ms)
        meter.info = info
        meter.journal = journal.id
        meter.resume = False
        return True

    def _begin(
        self,
        pending: Pending,
        meter: MeterBook,
        info: EpochInfo,
        start_ms: int,
        first_uj: int,
        reason: str,
    ) -> None:
        if meter.epoch:
            meter.close_points(pending)
        if meter.first_ms is not None:
            self._cannot_know(pending, meter, meter.end_ms, start_ms, reason)
        meter.open_epoch(pending, info, start_ms, first_uj)

    def _gap(
        self, pending: Pending, meter: MeterBook, start_ms: int, boot_start: int, first_uj: int
    ) -> None:
        """Book what the counter advanced unseen over the time in between.

        How long that was, boot time says: a clock step may be among the records that are missing.
        """
        meter.close_points(pending)
        uj = first_uj - meter.uj
        parts = slots(meter.end_ms, start_ms, self._slot_ms)
        recovered = kind(Policy.IDLE, Method.COUNTER, Split.RECOVERED)
        key = Account.GAP << KIND_BITS | recovered
        passed = lay([max(0, boot_start - meter.boot_ms)], parts)[0]
        for (slot, ms), part, covered in zip(parts, lay([uj], parts)[0], passed, strict=True):
            cell = self._cell(pending, slot, meter)
            cell.add(key, part, ms, min(start_ms, slot + self._slot_ms))
            cell.covered_ms += covered
        reason = f"records of {meter.name} between {meter.uj} and {first_uj} µJ are missing"
        pending.gaps.append((meter.id, meter.end_ms, start_ms, uj, reason))
        meter.uj = first_uj
        meter.end_ms = start_ms
        meter.add_point(pending, start_ms, first_uj)

    def _jump(self, pending: Pending, meter: MeterBook, start_ms: int) -> None:
        """The count goes on, the time does not: a clock step or unmeasured time."""
        if meter.resume or floor(start_ms, self._slot_ms) != floor(meter.end_ms, self._slot_ms):
            meter.close_points(pending)
            if meter.point_uj <= meter.uj:
                meter.add_point(pending, start_ms, meter.uj)

    def _cannot_know(
        self, pending: Pending, meter: MeterBook, from_ms: int, to_ms: int, reason: str
    ) -> None:
        if to_ms <= from_ms:
            return
        for slot, ms in slots(from_ms, to_ms, self._slot_ms):
            self._cell(pending, slot, meter).unmeasured_ms += ms
        pending.gaps.append((meter.id, from_ms, to_ms, 0, reason))

    def _book(
        self,
        pending: Pending,
        base: int,
        meter: MeterBook,
        window: Window,
        start_ms: int,
        end_ms: int,
    ) -> None:
        slot = floor(start_ms, self._slot_ms)
        if end_ms > slot + self._slot_ms:
            self._book_over_slots(pending, base, meter, window, start_ms, end_ms)
            return
        cell = self._cell(pending, slot, meter)
        cell.covered_ms += window.covered_ms
        postings = cell.postings
        size = len(postings)
        kinds = kind(window.policy, window.method, 0)
        for share in window.shares:
            # The innermost loop of the centre: `Cell.add` written out.
            uj = share.uj
            ms = share.to_ms - share.from_ms
            if not ms:
                end = start_ms + share.to_ms
                cell.add(_key(base, kinds, share), uj, 0, end, share.idle_uj, share.idle_ms)
                continue
            cell.held_ms += ms
            number = share.holder
            if number >= FIRST_HOLDER:
                number |= base
            elif meter.granted and number == Account.IDLE:
                begin = start_ms + share.from_ms
                _keep(pending, meter, begin, begin + ms, uj, kinds)
            key = number << KIND_BITS | kinds | share.split
            power_mw = uj // ms
            posting = postings.get(key)
            if posting is None:
                end = start_ms + share.to_ms
                postings[key] = [uj, ms, power_mw, end, share.idle_uj, share.idle_ms]
                continue
            posting[0] += uj
            posting[1] += ms
            if power_mw > posting[2]:  # noqa: PLR1730 - a call to max() costs more than all the rest
                posting[2] = power_mw
            posting[3] = start_ms + share.to_ms
            if share.idle_uj or share.idle_ms:
                posting[4] += share.idle_uj
                posting[5] += share.idle_ms
        pending.postings += len(postings) - size

    def _book_over_slots(
        self,
        pending: Pending,
        base: int,
        meter: MeterBook,
        window: Window,
        start_ms: int,
        end_ms: int,
    ) -> None:
        parts = slots(start_ms, end_ms, self._slot_ms)
        rows = lay([share.uj for share in window.shares], parts) if window.shares else []
        covered = lay([window.covered_ms], parts)[0]
        kinds = kind(window.policy, window.method, 0)
        cells = [self._cell(pending, slot, meter) for slot, _ in parts]
        before = sum(len(cell.postings) for cell in cells)
        for cell, covered_ms in zip(cells, covered, strict=True):
            cell.covered_ms += covered_ms
        for share, row in zip(window.shares, rows, strict=True):
            begins = [max(start_ms + share.from_ms, slot) for slot, _ in parts]
            ends = [min(start_ms + share.to_ms, slot + self._slot_ms) for slot, _ in parts]
            held = [max(0, end - begin) for begin, end in zip(begins, ends, strict=True)]
            idle_uj, idle_ms = _part(share.idle_uj, row), _part(share.idle_ms, held)
            key = _key(base, kinds, share)
            for j, cell in enumerate(cells):
                to_ms = max(begins[j], ends[j])
                cell.add(key, row[j], held[j], to_ms, idle_uj[j], idle_ms[j])
                if share.holder == Account.IDLE and held[j]:
                    _keep(pending, meter, begins[j], ends[j], row[j], kinds)
        pending.postings += sum(len(cell.postings) for cell in cells) - before

    def _cell(self, pending: Pending, slot_ms: int, meter: MeterBook) -> Cell:
        return pending.cell(slot_ms // self._slot_ms, meter.id)


def _keep(
    pending: Pending, meter: MeterBook, from_ms: int, to_ms: int, uj: int, kinds: int
) -> None:
    """Keep what was booked to `idle`, if the meter is one that a scheduler may have granted."""
    if meter.granted and meter.gpu is not None:
        pending.keep_idle(meter.id, meter.gpu, from_ms, to_ms, uj, kinds)


def _part(part: int, wholes: list[int]) -> list[int]:
    """Lay a part of a sum over where the sum was laid; it stays within it everywhere."""
    if not part or not any(wholes):
        return [0] * len(wholes)
    return microjoules.share(part, wholes)


def _key(base: int, kinds: int, share: Share) -> int:
    number = share.holder if share.holder < FIRST_HOLDER else base | share.holder
    return number << KIND_BITS | kinds | share.split


def _is_past(meter: MeterBook, boot_start: int, boot_end: int, same_journal: bool) -> bool:
    """Tell whether this stretch of the same boot is booked, by this journal or another."""
    if boot_end < meter.boot_ms or (boot_end == meter.boot_ms and boot_end > boot_start):
        return True
    return not same_journal and boot_start + SAME_INSTANT_MS < meter.boot_ms


def _is_back(journal: JournalBook, meter: MeterBook, info: EpochInfo, start_ms: int) -> bool:
    """Tell whether a boot that was taken for over goes on: another machine was under its name."""
    if info.boot == meter.info.boot:
        return True
    return info.boot == journal.node.boot and start_ms >= meter.end_ms


def _overlaps(meter: MeterBook, info: EpochInfo, boot_start: int, first_uj: int) -> bool:
    """Tell whether another journal's window begins on joules that are booked.

    Two agents read at different instants of one second. Given up as a whole, such a window
    leaves a gap of exactly what is new in it.
    """
    same_load = (meter.info.boot, meter.info.load) == (info.boot, info.load)
    return same_load and first_uj < meter.uj and boot_start <= meter.boot_ms + SAME_INSTANT_MS


def _same_epoch(mine: EpochInfo, info: EpochInfo, same_journal: bool) -> bool:
    """A wiped journal lost its count of resets, so between journals only the count tells."""
    same_load = mine.boot == info.boot and mine.load == info.load
    return same_load and (mine.reset == info.reset or not same_journal)


def _implausible(meter: MeterBook, boot_start: int, first_uj: int) -> bool:
    elapsed = max(boot_start - meter.boot_ms, 1000)
    return first_uj - meter.uj > MOST_POWER_MW * elapsed
