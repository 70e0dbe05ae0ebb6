"""The rules by themselves: which run a holder belongs to where the times alone decide."""

import pytest

from wattkeeper.ledger.belonging import Cluster, assign, gather
from wattkeeper.ledger.runs import Held, Run

SECOND = 1_000


def run(number: int, start_s: float, end_s: float | None, **more: str) -> Run:
    """Return a run of job 7 that Slurm spoke of."""
    end_ms = None if end_s is None else round(end_s * SECOND)
    start_ms = round(start_s * SECOND)
    told = Run(number, "c", "slurm", "7", {}, scheduler="slurm", start_ms=start_ms, end_ms=end_ms)
    for name, value in more.items():
        setattr(told, name, value)
    return told


def held(number: int, node: int, birth_s: float, seen_s: float, other_id: str = "") -> Held:
    """Return a holder of job 7."""
    times = round(birth_s * SECOND), round(seen_s * SECOND)
    return Held(number, node, "slurm", "7", other_id, *times)


def found(runs: list[Run], *holders: Held) -> list[int | None]:
    """Return the run of each holder, None for those that are left to themselves."""
    by_holder = assign(runs, holders)
    return [by_holder[one.id].id if one.id in by_holder else None for one in holders]


def test_at_the_edge_of_two_runs_the_longer_part_decides() -> None:
    """A step that ended with the first run was its own, though the second began a second later."""
    runs = [run(1, 0, 60), run(2, 60, 120)]
    assert found(runs, held(1, 1, 58.5, 60.5), held(2, 1, 59.5, 110)) == [1, 2]


def test_a_holder_without_any_length_belongs_to_the_run_that_it_was_born_in() -> None:
    """A job that ended at once and was requeued: the next run begins within the clocks' doubt."""
    runs = [run(1, 0, 1), run(2, 2, 60)]
    assert found(runs, held(1, 1, 0.4, 0.4), held(2, 1, 2.1, 2.1)) == [1, 2]


def test_what_is_near_a_run_is_its_own_unless_its_node_was_there_already() -> None:
    """A run is on a node once; what is born there after its end is one that nobody told of yet."""
    runs = [run(1, 0, 60)]
    first, again = held(1, 1, 0, 60), held(2, 1, 70, 90)
    assert found(runs, first, again, held(3, 2, 70, 90)) == [1, None, 1]
    assert found(runs, held(4, 2, 121, 130), held(5, 2, 200, 210)) == [None, None]


def test_a_run_without_an_end_ended_when_the_next_began() -> None:
    """Also where the first one's end is told too late."""
    for end_s in (None, 300):
        runs = [run(1, 0, end_s), run(2, 100, None)]
        assert found(runs, held(1, 1, 1, 100), held(2, 1, 101, 200), held(3, 2, 5_000, 6_000)) == [
            1,
            2,
            2,
        ]


def test_a_sluid_outweighs_the_times() -> None:
    """And never goes to a run with another one."""
    first, second = "s1G5M83WF2QA00", "s1G5M83WF2QA01"
    runs = [run(1, 0, 60, other_id=first), run(2, 60, 120, other_id=second)]
    wrong_clock = held(1, 1, 5_000, 6_000, first)
    unknown = held(2, 1, 10, 20, "s1G5M83WF2QA09")
    assert found(runs, wrong_clock, unknown, held(3, 2, 10, 20)) == [1, None, 1]


def test_thousands_of_jobs_that_a_node_says_are_one_cost_no_more_than_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where each is told to have been another run of one number."""
    compared = 0
    takes = Cluster.takes

    def counted(self: Cluster, held: Held) -> bool:
        nonlocal compared
        compared += 1
        return takes(self, held)

    monkeypatch.setattr(Cluster, "takes", counted)
    many = range(2_000)
    made_up = "s1G5M83WF2QA00"
    linked = [Held(n, 1, "slurm", str(n), made_up, 0, 0) for n in many]
    assert len(many) == len(gather(linked))
    assert compared <= 2 * len(many)
    runs = [Held(n, 1, "slurm", f"s1G5M83W{n:06}", "7", 0, 0) for n in many]
    assert len(many) == len(gather(runs))
    assert compared <= 110 * len(many)
