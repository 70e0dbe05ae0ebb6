"""The split of one interval's energy over the claims on its meter. Pure, exact, order-free."""

from collections.abc import Sequence
from typing import NamedTuple

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component
from wattkeeper.model.microjoules import share
from wattkeeper.model.window import Policy, Split

_WHOLE_PPM = 1_000_000

Payer = HolderKey | Account


class Part(NamedTuple):
    """What one payer owes of an interval; `idle`: it was allocated while nothing of it ran."""

    payer: Payer
    uj: int
    split: Split
    idle: bool = False


def split(
    component: Component,
    uj: int,
    static_uj: int,
    claims: Sequence[Claim],
    policy: Policy = Policy.IDLE,
    utilization_ppm: int | None = None,
) -> list[Part]:
    """Split `uj` microjoules; the parts sum to it exactly.

    Nobody: `idle`. A sole claim on a whole GPU: all of it. Otherwise the static part (what the
    meter draws at rest, at most `uj`) goes by reserved fraction, its unreserved rest by `policy`;
    the dynamic part by measured activity. `utilization_ppm`: of the whole meter, None if unknown.

    A GPU that several hold without a stated reservation is reserved in equal parts: each of them
    keeps it from resting. On a CPU nobody has reserved what no cpuset says.
    """
    if not claims:
        return [Part(Account.IDLE, uj, Split.EXCLUSIVE)]
    idle = _idle(component, claims, utilization_ppm)
    if len(claims) == 1 and component is Component.GPU and _is_whole(claims[0]):
        return [Part(_payer(claims[0]), uj, Split.EXCLUSIVE, idle[0])]
    static = min(uj, static_uj)
    parts = [0] * (len(claims) + 1)
    if static:
        parts = share(static, _static_by(component, claims, policy))
    if uj > static:
        dynamic = share(uj - static, _dynamic_by(component, claims, policy))
        parts = [a + b for a, b in zip(parts, dynamic, strict=True)]
    payers: list[Payer] = [*(_payer(claim) for claim in claims), Account.IDLE]
    return [
        Part(payer, part, Split.SHARED, rests)
        for payer, part, rests in zip(payers, parts, [*idle, False], strict=True)
        if part or isinstance(payer, HolderKey)
    ]


def _payer(claim: Claim) -> Payer:
    return Account.SYSTEM if claim.holder is None else claim.holder


def _is_whole(claim: Claim) -> bool:
    """Tell whether nothing of the GPU is left to others. A MIG instance or a shard leaves some."""
    stated = (claim.reserved_ppm, claim.compute_ppm)
    return all(ppm is None or ppm >= _WHOLE_PPM for ppm in stated)


def _idle(
    component: Component, claims: Sequence[Claim], utilization_ppm: int | None
) -> Sequence[bool]:
    """Tell of each claim whether it is allocated while nothing of its holder ran.

    That is so where nothing at all ran; and where nothing of this holder's did (weight 0), unless
    the meter says that something ran and no claim owns up to it: then the weights are too old.
    """
    if component is not Component.GPU:
        return [False] * len(claims)
    told = utilization_ppm is None or any(claim.weight != 0 for claim in claims)
    return [
        claim.allocated
        and claim.holder is not None
        and (utilization_ppm == 0 or (claim.weight == 0 and told))
        for claim in claims
    ]


class _Reserved(NamedTuple):
    """What each claim has reserved of `whole`, in any unit; never more in sum."""

    parts: list[int]
    whole: int

    def with_rest(self, claims: Sequence[Claim], policy: Policy) -> list[int]:
        """Add what is not reserved: to `idle`, or by policy to the holders.

        Where no holder has reserved anything (CPUs without cpusets) they pay it by activity.
        """
        idle = self.whole - sum(self.parts)
        if policy is Policy.IDLE:
            return [*self.parts, idle]
        if any(self.parts):
            return [*self.parts, 0]
        active = [0 if claim.holder is None else claim.weight or 0 for claim in claims]
        return [*active, 0 if any(active) else idle]


def _reserved(component: Component, stated: Sequence[int | None]) -> _Reserved:
    """Return the reservations that were stated in ppm; on a GPU without any, equal parts."""
    known = [ppm or 0 for ppm in stated]
    if not any(known) and component is Component.GPU:
        return _Reserved([1] * len(known), len(known))
    return _Reserved(known, max(_WHOLE_PPM, sum(known)))


def _static_by(component: Component, claims: Sequence[Claim], policy: Policy) -> list[int]:
    """Weights of the static part, the last one that of `idle`."""
    return _reserved(component, [claim.reserved_ppm for claim in claims]).with_rest(claims, policy)


def _dynamic_by(component: Component, claims: Sequence[Claim], policy: Policy) -> list[int]:
    """Weights of the dynamic part: activity; by reservation where it is unknown, or all zero.

    A GPU's claim of unknown activity has something running that nobody measured: whoever is not
    known to be inactive pays then, each by its part of the compute units.
    """
    weights = [claim.weight or 0 for claim in claims]
    stated = [c.reserved_ppm if c.compute_ppm is None else c.compute_ppm for c in claims]
    reserved = _reserved(component, stated)
    if component is Component.GPU and any(claim.weight is None for claim in claims):
        unknown = [
            0 if claim.weight == 0 else part
            for claim, part in zip(claims, reserved.parts, strict=True)
        ]
        if any(unknown):
            return [*unknown, 0]
        weights = [int(claim.weight is None) for claim in claims]
    return [*weights, 0] if any(weights) else reserved.with_rest(claims, policy)
