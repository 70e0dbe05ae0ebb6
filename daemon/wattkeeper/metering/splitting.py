"""The split of one interval's energy over the claims on its meter. Pure, exact, order-free."""

from collections.abc import Sequence
from typing import NamedTuple

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component
from wattkeeper.model.microjoules import share
from wattkeeper.model.window import Split

_WHOLE_PPM = 1_000_000

Payer = HolderKey | Account


class Part(NamedTuple):
    """What one payer owes of an interval."""

    payer: Payer
    uj: int
    split: Split


def split(component: Component, uj: int, static_uj: int, claims: Sequence[Claim]) -> list[Part]:
    """Split `uj` microjoules; the parts sum to it exactly.

    Nobody: `idle`. A sole claim: all of it. Otherwise the static part (what the meter draws at
    rest, at most `uj`) goes by reserved fraction, the unreserved rest of it to `idle`; the dynamic
    part by measured activity, by reservation where no activity was measured.

    A GPU that several hold without a stated reservation is reserved in equal parts: each of them
    keeps it from resting. On a CPU nobody has reserved what no cpuset says.
    """
    if not claims:
        return [Part(Account.IDLE, uj, Split.EXCLUSIVE)]
    if len(claims) == 1 and component is Component.GPU:
        return [Part(_payer(claims[0]), uj, Split.EXCLUSIVE)]
    reserved = _reservations(component, claims)
    weights = [claim.weight or 0 for claim in claims]
    static = min(uj, static_uj)
    idle = max(0, _WHOLE_PPM - sum(reserved))
    parts = share(static, [*reserved, idle]) if static else [0] * (len(claims) + 1)
    if uj > static:
        by = [*weights, 0] if any(weights) else [*reserved, idle]
        parts = [a + b for a, b in zip(parts, share(uj - static, by), strict=True)]
    payers: list[Payer] = [*(_payer(claim) for claim in claims), Account.IDLE]
    return [
        Part(payer, part, Split.SHARED)
        for payer, part in zip(payers, parts, strict=True)
        if part or isinstance(payer, HolderKey)
    ]


def _payer(claim: Claim) -> Payer:
    return Account.SYSTEM if claim.holder is None else claim.holder


def _reservations(component: Component, claims: Sequence[Claim]) -> list[int]:
    """Parts per million of the device that each claim has reserved, at most the whole in sum."""
    stated = [claim.reserved_ppm or 0 for claim in claims]
    if not any(stated) and component is Component.GPU:
        return share(_WHOLE_PPM, [1] * len(claims))
    return share(_WHOLE_PPM, stated) if sum(stated) > _WHOLE_PPM else stated
