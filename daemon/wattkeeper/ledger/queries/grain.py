"""How finely in time a report tells energy apart: no finer than what is asked of it needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from wattkeeper.model.grid import DAY_MS, floor

_MOST_STRETCHES = 50
"""Stretches in one statement; beyond, all time between the first and the last is one."""


@dataclass(frozen=True, slots=True)
class Grain:
    """Energy is told by UTC day, and by `step_ms` within `fine`, stretches of whole UTC days.

    The edges of a time that is not of whole days are told by `step_ms` too.
    """

    step_ms: int
    fine: tuple[tuple[int, int], ...] = ()


def grain(lines: Iterable[int], since_ms: int, until_ms: int) -> Grain | None:
    """Return a grain that lets no sum lie on both sides of a line; None if there are no lines.

    `lines`: instants on slot lines. Those outside of (since, until) do not count.
    """
    inside = sorted({line for line in lines if since_ms < line < until_ms})
    if not inside:
        return None
    step_ms = gcd(DAY_MS, *inside)
    stretches: list[tuple[int, int]] = []
    for line in inside:
        day = floor(line, DAY_MS)
        if day == line:
            continue
        if stretches and stretches[-1][1] >= day:
            stretches[-1] = (stretches[-1][0], day + DAY_MS)
        else:
            stretches.append((day, day + DAY_MS))
    if len(stretches) > _MOST_STRETCHES:
        stretches = [(stretches[0][0], stretches[-1][1])]
    return Grain(step_ms, tuple(stretches))
