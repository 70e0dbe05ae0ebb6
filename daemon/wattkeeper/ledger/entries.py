"""What a delivery says of itself: who delivers, and the entries of its dictionary."""

from zlib import crc32

from wattkeeper.delivery.wire import GENESIS, Batch
from wattkeeper.ledger.checks import MOST
from wattkeeper.ledger.journals import JournalBook
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.model.holder import FIRST_HOLDER, MAX_LABEL

MOST_ENTRIES = 1 << 31
"""Dictionary numbers stay below, so that a holder's id fits 64 bits."""
MOST_METERS = 4096
"""Meters that a node ever had: each takes memory here for as long as the node has books."""
MOST_EPOCHS = 1 << 16
"""Epochs that a journal ever had: they are in memory, too."""
_NUL = "\0"
_A_NAME = f"1 to {MAX_LABEL} characters that can be printed"


def check_entries(journal: JournalBook, batch: Batch) -> None:
    """Refuse a delivery whose dictionary cannot be, or gives known numbers another meaning.

    Raises:
        Refusal: `invalid` or `fork`.

    """
    for number in (*batch.meters, *batch.epochs, *batch.holders):
        if not 0 < number < MOST_ENTRIES:
            raise Refusal("invalid", f"dictionary: number {number} is out of range")
    _check_meters(journal, batch)
    if max(batch.epochs, default=0) > MOST_EPOCHS:
        raise Refusal("invalid", f"epochs: a journal has at most {MOST_EPOCHS}")
    for number, epoch in batch.epochs.items():
        texts = _is_name(epoch.boot or "-") and _is_name(epoch.load or "-")
        if not texts or not 0 <= epoch.reset < MOST:
            raise Refusal("invalid", f"epochs: {number}: boot, load or reset is out of range")
        if journal.epochs.get(number, epoch) != epoch:
            raise Refusal("fork", f"epochs: {number} was another epoch before")
    _check_holders(journal, batch)


def _check_meters(journal: JournalBook, batch: Batch) -> None:
    for number, meter in batch.meters.items():
        if not _is_name(meter.name):
            raise Refusal("invalid", f"meters: {number}: name must have {_A_NAME}")
        known = journal.meters.get(number)
        if known is not None and known.name != meter.name:
            raise Refusal("fork", f"meters: {number} was {known.name}, is now {meter.name}")
    new = {meter.name for meter in batch.meters.values()} - journal.node.meters.keys()
    if len(journal.node.meters) + len(new) > MOST_METERS:
        raise Refusal("invalid", f"meters: a node has at most {MOST_METERS}")


def _check_holders(journal: JournalBook, batch: Batch) -> None:
    for number, holder in batch.holders.items():
        if number < FIRST_HOLDER:
            raise Refusal("invalid", f"holders: {number} is below {FIRST_HOLDER}")
        if not 0 <= holder.birth_ms < MOST:
            raise Refusal("invalid", f"holders: {number}: birth_ms is out of range")
        if _NUL in holder.manager or _NUL in holder.raw_id:
            raise Refusal("invalid", f"holders: {number}: a NUL is in manager or raw_id")
        if journal.recent.get(
            number, fingerprint(holder.manager, holder.raw_id, holder.birth_ms)
        ) != fingerprint(holder.manager, holder.raw_id, holder.birth_ms):
            raise Refusal("fork", f"holders: {number} was another holder before")


def check_identity(batch: Batch) -> None:
    """Refuse a delivery that does not say properly who delivers.

    Raises:
        Refusal: `invalid`.

    """
    if not 0 <= batch.wall_ms < MOST or not 0 <= batch.boot_ms < MOST:
        raise Refusal("invalid", "wall_ms, boot_ms: out of range")
    for name in ("node", "journal", "boot"):
        if not _is_name(getattr(batch, name)):
            raise Refusal("invalid", f"{name}: must have {_A_NAME}")
    for name in ("cluster", "fork_of"):
        if not _is_name(getattr(batch, name) or "-"):
            raise Refusal("invalid", f"{name}: must be empty or have {_A_NAME}")
    if batch.first < 1 or batch.oldest < 1:
        raise Refusal("invalid", f"first: {batch.first} and oldest: {batch.oldest} begin at 1")
    if len(batch.previous) != len(GENESIS):
        raise Refusal("invalid", f"previous: must have {len(GENESIS)} bytes")


def _is_name(text: str) -> bool:
    """Names stand in logs, in which a line break would begin somebody else's line."""
    return 0 < len(text) <= MAX_LABEL and text.isprintable()


def fingerprint(manager: str, raw_id: str, birth_ms: int) -> int:
    """Return a holder's identity in 32 bits: thousands of journals remember their newest ones."""
    return crc32(f"{manager}\0{raw_id}\0{birth_ms}".encode())
