"""From what pods hold to claims: alone, a slice, or in turns."""

from collections.abc import Collection, Mapping

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.pod_devices import Hold
from wattkeeper.model.microjoules import share

_WHOLE_PPM = 1_000_000


def claims(held: Mapping[HolderKey, Collection[Hold]]) -> dict[str, tuple[Claim, ...]]:
    """Return the claims by meter; each holder has one per meter, `allocated`.

    Who has a GPU alone has reserved all of it, who has a MIG instance that instance's part. A GPU
    that pods take in turns is reserved by nobody, so that the splitter goes by activity; only
    where one of them has more turns than another, each has reserved its part of the turns.
    """
    by_meter: dict[str, dict[HolderKey, set[Hold]]] = {}
    for key, holds in held.items():
        for hold in holds:
            by_meter.setdefault(hold.meter, {}).setdefault(key, set()).add(hold)
    return {meter: _on_meter(holders) for meter, holders in by_meter.items()}


def _on_meter(holders: Mapping[HolderKey, set[Hold]]) -> tuple[Claim, ...]:
    turns: dict[str, dict[HolderKey, int]] = {}
    parts: dict[str, Hold] = {}
    for key in sorted(holders, key=lambda k: (k.manager, k.raw_id, k.birth_ms)):
        for hold in holders[key]:
            of_part = turns.setdefault(hold.part, {})
            of_part[key] = of_part.get(key, 0) + 1
            parts[hold.part] = hold
    memory: dict[HolderKey, int] = {}
    compute: dict[HolderKey, int] = {}
    for part, of_part in sorted(turns.items()):
        hold = parts[part]
        _add(memory, of_part, hold.memory_ppm if part else _reserved(hold, of_part))
        _add(compute, of_part, hold.compute_ppm)
    return tuple(
        Claim(key, reserved_ppm=memory.get(key), compute_ppm=compute.get(key), allocated=True)
        for key in sorted(holders, key=lambda k: (k.manager, k.raw_id, k.birth_ms))
    )


def _reserved(hold: Hold, turns: Mapping[HolderKey, int]) -> int | None:
    """Return what is reserved of a whole GPU by all that have turns on it, None if nothing is."""
    alone = len(turns) == 1 and not hold.replica
    uneven = len(set(turns.values())) > 1
    return _WHOLE_PPM if alone or uneven else None


def _add(sums: dict[HolderKey, int], turns: Mapping[HolderKey, int], ppm: int | None) -> None:
    if ppm is None:
        return
    for key, part in zip(turns, share(ppm, list(turns.values())), strict=True):
        sums[key] = sums.get(key, 0) + part
