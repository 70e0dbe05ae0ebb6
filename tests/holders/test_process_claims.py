"""Processes on a GPU, whole or in MIG instances, become claims."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.process_claims import Seen, claims_on
from wattkeeper.model.meter import Partition

A, B = HolderKey("slurm", "1", 0), HolderKey("slurm", "2", 0)
SMALL = Partition("MIG-s", "gpu/a", 7, 125_000, 142_857)
LARGE = Partition("MIG-l", "gpu/a", 1, 500_000, 428_571)
PARTS = {part.uuid: part for part in (SMALL, LARGE)}


def test_an_instance_is_reserved_by_who_has_a_process_on_it() -> None:
    """Its memory and compute units; and that is what weighs, where activity is not known."""
    seen = [Seen(A, None, "MIG-s"), Seen(B, None, "MIG-l"), Seen(B, None, "MIG-l")]
    assert claims_on(seen, PARTS) == (
        Claim(B, 428_571, 500_000, 428_571, partitions=("MIG-l",)),
        Claim(A, 142_857, 125_000, 142_857, partitions=("MIG-s",)),
    )


def test_activity_of_an_instance_weighs_its_part() -> None:
    """Half busy on three slices is one and a half."""
    seen = [Seen(A, 1_000_000, "MIG-s"), Seen(B, 500_000, "MIG-l")]
    assert [claim.weight for claim in claims_on(seen, PARTS)] == [214_285, 142_857]


def test_activity_that_is_not_known_of_all_counts_for_none() -> None:
    """Units are not mixed."""
    seen = [Seen(A, 10_000, "MIG-s"), Seen(B, None, "MIG-l")]
    assert {claim.holder: claim.weight for claim in claims_on(seen, PARTS)} == {
        A: 142_857, B: 428_571
    }  # fmt: skip


def test_several_instances_of_one_holder_are_one_claim() -> None:
    """Sums of fractions."""
    seen = [Seen(A, None, "MIG-s"), Seen(A, None, "MIG-l")]
    (claim,) = claims_on(seen, PARTS)
    assert claim == Claim(A, 571_428, 625_000, 571_428, partitions=("MIG-l", "MIG-s"))


def test_jobs_on_one_instance_share_it_and_a_monitor_does_not() -> None:
    """In equal parts; what the machine itself runs there pays only where no job does."""
    seen = [Seen(A, None, "MIG-l"), Seen(B, None, "MIG-l"), Seen(None, None, "MIG-l")]
    assert {c.holder: (c.weight, c.reserved_ppm) for c in claims_on(seen, PARTS)} == {
        A: (214_286, 250_000), B: (214_285, 250_000)
    }  # fmt: skip
    (own,) = claims_on(seen[2:], PARTS)
    assert (own.holder, own.reserved_ppm) == (None, 500_000)


def test_an_instance_that_is_gone_is_no_part() -> None:
    """The layout is read after the list: what it does not name is on the GPU as a whole."""
    assert claims_on([Seen(A, None, "MIG-gone")], PARTS) == (Claim(A),)


def test_an_mps_server_works_for_its_clients() -> None:
    """It holds nothing itself; SM time that stands with it alone is not known by client."""
    server = Seen(None, 900_000, server=True)
    assert claims_on([server, Seen(A, 0), Seen(B, 0)], {}) == (Claim(A), Claim(B))
    assert claims_on([server, Seen(A, 30), Seen(B, 0)], {}) == (Claim(A, 30), Claim(B, 0))
    assert claims_on([server], {}) == (Claim(None, 900_000),)


@given(
    st.lists(
        st.builds(
            Seen,
            st.sampled_from([A, B, None]),
            st.none() | st.integers(0, 10**6),
            st.sampled_from([None, "MIG-s", "MIG-l", "MIG-gone"]),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_instances_are_handed_out_once(seen: list[Seen]) -> None:
    """No part of the GPU is reserved twice; no holder is named twice, and none from nowhere."""
    claims = claims_on(seen, PARTS)
    holders = [claim.holder for claim in claims]
    assert len(set(holders)) == len(holders)
    assert set(holders) <= {process.holder for process in seen}
    used = {process.partition for process in seen} & PARTS.keys()
    most = sum(PARTS[uuid].memory_ppm for uuid in used if uuid)
    assert sum(claim.reserved_ppm or 0 for claim in claims) <= most
