"""Claims from what pods hold: alone, in slices, in turns."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.pod_claims import claims
from wattkeeper.holders.pod_devices import Hold

ONE, TWO, THREE = (HolderKey("kubernetes", uid, 1) for uid in "abc")
WHOLE = Hold("gpu/a")


def turn(number: int) -> Hold:
    """Return one turn of a GPU that is shared in time."""
    return Hold("gpu/a", replica=str(number))


def slice_(name: str, memory_ppm: int, replica: str = "") -> Hold:
    """Return a MIG instance."""
    return Hold("gpu/a", name, memory_ppm, memory_ppm + 1000, replica)


def test_alone() -> None:
    """Who has a GPU alone has reserved all of it."""
    assert claims({ONE: [WHOLE]}) == {
        "gpu/a": (Claim(ONE, reserved_ppm=1_000_000, allocated=True),)
    }


def test_in_turns() -> None:
    """Turns reserve nothing, one holder or several."""
    assert claims({ONE: [turn(3)]}) == {"gpu/a": (Claim(ONE, allocated=True),)}
    both = (Claim(ONE, allocated=True), Claim(TWO, allocated=True))
    assert claims({ONE: [turn(3)], TWO: [turn(0)]}) == {"gpu/a": both}


def test_two_turns_count_double() -> None:
    """A pod with two turns of the three that are given has reserved two thirds."""
    [found] = claims({ONE: [turn(0), turn(1)], TWO: [turn(2)]}).values()
    assert [claim.reserved_ppm for claim in found] == [666_667, 333_333]


def test_a_gpu_that_two_pods_claim_whole() -> None:
    """A ResourceClaim can be shared: then neither has the GPU alone."""
    [found] = claims({ONE: [WHOLE], TWO: [WHOLE]}).values()
    assert [claim.reserved_ppm for claim in found] == [None, None]


def test_slices() -> None:
    """Slices reserve their own parts, summed for a holder, divided among those in turns on one."""
    big, small = slice_("MIG-big", 500_000), slice_("MIG-small", 125_000)
    [found] = claims(
        {
            ONE: [big, small],
            TWO: [slice_("MIG-other", 125_001, "0")],
            THREE: [slice_("MIG-other", 125_001, "1")],
        }
    ).values()
    other = ("MIG-other",)
    assert found == (
        Claim(
            ONE,
            reserved_ppm=625_000,
            compute_ppm=627_000,
            allocated=True,
            partitions=("MIG-big", "MIG-small"),
        ),
        Claim(TWO, reserved_ppm=62_501, compute_ppm=63_001, allocated=True, partitions=other),
        Claim(THREE, reserved_ppm=62_500, compute_ppm=63_000, allocated=True, partitions=other),
    )


HOLDS = st.one_of(
    st.builds(
        lambda m, r: Hold(f"gpu/{m}", replica=r),
        st.sampled_from("ab"),
        st.sampled_from(["", "0", "1", "2"]),
    ),
    st.builds(
        lambda p, r: Hold("gpu/m", f"MIG-{p}", 1_000_000 // 7, 1_000_000 // 8, r),
        st.integers(0, 6),
        st.sampled_from(["", "0", "1"]),
    ),
)
KEYS = st.builds(HolderKey, st.just("kubernetes"), st.sampled_from("abcd"), st.integers(0, 2))


@settings(deadline=None)
@given(st.dictionaries(KEYS, st.sets(HOLDS, min_size=1), max_size=5))
def test_claims_of_any_holds(held: dict[HolderKey, set[Hold]]) -> None:
    """One claim per holder and meter, all allocated, reservations within the device, no order."""
    found = claims(held)
    assert {m: {c.holder for c in on} for m, on in found.items()} == {
        meter: {key for key, holds in held.items() if meter in {h.meter for h in holds}}
        for meter in {h.meter for holds in held.values() for h in holds}
    }
    for on_meter in found.values():
        assert all(claim.allocated for claim in on_meter)
        assert len({claim.holder for claim in on_meter}) == len(on_meter)
        assert sum(claim.reserved_ppm or 0 for claim in on_meter) <= 1_000_000
        assert sum(claim.compute_ppm or 0 for claim in on_meter) <= 1_000_000
    assert claims(dict(reversed(held.items()))) == found
