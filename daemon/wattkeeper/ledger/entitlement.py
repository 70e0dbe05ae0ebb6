"""What of an idle GPU's stretch belongs to whom: by time, power at rest being flat."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from wattkeeper.model.microjoules import share


class Entitled(NamedTuple):
    """A holder to whom a GPU was granted in [from, to)."""

    holder: int
    from_ms: int
    to_ms: int


def entitle(
    from_ms: int, to_ms: int, uj: int, grants: Sequence[Entitled]
) -> dict[int, tuple[int, int]]:
    """Return microjoules and milliseconds by holder, of a stretch that was booked to `idle`.

    In proportion to time; where several hold the GPU at once, in equal parts. What nobody holds
    is in no answer, and all together is never more than was booked. The order of `grants` does not
    matter.
    """
    if len(grants) == 1 and grants[0].from_ms <= from_ms and to_ms <= grants[0].to_ms:
        return {grants[0].holder: (uj, to_ms - from_ms)}
    stretches = _stretches(from_ms, to_ms, grants)
    if not any(holders for _, holders in stretches):
        return {}
    most = math.lcm(*(len(holders) for _, holders in stretches if holders))
    payers: list[int | None] = []
    weights: list[int] = []
    for length, holders in stretches:
        whose: Sequence[int | None] = holders or [None]
        payers += whose
        weights += [length * most // len(whose)] * len(whose)
    found: dict[int, tuple[int, int]] = {}
    parts = zip(payers, share(uj, weights), share(to_ms - from_ms, weights), strict=True)
    for payer, part_uj, part_ms in parts:
        if payer is not None:
            known_uj, known_ms = found.get(payer, (0, 0))
            found[payer] = (known_uj + part_uj, known_ms + part_ms)
    return found


def _stretches(from_ms: int, to_ms: int, grants: Sequence[Entitled]) -> list[tuple[int, list[int]]]:
    """Cut [from, to) where grants begin or end: (length, who holds it then)."""
    edges = {edge for grant in grants for edge in grant[1:] if from_ms < edge < to_ms}
    cuts = [from_ms, *sorted(edges), to_ms]
    return [
        (end - begin, sorted({g.holder for g in grants if g.from_ms <= begin and end <= g.to_ms}))
        for begin, end in pairwise(cuts)
    ]
