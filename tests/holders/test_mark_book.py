"""The rules of marks: ends without starts, doubled, out of order, missed, requeued."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.holders.mark_book import Hold, MarkBook
from wattkeeper.holders.marks import Mark


def start(
    at: int, job: str = "7", gpus: Sequence[int] = (0,), *, shared: bool = False, **labels: str
) -> Mark:
    """Return a start mark at an instant."""
    return Mark(
        "start", "slurm", job, at * 10, at, "b", gpus=tuple(gpus), shared=shared, labels=labels
    )


def end(at: int, job: str = "7") -> Mark:
    """Return an end mark at an instant."""
    return Mark("end", "slurm", job, at * 10, at, "b")


def told(*marks: Mark) -> tuple[dict[str, tuple[int, list[int]]], dict[str, int]]:
    """Apply marks one by one; return (birth, GPUs) of each open job and what was ignored."""
    book = MarkBook("b")
    for mark in marks:
        book.apply([mark])
    holds = {hold.key.raw_id: (hold.key.birth_ms, sorted(hold.latest.gpus)) for hold in book.holds}
    return holds, dict(book.ignored)


@pytest.mark.parametrize(
    ("marks", "holds", "ignored"),
    [
        pytest.param([start(1)], {"7": (10, [0])}, {}, id="start"),
        pytest.param([start(1), end(2)], {}, {}, id="start-end"),
        pytest.param([start(1, gpus=())], {"7": (10, [])}, {}, id="no-gpus"),
        pytest.param([end(2)], {}, {"end_only": 1}, id="end-only"),
        pytest.param([start(1), end(2), end(3)], {}, {"end_only": 1}, id="doubled-end"),
        pytest.param(
            [start(1), start(2, gpus=[1])], {"7": (10, [1])}, {"doubled_start": 1}, id="doubled"
        ),
        pytest.param(
            [start(2), start(1, gpus=[1])], {"7": (20, [0])}, {"doubled_start": 1}, id="older-twin"
        ),
        pytest.param([start(5), end(3)], {"7": (50, [0])}, {"early_end": 1}, id="end-before-start"),
        pytest.param(
            [end(3), start(2)], {}, {"end_only": 1, "late_start": 1}, id="late-start-after-end"
        ),
        pytest.param([start(1), end(2), start(3)], {"7": (30, [0])}, {}, id="same-id-again"),
        pytest.param([start(1, "7"), start(2, "8")], {"8": (20, [0])}, {}, id="missed-epilog"),
        pytest.param(
            [start(1, "7"), start(2, "8"), end(3, "7")],
            {"8": (20, [0])},
            {"end_only": 1},
            id="late-epilog-of-the-displaced",
        ),
        pytest.param(
            [start(2, "8"), start(1, "7")], {"8": (20, [0])}, {"late_start": 1}, id="superseded"
        ),
        pytest.param(
            [start(1, "7", [0]), start(2, "8", [1])],
            {"7": (10, [0]), "8": (20, [1])},
            {},
            id="side-by-side",
        ),
        pytest.param(
            [start(1, "7", shared=True), start(2, "8", shared=True)],
            {"7": (10, [0]), "8": (20, [0])},
            {},
            id="shared",
        ),
        pytest.param(
            [start(1, "7"), start(2, "8", shared=True)],
            {"7": (10, [0]), "8": (20, [0])},
            {},
            id="one-shares",
        ),
        pytest.param(
            [start(1, restart_count="0"), start(5, restart_count="1")],
            {"7": (50, [0])},
            {},
            id="requeued-without-epilog",
        ),
        pytest.param(
            [start(1, restart_count="0"), start(5, restart_count="1"), end(3)],
            {"7": (50, [0])},
            {"early_end": 1},
            id="requeued-with-late-epilog",
        ),
    ],
)
def test_rules(
    marks: list[Mark], holds: dict[str, tuple[int, list[int]]], ignored: dict[str, int]
) -> None:
    """Each defined case, one mark after the other."""
    assert told(*marks) == (holds, ignored)


def test_one_batch_is_ordered_by_its_own_times() -> None:
    """Marks found together count in the order in which they were made."""
    book = MarkBook("b")
    edges = book.apply([end(4), start(3), end(2), start(1)])
    assert [(edge.started, edge.boot_ns) for edge in edges] == [
        (True, 1),
        (False, 2),
        (True, 3),
        (False, 4),
    ]
    assert book.holds == ()


def test_a_missed_epilog_ends_at_the_next_start() -> None:
    """The displaced job ends when the next one began, not when that was found out."""
    book = MarkBook("b")
    book.apply([start(1, "7")])
    edges = book.apply([start(6, "8")])
    assert [(edge.hold.key.raw_id, edge.started, edge.boot_ns) for edge in edges] == [
        ("7", False, 6),
        ("8", True, 6),
    ]


def test_another_boot_counts_for_nothing() -> None:
    """Jobs die with their boot: neither its marks nor its open holds are taken over."""
    book = MarkBook("b")
    book.apply([start(1)])
    rebooted = MarkBook("c", book.saved())
    assert rebooted.holds == ()
    assert rebooted.apply([start(9), end(10)]) == []
    assert rebooted.ignored == {"other_boot": 2}


JOBS = st.sampled_from(["1", "2", "3"])
GPUS = st.lists(st.integers(0, 2), max_size=3, unique=True)
STARTS = st.builds(
    lambda at, job, gpus, shared, count: start(
        at, job, gpus, shared=shared, restart_count=str(count)
    ),
    st.integers(0, 20),
    JOBS,
    GPUS,
    st.booleans(),
    st.integers(0, 1),
)
MARKS = st.lists(STARTS | st.builds(end, st.integers(0, 20), JOBS), max_size=14)


def alone(holds: Sequence[Hold]) -> list[int | str]:
    """Return every device of every hold that does not share."""
    return [device for hold in holds if not hold.latest.shared for device in hold.devices]


@given(MARKS)
def test_no_gpu_is_held_alone_by_two(marks: list[Mark]) -> None:
    """In any order, after every mark."""
    book = MarkBook("b")
    for mark in marks:
        book.apply([mark])
        held = alone(book.holds)
        assert len(held) == len(set(held))


@given(MARKS)
def test_a_closed_job_never_holds(marks: list[Mark]) -> None:
    """Edges of one run come in pairs, and what is open has begun after its last end."""
    book = MarkBook("b")
    edges = [edge for mark in marks for edge in book.apply([mark])]
    begun = {edge.hold.key for edge in edges if edge.started}
    over = [edge.hold.key for edge in edges if not edge.started]
    assert len(over) == len(set(over))
    assert set(over) <= begun
    assert {hold.key for hold in book.holds} == begun - set(over)
    for edge in edges:
        if not edge.started:
            assert edge.boot_ns >= edge.hold.start.boot_ns


@given(MARKS, st.integers(0, 14))
def test_marks_applied_again_change_nothing(marks: list[Mark], since: int) -> None:
    """A crash after the state was kept and before the files were deleted replays a whole drain."""
    book = MarkBook("b")
    book.apply(marks[:since])
    book.apply(marks[since:])
    kept = book.saved()
    again = MarkBook("b", kept)
    assert again.apply(marks[since:]) == []
    assert again.holds == book.holds
