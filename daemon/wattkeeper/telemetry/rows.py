"""Windows become rows: names instead of numbers, and cut where five minutes begin."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from wattkeeper.model import grid
from wattkeeper.model.holder import FIRST_HOLDER, Account
from wattkeeper.model.meter import MeterInfo, Method
from wattkeeper.model.microjoules import share, spread
from wattkeeper.model.window import Share, Split, Stats, Window
from wattkeeper.telemetry.base import Part, Place, Row

LINE_MS = 300_000
"""No row crosses a multiple of this, so that coarser rows are sums of whole ones."""

_METHODS = {method: method.name.lower() for method in Method}
_NOBODY = {account.value: account.name.lower() for account in Account}


class HolderName(NamedTuple):
    """A holder as rows name it."""

    manager: str
    workload: str
    birth_ms: int


class Dictionary(Protocol):
    """What a journal's numbers mean."""

    def place(self, number: int) -> Place:
        """Return a meter."""

    def holder(self, number: int) -> HolderName:
        """Return a holder."""


def place_of(cluster: str, node: str, info: MeterInfo) -> Place:
    """Return how rows name a meter."""
    labels: Mapping[str, str] = info.labels
    _, _, rest = info.name.partition("/")
    return Place(
        cluster,
        node,
        info.name,
        info.component.value,
        labels.get("uuid", rest),
        labels.get("gpu", ""),
        labels.get("model", ""),
        info.source,
    )


def rows_of(window: Window, start_ms: int, names: Dictionary) -> Iterator[Row]:
    """Yield the rows of a window that began at `start_ms`, in the aggregator's time."""
    end_ms = start_ms + window.end_ms - window.start_ms
    parts = [_part(one, names) for one in window.shares]
    whole = Row(
        names.place(window.meter),
        start_ms,
        end_ms,
        window.covered_ms,
        window.energy_uj,
        _METHODS[window.method],
        any(one.split is Split.RECOVERED for one in window.shares),
        parts,
        window.stats,
    )
    if end_ms <= start_ms - start_ms % LINE_MS + LINE_MS:
        yield whole
    else:
        yield from _cut(whole)


def _part(one: Share, names: Dictionary) -> Part:
    if one.holder < FIRST_HOLDER:
        account = _NOBODY[one.holder]
        return Part(account, "", "", 0, one.from_ms, one.to_ms, one.uj, one.idle_uj)
    manager, workload, birth_ms = names.holder(one.holder)
    return Part(
        "workload", manager, workload, birth_ms, one.from_ms, one.to_ms, one.uj, one.idle_uj
    )


def _cut(row: Row) -> Iterator[Row]:
    """Lay a long row over five-minute cells: whole microjoules, in proportion to time."""
    cells = list(grid.cells(row.start_ms, row.end_ms, LINE_MS))
    weights = [ms for _, ms in cells]
    covered = share(row.covered_ms, weights)
    energies = spread([part.uj for part in row.parts], weights) if row.parts else []
    idle = [_within(part.idle_uj, laid) for part, laid in zip(row.parts, energies, strict=True)]
    throttled = None
    if row.stats is not None and row.stats.throttled_ms is not None:
        throttled = share(row.stats.throttled_ms, weights)
    at_ms = row.start_ms
    for i, (_, ms) in enumerate(cells):
        parts = [
            replace(
                part,
                from_ms=_clip(row.start_ms + part.from_ms - at_ms, ms),
                to_ms=_clip(row.start_ms + part.to_ms - at_ms, ms),
                uj=energies[j][i],
                idle_uj=idle[j][i],
            )
            for j, part in enumerate(row.parts)
        ]
        yield replace(
            row,
            start_ms=at_ms,
            end_ms=at_ms + ms,
            covered_ms=covered[i],
            uj=sum(part.uj for part in parts),
            parts=[part for part in parts if part.uj or part.to_ms > part.from_ms],
            stats=_stats(row.stats, throttled[i] if throttled else None),
        )
        at_ms += ms


def _within(part: int, wholes: Sequence[int]) -> list[int]:
    """Lay a part of a sum over where the sum was laid; it stays within it everywhere."""
    return share(part, wholes) if part and any(wholes) else [0] * len(wholes)


def _clip(ms: int, most_ms: int) -> int:
    return max(0, min(ms, most_ms))


def _stats(stats: Stats | None, throttled_ms: int | None) -> Stats | None:
    if stats is None:
        return None
    return Stats(
        stats.power_mw,
        stats.temperature_mc,
        stats.utilization_ppm,
        stats.memory_used_bytes,
        stats.clock_khz,
        throttled_ms,
    )
