"""Claims of several ways of seeing, on one meter."""

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.merging import merge

A, B, C = (HolderKey("slurm", str(n), 0) for n in range(3))


def test_what_is_allocated_goes_before_what_is_only_seen() -> None:
    """Another's process on an allocated GPU is booked to nobody else."""
    claims = [Claim(A, 5), Claim(B, 7), Claim(None, 1), Claim(A, allocated=True)]
    assert merge(claims, all_seen=False) == (Claim(A, 5, allocated=True),)


def test_who_has_no_process_where_all_are_known_does_nothing() -> None:
    """Known inactivity is a weight of 0; a process of unknown activity is not inactive."""
    claims = [Claim(A, allocated=True), Claim(B, allocated=True), Claim(B)]
    assert merge(claims, all_seen=False) == (
        Claim(A, allocated=True), Claim(B, allocated=True)
    )  # fmt: skip
    assert merge(claims, all_seen=True) == (
        Claim(A, 0, allocated=True), Claim(B, allocated=True)
    )  # fmt: skip


def test_the_schedulers_word_on_parts_goes_before_what_processes_show() -> None:
    """A job with two instances and a process on one of them has reserved both."""
    claims = [
        Claim(A, 9, 125_000, 142_857, partitions=("MIG-1",)),
        Claim(A, None, 250_000, 285_714, allocated=True, partitions=("MIG-1", "MIG-2")),
    ]
    assert merge(claims, all_seen=True) == (
        Claim(A, 9, 250_000, 285_714, allocated=True, partitions=("MIG-1", "MIG-2")),
    )


def test_who_runs_on_an_instance_that_nobody_was_given_stays() -> None:
    """An allocation of one MIG instance says nothing of the others."""
    given = Claim(A, None, 125_000, 142_857, allocated=True, partitions=("MIG-1",))
    elsewhere = Claim(None, 3, 125_000, 142_857, partitions=("MIG-2",))
    intruder = Claim(B, 4, 125_000, 142_857, partitions=("MIG-1",))
    whole = Claim(C, 4)
    assert merge([given, elsewhere, intruder, whole], all_seen=False) == (given, elsewhere)
    untold = Claim(A, None, allocated=True)
    assert merge([untold, elsewhere], all_seen=False) == (untold,)
