"""Runs that vanish: whose end nobody saw."""

from dataclasses import replace

import pytest

from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.slurm_memory import Memory

MINUTE_MS = 60_000
RUN = WorkloadInfo(
    "c", "slurm", "7", "7", run="0", state="RUNNING", start_ms=MINUTE_MS, nodes=("n1",)
)


def ended(run: WorkloadInfo, end_ms: int, state: str = "COMPLETED") -> WorkloadInfo:
    """Return a run after its end."""
    return replace(run, state=state, end_ms=end_ms)


@pytest.fixture
def memory() -> Memory:
    """Remember nothing yet."""
    return Memory("c", "slurm")


def live(memory: Memory, at_ms: int, *runs: WorkloadInfo) -> list[WorkloadInfo]:
    """Let slurmctld answer."""
    return memory.live(runs, at_ms)


def test_what_goes_on_is_told_each_time(memory: Memory) -> None:
    """The ledger needs the full set; an end is told once, and once more if its word changes."""
    assert [RUN] == live(memory, 2 * MINUTE_MS, RUN)
    assert [RUN] == live(memory, 3 * MINUTE_MS, RUN)
    over = ended(RUN, 3 * MINUTE_MS, "COMPLETING")
    assert [over] == live(memory, 4 * MINUTE_MS, over)
    assert [] == live(memory, 5 * MINUTE_MS, over)
    done = ended(RUN, 3 * MINUTE_MS)
    assert [done] == live(memory, 6 * MINUTE_MS, done)
    assert [] == live(memory, 7 * MINUTE_MS)
    assert memory.missed_since_ms is None


def test_a_run_that_vanished(memory: Memory) -> None:
    """It is missing since it was last seen; the accounts tell its end, and nothing else."""
    live(memory, 2 * MINUTE_MS, RUN)
    assert [] == live(memory, 3 * MINUTE_MS)
    assert memory.missed_since_ms == 2 * MINUTE_MS
    books = replace(ended(RUN, 125_000), name="allocation", run="", start_ms=90_000)
    expected = WorkloadInfo(
        "c", "slurm", "7", "7", run="0", state="COMPLETED", start_ms=MINUTE_MS, end_ms=125_000
    )
    assert [expected] == memory.accounts([books])  # name and start stand as they were told
    assert memory.missed_since_ms is None
    assert [] == memory.accounts([books])  # and again in the next sweep
    assert [] == memory.accounts([replace(books, start_ms=MINUTE_MS)])


def test_half_a_record(memory: Memory) -> None:
    """A run that was requeued at once has neither start nor nodes in the accounts."""
    live(memory, 2 * MINUTE_MS, RUN)
    live(memory, 3 * MINUTE_MS)
    half = replace(ended(RUN, 121_000, "REQUEUED"), start_ms=None, nodes=(), run="")
    (told,) = memory.accounts([half])
    assert (told.state, told.start_ms, told.end_ms) == ("REQUEUED", MINUTE_MS, 121_000)
    assert [] == memory.accounts([half, replace(half, raw_id="8")])


def test_a_requeued_run(memory: Memory) -> None:
    """The id runs again: the former run is missing, whatever their starts."""
    live(memory, 2 * MINUTE_MS, RUN)
    again = replace(RUN, run="1", start_ms=3 * MINUTE_MS)
    assert [again] == live(memory, 4 * MINUTE_MS, again)
    assert memory.missed_since_ms == 2 * MINUTE_MS
    former = replace(ended(RUN, 2 * MINUTE_MS + 1_000, "REQUEUED"), run="")
    later = ended(again, 9 * MINUTE_MS)
    first, second = memory.accounts([later, former])
    assert first == later
    assert (second.run, second.state, second.end_ms) == ("0", "REQUEUED", former.end_ms)
    assert memory.missed_since_ms is None


def test_a_requeued_run_with_sluids(memory: Memory) -> None:
    """Told apart by them alone."""
    first, second = (replace(RUN, run=sluid, other_id=sluid) for sluid in ("s1", "s2"))
    live(memory, 2 * MINUTE_MS, first)
    live(memory, 3 * MINUTE_MS, second)
    assert memory.missed_since_ms == 2 * MINUTE_MS
    memory.accounts([ended(second, 4 * MINUTE_MS)])
    assert memory.missed_since_ms == 2 * MINUTE_MS
    memory.accounts([ended(first, 2 * MINUTE_MS)])
    assert memory.missed_since_ms is None


def test_a_start_that_moves(memory: Memory) -> None:
    """While its nodes boot, Slurm moves the start of a run: it stays one run."""
    live(memory, 2 * MINUTE_MS, RUN)
    moved = replace(RUN, start_ms=RUN.start_ms and RUN.start_ms + 30_000)
    assert [moved] == live(memory, 3 * MINUTE_MS, moved)
    assert memory.missed_since_ms is None


def test_an_answer_with_a_gap(memory: Memory) -> None:
    """A run that is there again was not missing."""
    live(memory, 2 * MINUTE_MS, RUN)
    live(memory, 3 * MINUTE_MS)
    assert [RUN] == live(memory, 4 * MINUTE_MS, RUN)
    assert memory.missed_since_ms is None


def test_given_up(memory: Memory) -> None:
    """Once the accounts should know of it and do not, it ended when it was last seen."""
    live(memory, 2 * MINUTE_MS, RUN)
    live(memory, 3 * MINUTE_MS)
    assert [] == list(memory.given_up(3 * MINUTE_MS, 3 * MINUTE_MS))
    (told,) = memory.given_up(5 * MINUTE_MS, 5 * MINUTE_MS)
    expected = WorkloadInfo(
        "c", "slurm", "7", "7", run="0", start_ms=MINUTE_MS, end_ms=2 * MINUTE_MS
    )
    assert expected == told
    assert memory.missed_since_ms is None


def test_given_up_without_accounts(memory: Memory) -> None:
    """Where there are none, at once; where they do not answer, in the end."""
    live(memory, 2 * MINUTE_MS, RUN)
    live(memory, 3 * MINUTE_MS)
    assert [] == list(memory.given_up(11 * MINUTE_MS, MINUTE_MS))
    assert 1 == len(list(memory.given_up(12 * MINUTE_MS, MINUTE_MS)))
    live(memory, 12 * MINUTE_MS, RUN)
    live(memory, 13 * MINUTE_MS)
    assert 1 == len(list(memory.given_up(13 * MINUTE_MS, None)))


def test_a_job_that_completes_for_long(memory: Memory) -> None:
    """Asked for until its last word is there, from slurmctld or the accounts."""
    live(memory, 2 * MINUTE_MS, ended(RUN, 2 * MINUTE_MS, "COMPLETING"))
    assert memory.since_ms(9 * MINUTE_MS) == 2 * MINUTE_MS
    assert memory.since_ms(MINUTE_MS) == MINUTE_MS
    over = ended(RUN, 2 * MINUTE_MS, "FAILED")
    assert [over] == memory.accounts([over])
    assert memory.since_ms(9 * MINUTE_MS) == 9 * MINUTE_MS
    assert [] == live(memory, 9 * MINUTE_MS, over)


def test_forgets(memory: Memory) -> None:
    """Ends that cannot be told again take no room."""
    live(memory, 2 * MINUTE_MS, *(ended(replace(RUN, raw_id=str(n)), n * 1000) for n in range(500)))
    assert len(memory._told) == 500
    memory.forget(60 * MINUTE_MS)
    assert len(memory._told) == 0
