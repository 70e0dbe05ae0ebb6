"""Whose word counts on one meter, and what is told of the others."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.gpus import whole
from wattkeeper.holders.precedence import Conflict, Word, settle

WHOLE = 1_000_000
A, B, C = (HolderKey("slurm", name, 1) for name in ("7", "8", "9"))
POD = HolderKey("kubernetes", "uid-1", 1)
GPU = "gpu/GPU-a"


def alone(key: HolderKey) -> Claim:
    """Return a claim to the whole GPU."""
    return Claim(key, reserved_ppm=WHOLE, allocated=True)


def shared(key: HolderKey) -> Claim:
    """Return a claim beside others."""
    return Claim(key, allocated=True)


def holders(claims: list[Claim]) -> list[HolderKey | None]:
    """Return who stands."""
    return [claim.holder for claim in claims if claim.allocated]


def test_an_environment_never_takes_a_marked_gpu() -> None:
    """The mark stands alone, and the other is told."""
    words = [Word("environ", alone(B)), Word("marks", alone(A))]
    claims, conflicts = settle(GPU, words, {A}, {})
    assert [alone(A)] == claims
    assert [Conflict("environ", GPU, B, (A,))] == conflicts


def test_a_marked_job_has_what_its_mark_says() -> None:
    """Its environment cannot add a free GPU; once its mark has ended it keeps what it had."""
    claims, conflicts = settle(GPU, [Word("environ", alone(A))], {A}, {})
    assert ([], [Conflict("environ", GPU, A, ())]) == (claims, conflicts)
    assert ([alone(A)], []) == settle(GPU, [Word("environ", alone(A))], set(), {})


def test_the_same_word_twice_is_no_conflict() -> None:
    """The stronger stands for both."""
    words = [Word("environ", alone(A)), Word("mapping", alone(A)), Word("marks", alone(A))]
    assert ([alone(A)], []) == settle(GPU, words, {A}, {})


def test_a_script_counts_before_an_environment() -> None:
    """A job-mapping folder is root's."""
    claims, conflicts = settle(
        GPU, [Word("environ", alone(B)), Word("mapping", alone(A))], set(), {}
    )
    assert [alone(A)] == claims
    assert [Conflict("environ", GPU, B, (A,))] == conflicts


def test_of_two_environments_the_one_at_work_is_believed() -> None:
    """A constrained job cannot be at work on a GPU that it has not."""
    words = [Word("environ", alone(A)), Word("environ", alone(B)), Word("processes", Claim(B, 5))]
    claims, conflicts = settle(GPU, words, set(), {})
    assert [alone(B), Claim(B, 5)] == claims
    assert {A, B} == {conflict.holder for conflict in conflicts}


def test_of_two_environments_without_work_both_share() -> None:
    """Nobody can tell: they share, and it is told."""
    words = [Word("environ", alone(A)), Word("environ", alone(B))]
    claims, conflicts = settle(GPU, words, set(), {})
    assert [shared(A), shared(B)] == claims
    assert 2 == len(conflicts)


def test_shards_beside_the_mark_of_the_first() -> None:
    """Slurm tells the prolog of the first shard only: the others are in environments."""
    words = [Word("environ", shared(B)), Word("environ", shared(C)), Word("marks", shared(A))]
    claims, conflicts = settle(GPU, words, {A, B}, {})
    assert ([A, B, C], []) == (holders(claims), conflicts)


def test_instances_of_one_gpu() -> None:
    """MIG instances that differ stand beside each other; one and the same does not."""
    one = Claim(A, reserved_ppm=250_000, allocated=True, partitions=("MIG-1",))
    other = Claim(B, reserved_ppm=250_000, allocated=True, partitions=("MIG-2",))
    again = Claim(C, reserved_ppm=250_000, allocated=True, partitions=("MIG-1",))
    words = [Word("marks", one), Word("environ", other), Word("environ", again)]
    claims, conflicts = settle(GPU, words, {A}, {})
    assert [one, other] == claims
    assert [Conflict("environ", GPU, C, (A,))] == conflicts


def test_work_on_anothers_gpu_is_told() -> None:
    """Of a job, that is: the machine's own processes are no conflict."""
    words = [
        Word("processes", Claim(B, 5)),
        Word("processes", Claim(None, 1)),
        Word("marks", alone(A)),
    ]
    claims, conflicts = settle(GPU, words, {A}, {})
    assert [A] == holders(claims)
    assert [Conflict("processes", GPU, B, (A,))] == conflicts


def test_work_on_a_free_gpu_is_no_conflict() -> None:
    """Whoever is there is there."""
    words = [Word("processes", Claim(B, 5))]
    assert ([Claim(B, 5)], []) == settle(GPU, words, set(), {})


def test_slurmd_in_a_pod() -> None:
    """The pod was given the GPU, the job in it pays; without a job the pod pays."""
    of_pod = Word("pods", alone(POD))
    claims, conflicts = settle(GPU, [of_pod, Word("marks", alone(A))], {A}, {A: "uid-1"})
    assert ([alone(A)], []) == (claims, conflicts)
    assert ([alone(POD)], []) == settle(GPU, [of_pod], set(), {A: "uid-1"})


def test_pod_and_job_on_one_gpu() -> None:
    """Two schedulers that gave it to two: both pay, and it is told."""
    words = [Word("pods", alone(POD)), Word("marks", alone(A))]
    claims, conflicts = settle(GPU, words, {A}, {})
    assert [shared(POD), shared(A)] == claims
    assert {"pods", "marks"} == {conflict.kind for conflict in conflicts}


WORDS = st.builds(
    Word,
    st.sampled_from(["marks", "pods", "mapping", "environ", "processes"]),
    st.builds(
        Claim,
        st.sampled_from([A, B, C, POD]),
        reserved_ppm=st.sampled_from([None, WHOLE]),
        allocated=st.booleans(),
    ),
)


@given(st.lists(WORDS, max_size=8), st.sets(st.sampled_from([A, B, C])))
def test_the_stronger_word_always_stands(words: list[Word], marked: set[HolderKey]) -> None:
    """No weaker word removes it, one claim per holder is allocated, whoever is alone is alone."""
    claims, conflicts = settle(GPU, words, marked, {})
    standing = holders(claims)
    assert len(standing) == len(set(standing))
    top = {word.claim.holder for word in words if word.rank == 3}
    assert top <= set(standing)
    first: dict[object, Claim] = {}
    for word in words:
        if word.rank == 3:
            first.setdefault(word.claim.holder, word.claim)
    if any(whole(claim) for claim in first.values()):
        assert top == set(standing)
    if any(whole(claim) for claim in claims):
        assert len(standing) == 1
    silent = {word.claim.holder for word in words if word.rank} - set(standing)
    assert silent <= {conflict.holder for conflict in conflicts}
