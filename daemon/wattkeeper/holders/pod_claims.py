"""From what pods hold to claims: alone, a slice, or in turns."""

from collections.abc import Collection, Mapping
from dataclasses import replace

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
    keys = sorted(holders, key=lambda key: (key.manager, key.raw_id, key.birth_ms))
    turns: dict[Hold, dict[HolderKey, int]] = {}
    taken_in_turns = False
    for key in keys:
        for hold in holders[key]:
            of_part = turns.setdefault(replace(hold, replica=""), {})
            of_part[key] = of_part.get(key, 0) + 1
            taken_in_turns |= bool(hold.replica)
    memory: dict[HolderKey, int] = {}
    compute: dict[HolderKey, int] = {}
    instances: dict[HolderKey, list[str]] = {}
    for part, of_part in turns.items():
        uneven = len(set(of_part.values())) > 1
        alone = len(of_part) == 1 and not taken_in_turns
        whole = _WHOLE_PPM if alone or uneven else None
        _add(memory, of_part, part.memory_ppm if part.part else whole)
        _add(compute, of_part, part.compute_ppm)
        if part.part:
            for key in of_part:
                instances.setdefault(key, []).append(part.part)
    return tuple(
        Claim(
            key,
            reserved_ppm=memory.get(key),
            compute_ppm=compute.get(key),
            allocated=True,
            partitions=tuple(sorted(instances.get(key, ()))),
        )
        for key in keys
    )


def _add(sums: dict[HolderKey, int], turns: Mapping[HolderKey, int], ppm: int | None) -> None:
    if ppm is None:
        return
    for key, part in zip(turns, share(ppm, list(turns.values())), strict=True):
        sums[key] = sums.get(key, 0) + part
