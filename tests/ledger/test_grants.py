"""Who held which GPU, from what schedulers answer one poll after the other."""

from collections.abc import Sequence

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.grants import granting_clusters, record
from wattkeeper.ledger.idle import LONGEST_WAIT_MS
from wattkeeper.ledger.store import Ledger
from wattkeeper.schedulers.base import Knowledge, NodeGpus, NodeInfo, WorkloadInfo

S = 1_000
"""A second."""


def job(
    number: int,
    start_s: int | None,
    *gpus: int,
    end_s: int | None = None,
    node: str = "n1",
    more: Sequence[NodeGpus] = (),
) -> WorkloadInfo:
    """Return a run of a Slurm job."""
    return WorkloadInfo(
        cluster="c",
        manager="slurm",
        raw_id=str(number),
        job_id=str(number),
        start_ms=None if start_s is None else start_s * S,
        end_ms=None if end_s is None else end_s * S,
        gpus=(NodeGpus(node, gpus), *more) if gpus else tuple(more),
    )


def answer(ledger: Ledger, at_s: int | None, *jobs: WorkloadInfo, scheduler: str = "slurm") -> None:
    """Record an answer. A workload's id is its job's number here."""
    knowledge = Knowledge(jobs, None if at_s is None else at_s * S)
    with ledger.writing() as connection:
        record(connection, scheduler, knowledge, [int(info.raw_id) for info in jobs])


def held(ledger: Ledger) -> list[tuple[int, str, str, int, int | None]]:
    """Return (workload, node, GPUs, from, until) in seconds, until None while it is held."""
    table = schema.granted.c
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(schema.granted).order_by(table.workload, table.id))
        found = []
        for row in rows:
            end_ms = row.seen_ms if row.to_ms is None else row.to_ms
            end_s = None if end_ms is None else end_ms // S
            found.append((row.workload, row.node, row.gpus, row.from_ms // S, end_s))
        return found


def test_from_the_start_to_the_end(ledger: Ledger) -> None:
    """A job is found some time after its start; its end is known some time after it."""
    answer(ledger, 100)
    answer(ledger, 130, job(1, 105, 1, 0))
    assert held(ledger) == [(1, "n1", "0,1", 105, None)]
    answer(ledger, 160, job(1, 105, 0, 1))
    answer(ledger, 190)
    assert held(ledger) == [(1, "n1", "0,1", 105, 160)]
    answer(ledger, 220, job(1, 105, end_s=171))
    assert held(ledger) == [(1, "n1", "0,1", 105, 171)]


def test_what_was_answered_once_changes_nothing_again(ledger: Ledger) -> None:
    """The same answers, and older ones after newer ones, are known already."""
    answers: list[tuple[int, tuple[WorkloadInfo, ...]]] = [
        (130, (job(1, 105, 0), job(2, 110, 1))),
        (160, (job(1, 105, 0), job(2, 110, 2))),
        (190, (job(1, 105, end_s=171), job(2, 110, 2))),
    ]
    for at_s, jobs in answers:
        answer(ledger, at_s, *jobs)
    expected = held(ledger)
    for at_s, jobs in (*answers[::-1], *answers):
        answer(ledger, at_s, *jobs)
    assert held(ledger) == expected
    assert expected == [
        (1, "n1", "0", 105, 171),
        (2, "n1", "1", 110, 130),
        (2, "n1", "2", 130, None),
    ]


def test_a_resize_lies_at_the_last_answer_before_it(ledger: Ledger) -> None:
    """A node given back keeps its end when the job ends; the others go on to it."""
    two = [NodeGpus("n2", (3,))]
    answer(ledger, 130, job(1, 105, 0, more=two))
    answer(ledger, 160, job(1, 105, 0, more=two))
    answer(ledger, 190, job(1, 105, 0, 1))
    assert held(ledger) == [
        (1, "n1", "0", 105, 160),
        (1, "n2", "3", 105, 160),
        (1, "n1", "0,1", 160, None),
    ]
    answer(ledger, 220, job(1, 105, end_s=200))
    assert held(ledger) == [
        (1, "n1", "0", 105, 160),
        (1, "n2", "3", 105, 160),
        (1, "n1", "0,1", 160, 200),
    ]


def test_an_answer_without_gpus_takes_nothing_away(ledger: Ledger) -> None:
    """A job that runs and whose GPUs are not told once holds them still."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 160, job(1, 105))
    answer(ledger, 190, job(1, 105, 0))
    assert held(ledger) == [(1, "n1", "0", 105, None)]


def test_a_job_that_was_missed_once_holds_on(ledger: Ledger) -> None:
    """Named again with the same GPUs, it held them all the time."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 160)
    assert held(ledger) == [(1, "n1", "0", 105, 130)]
    answer(ledger, 190, job(1, 105, 0))
    assert held(ledger) == [(1, "n1", "0", 105, None)]


def test_runs_under_one_id_are_not_joined(ledger: Ledger) -> None:
    """A requeued job that its scheduler calls the same starts anew; its first end stays told."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 190, job(1, 105, end_s=150), job(1, 170, 0))
    answer(ledger, 220, job(1, 105, end_s=150), job(1, 170, 0))
    assert held(ledger) == [(1, "n1", "0", 105, 150), (1, "n1", "0", 170, None)]
    answer(ledger, 250, job(1, 170, end_s=240))
    assert held(ledger) == [(1, "n1", "0", 105, 150), (1, "n1", "0", 170, 240)]


def test_a_requeue_without_an_end(ledger: Ledger) -> None:
    """Nobody said when the first run ended: it held its GPU as long as it was seen."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 190, job(1, 170, 0))
    assert held(ledger) == [(1, "n1", "0", 105, 130), (1, "n1", "0", 170, None)]


def test_an_end_that_is_put_right(ledger: Ledger) -> None:
    """The accounting says another end than the queue did, earlier or later."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 160, job(1, 105, end_s=140))
    answer(ledger, 190, job(1, 105, end_s=133))
    assert held(ledger) == [(1, "n1", "0", 105, 133)]
    answer(ledger, 220, job(1, 105, end_s=150))
    assert held(ledger) == [(1, "n1", "0", 105, 150)]


def test_a_job_that_ended_before_it_was_seen(ledger: Ledger) -> None:
    """It counts only where its scheduler still tells its GPUs."""
    answer(ledger, 130, job(1, 105, end_s=110), job(2, 105, 3, end_s=115))
    assert held(ledger) == [(2, "n1", "3", 105, 115)]


def test_a_start_that_is_not_known(ledger: Ledger) -> None:
    """Then it holds from when it was seen."""
    answer(ledger, 130, job(1, None, 0))
    assert held(ledger) == [(1, "n1", "0", 130, None)]


def test_schedulers_do_not_end_each_others_jobs(ledger: Ledger) -> None:
    """Each answers for its own."""
    answer(ledger, 130, job(1, 105, 0))
    answer(ledger, 160, job(2, 105, 1), scheduler="other")
    assert held(ledger) == [(1, "n1", "0", 105, None), (2, "n1", "1", 105, None)]


def test_which_clusters_are_granted(ledger: Ledger) -> None:
    """Those of whose GPUs a scheduler spoke, though nothing ran there."""
    assert granting_clusters(ledger, 200 * S) == set()
    answer(ledger, None, job(1, 105))
    assert granting_clusters(ledger, 200 * S) == set()
    nodes = (NodeInfo("d", "n7", 8, "IDLE"),)
    with ledger.writing() as connection:
        record(connection, "slurm", Knowledge(granted_ms=130 * S, nodes=nodes), [])
    assert granting_clusters(ledger, 200 * S) == {"d"}
    assert granting_clusters(ledger, 131 * S + LONGEST_WAIT_MS) == set()
