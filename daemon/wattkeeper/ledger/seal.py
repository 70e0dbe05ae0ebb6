"""Laying energy over slots, and sealing the chain of points: shared by intake and balance."""

import struct
from collections.abc import Sequence
from hashlib import blake2b

from wattkeeper.model.grid import DAY_MS, cells, floor
from wattkeeper.model.microjoules import spread

LONGEST_MS = 400 * DAY_MS
"""A stretch beyond this is a clock that was years off; it is laid into its first slot alone."""

_FIELDS = struct.Struct("<qqqqq")


def slots(from_ms: int, to_ms: int, slot_ms: int) -> list[tuple[int, int]]:
    """Cut [from, to) at the slots: (slot's start, milliseconds inside it), never empty."""
    if to_ms - from_ms > LONGEST_MS:
        return [(floor(from_ms, slot_ms), to_ms - from_ms)]
    return list(cells(from_ms, to_ms, slot_ms))


def lay(rows: Sequence[int], parts: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Lay every row of whole numbers over the parts that `slots` gave; one list per row."""
    if len(parts) == 1:
        return [[row] for row in rows]
    return spread(rows, [ms for _, ms in parts])


def seal(previous: int, n: int, epoch: int, at_ms: int, value_uj: int) -> int:
    """Return the seal of a point: a 64-bit digest over the seal before it and its figures."""
    packed = _FIELDS.pack(previous, n, epoch, at_ms, value_uj)
    return int.from_bytes(blake2b(packed, digest_size=8).digest(), "little", signed=True)
