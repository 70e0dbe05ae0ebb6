"""The split: exact, order-free, and fair in the ways it promises."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from tests.metering.build import job
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.metering.splitting import Payer, split
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component
from wattkeeper.model.window import Split

_UJ = st.integers(0, 10**15)
_COMPONENTS = st.sampled_from([Component.GPU, Component.CPU, Component.DRAM])
_CLAIMS = st.lists(
    st.tuples(st.none() | st.integers(0, 10**7), st.none() | st.integers(0, 1_200_000)),
    max_size=6,
).map(lambda rows: [Claim(job(n), weight, ppm) for n, (weight, ppm) in enumerate(rows)])


def paid(component: Component, uj: int, static: int, claims: list[Claim]) -> dict[Payer, int]:
    """Return what each payer owes."""
    owed: dict[Payer, int] = {}
    for payer, part, _ in split(component, uj, static, claims):
        owed[payer] = owed.get(payer, 0) + part
    return owed


@given(_COMPONENTS, _UJ, _UJ, _CLAIMS)
def test_parts_sum_and_none_is_negative(
    component: Component, uj: int, static: int, claims: list[Claim]
) -> None:
    """Conservation, whatever is claimed; every holder is named, also with nothing to pay."""
    parts = split(component, uj, static, claims)
    assert sum(part.uj for part in parts) == uj
    assert all(part.uj >= 0 for part in parts)
    named = {part.payer for part in parts if isinstance(part.payer, HolderKey)}
    assert named == {claim.holder for claim in claims}


@given(_COMPONENTS, _UJ, _UJ, _CLAIMS.filter(lambda claims: 0 < len(claims) < 5))
def test_order_matters_only_to_ties(
    component: Component, uj: int, static: int, claims: list[Claim]
) -> None:
    """Whoever is listed first gains at most the odd microjoules."""
    first = paid(component, uj, static, claims)
    for other in permutations(claims):
        again = paid(component, uj, static, list(other))
        assert all(abs(first.get(p, 0) - again.get(p, 0)) <= 3 for p in {*first, *again})


@given(_UJ, _UJ, st.none() | st.integers(0, 10**6))
def test_a_sole_holder_of_a_gpu_pays_all(uj: int, static: int, ppm: int | None) -> None:
    """Also what the GPU draws at rest, and however little it did."""
    (part,) = split(Component.GPU, uj, static, [Claim(job(1), 0, ppm)])
    assert (part.payer, part.uj, part.split) == (job(1), uj, Split.EXCLUSIVE)


@given(_COMPONENTS, _UJ, _UJ)
def test_nobody_is_idle(component: Component, uj: int, static: int) -> None:
    """A meter without claims pays to idle."""
    (part,) = split(component, uj, static, [])
    assert (part.payer, part.uj, part.split) == (Account.IDLE, uj, Split.EXCLUSIVE)


def test_without_activity_reservation_decides() -> None:
    """All weights zero: by reserved fraction, the unreserved rest is idle."""
    claims = [Claim(job(1), 0, 250_000), Claim(job(2), 0, 500_000)]
    for component in (Component.GPU, Component.CPU):
        owed = paid(component, 1000, 400, claims)
        assert owed == {job(1): 250, job(2): 500, Account.IDLE: 250}


def test_static_goes_by_reservation_and_dynamic_by_activity() -> None:
    """What it draws at rest by reserved part, the rest by what was done."""
    claims = [Claim(job(1), 900, 500_000), Claim(job(2), 100, 500_000)]
    assert paid(Component.CPU, 1400, 400, claims) == {job(1): 1100, job(2): 300}


def test_the_machines_own_processes_are_system() -> None:
    """A claim without a holder pays to `system`."""
    claims = [Claim(None, 300), Claim(job(1), 700)]
    assert paid(Component.CPU, 1000, 0, claims) == {Account.SYSTEM: 300, job(1): 700}


def test_more_reserved_than_there_is_is_scaled_down() -> None:
    """Oversubscribed: in proportion, nothing left for idle."""
    claims = [Claim(job(1), None, 1_000_000), Claim(job(2), None, 1_000_000)]
    assert paid(Component.GPU, 1001, 1001, claims) == {job(1): 501, job(2): 500}
