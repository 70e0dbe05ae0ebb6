"""What several ways of seeing say of one meter, made one claim per holder."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from wattkeeper.holders.base import Claim, HolderKey


def merge(claims: Iterable[Claim], *, all_seen: bool) -> tuple[Claim, ...]:
    """Merge the claims on one meter: one per holder.

    Where a scheduler allocated the meter, only its holders are on it, with the activity that their
    processes show; what else runs there is not booked to anybody else. Where it allocated MIG
    instances, that goes for these instances: who is on others stays.

    `all_seen`: every process on the meter is among the claims. Whoever has none does nothing.
    """
    by_holder: dict[HolderKey | None, list[Claim]] = {}
    for claim in claims:
        by_holder.setdefault(claim.holder, []).append(claim)
    merged = [_one(same, all_seen=all_seen) for same in by_holder.values()]
    allocated = [claim for claim in merged if claim.allocated]
    if not allocated:
        return tuple(merged)
    return tuple(claim for claim in merged if claim.allocated or _is_elsewhere(claim, allocated))


def _one(same: Sequence[Claim], *, all_seen: bool) -> Claim:
    """Merge a holder's claims: activity as first told, reservations as the scheduler says them."""
    first = same[0]
    by_word = sorted(same, key=lambda claim: not claim.allocated)
    stated = next((c for c in by_word if (c.reserved_ppm, c.compute_ppm) != (None, None)), first)
    weight = next((c.weight for c in same if c.weight is not None), None)
    allocated = any(claim.allocated for claim in same)
    if weight is None and all_seen and all(claim.allocated for claim in same):
        weight = 0  # no process of its own, where all are known
    return replace(stated, holder=first.holder, weight=weight, allocated=allocated)


def _is_elsewhere(claim: Claim, allocated: Sequence[Claim]) -> bool:
    """Tell whether a claim is on MIG instances that nobody was given."""
    if not claim.partitions or not all(other.partitions for other in allocated):
        return False
    given = {uuid for other in allocated for uuid in other.partitions}
    return given.isdisjoint(claim.partitions)
