"""Who held a meter between two looks: from the first edge to the last, never outside."""

from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.metering.book import Claims
from wattkeeper.metering.changes import changes

GPU = "gpu/a"
A, B, C = (HolderKey("slurm", name, 1) for name in "789")


def edge(at: int, key: HolderKey, *, started: bool, alone: bool = False) -> HolderEdge:
    """Return an edge on the one meter."""
    return HolderEdge(key, started, at, (GPU,), alone and started)


def spans(found: list[tuple[int, Claims]]) -> list[tuple[int, list[str]]]:
    """Return the instants with the jobs from then on."""
    return [(at, [c.holder.raw_id for c in claims or () if c.holder]) for at, claims in found]


def claim(key: HolderKey) -> Claim:
    """Return a claim as it stands now."""
    return Claim(key, reserved_ppm=1_000_000, allocated=True)


def test_a_start_counts_from_its_mark() -> None:
    """With the claim as it is now."""
    assert [(5, (claim(A),))] == changes([edge(5, A, started=True)], [], [claim(A)], 0)


def test_what_is_booked_is_booked() -> None:
    """A birth that is found late counts from the last booking."""
    assert [(7, (claim(A),))] == changes([edge(5, A, started=True)], [], [claim(A)], 7)


def test_first_edge_and_last_edge_count() -> None:
    """Prolog or cgroup, whichever came first; cgroup or epilog, whichever went last."""
    edges = [edge(at, A, started=at < 5) for at in (2, 3, 6, 9)]
    assert [(2, ["7"]), (9, [])] == spans(changes(edges, [], [], 0))


def test_an_end_of_what_is_still_there_is_none() -> None:
    """The cgroup has gone, the mark is still open."""
    assert [] == changes([edge(5, A, started=False)], [claim(A)], [claim(A)], 0)


def test_short_jobs_between_two_looks() -> None:
    """Each from its start to its end."""
    edges = [
        edge(2, A, started=True), edge(4, A, started=False),
        edge(4, B, started=True), edge(6, B, started=False),
    ]  # fmt: skip
    assert [(2, ["7"]), (4, []), (4, ["8"]), (6, [])] == spans(changes(edges, [], [], 0))


def test_the_next_owner_ends_whoever_is_not_there_any_more() -> None:
    """Also the machine's own processes, such as a check of the prolog."""
    held = [claim(A), Claim(None, 3)]
    found = changes([edge(5, B, started=True)], held, [claim(B)], 0)
    assert [(5, (claim(B),))] == found


def test_one_who_has_it_alone_ends_another_whose_end_was_seen_too_late() -> None:
    """His cgroup was found gone after the next prolog, though the cgroup came before it too."""
    held = [claim(A)]
    edges = [edge(7, B, started=True, alone=True), edge(9, A, started=False)]
    assert [(7, (claim(B),))] == changes(edges, held, [claim(B)], 0)
    early = [edge(5, B, started=True), *edges]
    assert [(5, ["7", "8"]), (7, ["8"])] == spans(changes(early, held, [claim(B)], 0))
    turns = [edge(7, B, started=True), edge(9, A, started=False)]
    assert [(7, ["7", "8"]), (9, ["8"])] == spans(changes(turns, held, [claim(B)], 0))


def test_who_was_never_believed_is_not_charged() -> None:
    """A start without an end whose holder is not there: a weaker word that did not stand."""
    assert [] == changes([edge(5, B, started=True)], [claim(A)], [claim(A)], 0)


EDGES = st.lists(
    st.builds(
        lambda at, key, started, alone: edge(at, key, started=started, alone=alone),
        st.integers(1, 30),
        st.sampled_from([A, B, C]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=10,
)
KEYS = st.sets(st.sampled_from([A, B, C]))


@given(EDGES, KEYS, KEYS, st.integers(0, 30))
def test_nobody_outside_his_edges(
    edges: list[HolderEdge], held: set[HolderKey], now: set[HolderKey], from_ns: int
) -> None:
    """Only who held it before or has begun is on it, and nobody after his last end."""
    found = changes(edges, [claim(k) for k in held], [claim(k) for k in now], from_ns)
    instants = [at for at, _ in found]
    assert instants == sorted(instants)
    assert all(at >= from_ns for at in instants)
    for at, claims in found:
        for key in {c.holder for c in claims or () if c.holder is not None} - held:
            assert min(e.boot_ns for e in edges if e.key == key and e.started) <= at
    last = {c.holder for c in found[-1][1] or () if c.holder} if found else held
    for key in last - now:
        starts = [e.boot_ns for e in edges if e.key == key and e.started]
        ends = [e.boot_ns for e in edges if e.key == key and not e.started]
        # Only the end of one who has begun again, or one that nobody saw end, is open.
        assert not ends or max(starts, default=-1) >= max(ends)
