"""The split: exact, order-free, and fair in the ways it promises."""

from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from tests.metering.build import job
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.metering.splitting import Payer, split
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component
from wattkeeper.model.window import Policy, Split

_UJ = st.integers(0, 10**15)
_COMPONENTS = st.sampled_from([Component.GPU, Component.CPU, Component.DRAM])
_POLICIES = st.sampled_from(Policy)
_WEIGHT = st.none() | st.just(0) | st.integers(0, 10**7)
_PPM = st.none() | st.integers(0, 1_200_000)
_USE = st.none() | st.just(0) | st.integers(0, 10**6)
_CLAIMS = st.lists(st.tuples(_WEIGHT, _PPM, _PPM, st.booleans()), max_size=6).map(
    lambda rows: [Claim(job(n), *row) for n, row in enumerate(rows)]
)
_SLICES = st.lists(
    st.tuples(_WEIGHT, st.sampled_from([125_000, 250_000, 500_000]), st.booleans()),
    min_size=1,
    max_size=4,
).filter(lambda rows: sum(ppm for _, ppm, _ in rows) <= 1_000_000)


def paid(
    component: Component,
    uj: int,
    static: int,
    claims: list[Claim],
    policy: Policy = Policy.IDLE,
) -> dict[Payer, int]:
    """Return what each payer owes."""
    owed: dict[Payer, int] = {}
    for part in split(component, uj, static, claims, policy):
        owed[part.payer] = owed.get(part.payer, 0) + part.uj
    return owed


def resting(claims: list[Claim], utilization_ppm: int | None) -> list[str]:
    """Return the raw ids of the holders whose part is called idle."""
    parts = split(Component.GPU, 1000, 100, claims, Policy.IDLE, utilization_ppm)
    return [p.payer.raw_id for p in parts if p.idle and isinstance(p.payer, HolderKey)]


@given(_COMPONENTS, _UJ, _UJ, _CLAIMS, _POLICIES, _USE)
def test_parts_sum_and_none_is_negative(
    component: Component,
    uj: int,
    static: int,
    claims: list[Claim],
    policy: Policy,
    use: int | None,
) -> None:
    """Conservation, whatever is claimed; every holder is named, also with nothing to pay."""
    parts = split(component, uj, static, claims, policy, use)
    assert sum(part.uj for part in parts) == uj
    assert all(part.uj >= 0 for part in parts)
    assert all(component is Component.GPU for part in parts if part.idle)
    allowed = {*(claim.holder for claim in claims), Account.IDLE}
    assert {part.payer for part in parts} <= allowed
    named = {part.payer for part in parts if isinstance(part.payer, HolderKey)}
    assert named == {claim.holder for claim in claims}


@given(_COMPONENTS, _UJ, _UJ, _CLAIMS.filter(lambda claims: 0 < len(claims) < 5), _POLICIES)
def test_order_matters_only_to_ties(
    component: Component, uj: int, static: int, claims: list[Claim], policy: Policy
) -> None:
    """Whoever is listed first gains at most the odd microjoules."""
    first = paid(component, uj, static, claims, policy)
    for other in permutations(claims):
        again = paid(component, uj, static, list(other), policy)
        assert all(abs(first.get(p, 0) - again.get(p, 0)) <= 3 for p in {*first, *again})


@given(_UJ, _UJ, _WEIGHT, st.sampled_from([None, 1_000_000]), _POLICIES)
def test_a_sole_holder_of_a_whole_gpu_pays_all(
    uj: int, static: int, weight: int | None, ppm: int | None, policy: Policy
) -> None:
    """Also what the GPU draws at rest, and however little it did."""
    (part,) = split(Component.GPU, uj, static, [Claim(job(1), weight, ppm, ppm)], policy)
    assert (part.payer, part.uj, part.split) == (job(1), uj, Split.EXCLUSIVE)


def test_a_sole_holder_of_a_part_does_not_pay_for_the_rest() -> None:
    """A shard or a MIG instance alone on its GPU: static by its part, all that was done."""
    shard = [Claim(job(1), 7, 250_000, allocated=True)]
    assert paid(Component.GPU, 1000, 400, shard) == {job(1): 700, Account.IDLE: 300}
    instance = [Claim(job(1), None, 125_000, 142_857, allocated=True)]
    assert paid(Component.GPU, 1000, 400, instance) == {job(1): 650, Account.IDLE: 350}
    assert paid(Component.GPU, 1000, 400, instance, Policy.HOLDERS) == {job(1): 1000}


@given(_UJ, _UJ, _SLICES, _POLICIES)
def test_a_holder_of_a_slice_never_pays_anothers(
    uj: int, static: int, rows: list[tuple[int | None, int, bool]], policy: Policy
) -> None:
    """Static: no more than its memory by IDLE; dynamic: nothing where another alone ran."""
    claims = [Claim(job(n), w, ppm, ppm, held) for n, (w, ppm, held) in enumerate(rows)]
    owed = paid(Component.GPU, uj, static, claims, policy)
    static = min(uj, static)
    runs = [claim.weight != 0 for claim in claims]
    for claim, ran in zip(claims, runs, strict=True):
        if any(runs) and not ran:
            reserved = sum(c.reserved_ppm or 0 for c in claims)
            most = 1_000_000 if policy is Policy.IDLE else reserved
            assert (
                owed[claim.holder or Account.SYSTEM]
                <= static * (claim.reserved_ppm or 0) // most + 1
            )


@given(_COMPONENTS, _UJ, _UJ, _CLAIMS, st.integers(1, 10**7), st.data())
def test_more_activity_never_costs_less(
    component: Component, uj: int, static: int, claims: list[Claim], more: int, data: st.DataObject
) -> None:
    """Where all activity is known, a greater weight pays more, to a microjoule or two."""
    known = [replace(claim, weight=claim.weight or 0) for claim in claims]
    if not known:
        return
    i = data.draw(st.integers(0, len(known) - 1))
    raised = [*known]
    raised[i] = replace(known[i], weight=(known[i].weight or 0) + more)
    holder = known[i].holder
    assert holder is not None
    before = paid(component, uj, static, known)[holder]
    assert paid(component, uj, static, raised)[holder] >= before - 2


def test_allocated_is_idle_where_nothing_ran() -> None:
    """The GPU's own word first; without it (MIG) the holder's processes; else not idle."""
    held, seen = Claim(job(1), None, allocated=True), Claim(job(2), None)
    assert resting([held], 0) == ["1"]
    assert resting([held], 300_000) == []
    assert resting([held], None) == []
    assert resting([seen], 0) == []
    assert resting([held, seen], 0) == ["1"]


def test_one_of_several_is_idle_while_another_runs() -> None:
    """A weight of zero beside another's; but not where nobody owns up to what ran."""
    one, other = Claim(job(1), 0, allocated=True), Claim(job(2), 5, allocated=True)
    assert resting([one, other], 300_000) == ["1"]
    assert resting([one, replace(other, weight=None)], 300_000) == ["1"]
    assert resting([one, replace(other, weight=0)], 300_000) == []
    assert resting([one, replace(other, weight=0)], None) == ["1", "2"]


def test_a_cpu_is_never_allocated_but_idle() -> None:
    """An allocated core that sleeps costs next to nothing; nobody looks for it."""
    claims = [Claim(job(1), 0, allocated=True), Claim(None, 5)]
    assert not any(part.idle for part in split(Component.CPU, 9, 0, claims, Policy.IDLE, 0))


def test_unknown_activity_pays_for_what_ran() -> None:
    """Beside one that did nothing, and by their parts where several are unknown."""
    one, two = Claim(job(1), None, 125_000, 250_000), Claim(job(2), None, 125_000, 500_000)
    still = Claim(job(3), 0, 250_000, 250_000)
    owed = paid(Component.GPU, 1600, 800, [one, two, still])
    assert owed == {job(1): 100 + 267, job(2): 100 + 533, job(3): 200, Account.IDLE: 400}


def test_holders_pay_unreserved_static_power_by_policy() -> None:
    """By their reservations; on a CPU without cpusets by activity; the machine itself never."""
    gpu = [Claim(job(1), 5, 250_000), Claim(job(2), 5, 500_000)]
    assert paid(Component.GPU, 1000, 750, gpu) == {
        job(1): 188 + 125, job(2): 375 + 125, Account.IDLE: 187
    }  # fmt: skip
    assert paid(Component.GPU, 1000, 750, gpu, Policy.HOLDERS) == {
        job(1): 250 + 125, job(2): 500 + 125
    }  # fmt: skip
    cpu = [Claim(job(1), 30), Claim(job(2), 10), Claim(None, 60)]
    assert paid(Component.CPU, 1000, 400, cpu, Policy.HOLDERS) == {
        job(1): 300 + 180, job(2): 100 + 60, Account.SYSTEM: 360
    }  # fmt: skip
    alone = [Claim(None, 60)]
    assert paid(Component.CPU, 1000, 400, alone, Policy.HOLDERS) == {
        Account.SYSTEM: 600, Account.IDLE: 400
    }  # fmt: skip


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
