"""Whose word counts where ways of seeing disagree about one meter.

Marks and pod-resources are the scheduler's own word. A job-mapping folder is a script's, an
environment the user's who may write into it: the weaker word stands only where the stronger one
leaves room. What was not believed is a conflict, to be shown and counted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.gpus import whole
from wattkeeper.holders.paths import KUBERNETES

_WEAK = {"mapping": 2, "environ": 1}
_OWN_WORD = 3


class Word(NamedTuple):
    """A claim, and which way of seeing makes it."""

    way: str
    claim: Claim

    @property
    def rank(self) -> int:
        """How much it counts: 0 for what is only seen at work on the meter."""
        return _WEAK.get(self.way, _OWN_WORD) if self.claim.allocated else 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """A claim that was not believed, or not alone: of which way, by whom, against whom."""

    kind: str
    meter: str
    holder: HolderKey
    against: tuple[HolderKey, ...]


def settle(
    meter: str,
    words: Sequence[Word],
    marked: Collection[HolderKey],
    pods: Mapping[HolderKey, str],
) -> tuple[list[Claim], list[Conflict]]:
    """Return the claims on one meter that stand, and what was in conflict.

    `marked`: the holders that a mark speaks of, which names all their GPUs. `pods`: the pod in
    which a Slurm job's slurmd runs; the job pays for what the pod was given.
    """
    holders = {word.claim.holder for word in words if word.claim.holder is not None}
    hosts = {pods[key] for key in holders if key in pods}
    words = [word for word in words if not _is_host(word.claim.holder, hosts)]
    seen = [word.claim for word in words if word.rank == 0]
    active = {claim.holder for claim in seen}
    stand: dict[HolderKey, Claim] = {}
    stated: list[Claim] = []
    conflicts: list[Conflict] = []
    for rank in (_OWN_WORD, 2, 1):
        rivals: dict[HolderKey, Word] = {}
        for word in words:
            holder = word.claim.holder
            if word.rank != rank or holder is None or holder in stand:
                continue
            unmarked = rank == _OWN_WORD or holder not in marked or not whole(word.claim)
            if unmarked and _fits(word.claim, stated):
                rivals.setdefault(holder, word)
            else:
                conflicts.append(Conflict(word.way, meter, holder, tuple(stand)))
        believed = _among(rivals, active) if rank < _OWN_WORD else rivals
        for holder, word in rivals.items():
            others = tuple(key for key in rivals if key != holder)
            alone = not others or not any(whole(rival.claim) for rival in rivals.values())
            if not alone:
                conflicts.append(Conflict(word.way, meter, holder, others))
            if holder in believed:
                stated.append(word.claim)
                shared = stand or (len(believed) > 1 and not alone)
                stand[holder] = _as_shared(word.claim) if shared else word.claim
    conflicts += [
        Conflict("processes", meter, claim.holder, tuple(stand))
        for claim in seen
        if claim.holder is not None and _intrudes(claim, stand)
    ]
    return [*stand.values(), *seen], conflicts


def _is_host(holder: HolderKey | None, hosts: Collection[str]) -> bool:
    return holder is not None and holder.manager == KUBERNETES and holder.raw_id in hosts


def _fits(claim: Claim, others: Collection[Claim]) -> bool:
    """Tell whether stronger words leave room: nobody holds the whole, or the same instance."""
    taken = {uuid for other in others for uuid in other.partitions}
    if any(whole(other) for other in others) or not taken.isdisjoint(claim.partitions):
        return False
    return not taken or bool(claim.partitions)


def _among(
    rivals: Mapping[HolderKey, Word], active: Collection[HolderKey | None]
) -> set[HolderKey]:
    """Of several weak words for a whole GPU believe the one whose job is at work on it."""
    if not any(whole(word.claim) for word in rivals.values()):
        return set(rivals)
    working = {key for key in rivals if key in active}
    return working if len(working) == 1 else set(rivals)


def _as_shared(claim: Claim) -> Claim:
    return replace(claim, reserved_ppm=None) if whole(claim) else claim


def _intrudes(claim: Claim, stand: Mapping[HolderKey, Claim]) -> bool:
    """Tell whether a job is at work on what others were given."""
    if not stand or claim.holder in stand:
        return False
    given = {uuid for other in stand.values() for uuid in other.partitions}
    everywhere = any(not other.partitions for other in stand.values())
    return everywhere or not claim.partitions or not given.isdisjoint(claim.partitions)
