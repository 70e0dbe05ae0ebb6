"""The fixed UTC grid of windows and slots. All instants are UTC milliseconds."""

from collections.abc import Iterator

DAY_MS = 86_400_000
SLOTS_MS = (300_000, 900_000, 1_800_000, 3_600_000)
"""The slot lengths that a ledger may have: 5, 15, 30 and 60 minutes."""


def floor(at_ms: int, step_ms: int) -> int:
    """Return the start of the grid cell of `step_ms` that holds the instant `at_ms`."""
    return at_ms - at_ms % step_ms


def ceil(at_ms: int, step_ms: int) -> int:
    """Return the first grid line at or after the instant `at_ms`."""
    return -(-at_ms // step_ms) * step_ms


def cells(from_ms: int, to_ms: int, step_ms: int) -> Iterator[tuple[int, int]]:
    """Cut the stretch [from, to) at the grid lines: yields (cell start, milliseconds inside it).

    An empty or backward stretch (a clock that stepped back) yields the cell of `from_ms` with 0.
    """
    cell = floor(from_ms, step_ms)
    if to_ms <= from_ms:
        yield cell, 0
        return
    while cell < to_ms:
        yield cell, min(to_ms, cell + step_ms) - max(from_ms, cell)
        cell += step_ms
