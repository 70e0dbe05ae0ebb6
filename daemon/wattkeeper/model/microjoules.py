"""Whole microjoules: splitting them without losing one, and saying them to people."""

from collections.abc import Sequence

UJ_PER_J = 1_000_000
UJ_PER_MJ = 1_000
"""Microjoules in a millijoule, NVML's unit."""
UJ_PER_KWH = 3_600_000_000_000


def kwh(uj: int) -> float:
    """Return microjoules as kilowatt-hours, for display only: sums stay in whole microjoules."""
    return uj / UJ_PER_KWH


def joules(uj: int) -> float:
    """Return microjoules as joules, for Prometheus only: sums stay in whole microjoules."""
    return uj / UJ_PER_J


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` µJ by whole, non-negative weights; the parts sum to `total` exactly.

    Largest remainder: each part is within one microjoule of its exact value. Ties go to the
    earlier part, so the result depends on nothing but the arguments.

    Raises:
        ValueError: a negative total or weight, or no positive weight.

    """
    whole = sum(weights)
    if total < 0 or whole <= 0 or min(weights) < 0:
        raise ValueError(f"cannot split {total} µJ by weights {list(weights)[:8]}")
    parts = [total * weight // whole for weight in weights]
    left = total - sum(parts)
    if left:
        by_remainder = sorted(range(len(parts)), key=lambda i: -(total * weights[i] % whole))
        for i in by_remainder[:left]:
            parts[i] += 1
    return parts


def spread(rows: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """Split every row over the same columns; rows and columns both sum exactly.

    This is the one function by which a recovered stretch of time is laid over slots. The
    columns' totals are `share(sum(rows), weights)`, whatever the rows are, so the shares of a
    window and the reading that checks them agree in each slot.

    Returns one list per row, as long as `weights`; every cell is non-negative.
    """
    columns = share(sum(rows), weights)
    whole = sum(weights)
    cells = [[row * weight // whole for weight in weights] for row in rows]
    owed = [total - sum(cell[j] for cell in cells) for j, total in enumerate(columns)]
    j = 0
    for row, cell in zip(rows, cells, strict=True):
        left = row - sum(cell)
        while left:
            step = min(left, owed[j])
            cell[j] += step
            owed[j] -= step
            left -= step
            if left:
                j += 1
    return cells
