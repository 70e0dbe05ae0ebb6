"""Which jobs the ids that people type mean."""

from collections.abc import Sequence

import pytest

from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.queries.named import named
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

SLUID = "s1G5M83WF2QA00"
UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def known(ledger: Ledger) -> Ledger:
    """A ledger that knows an array, a heterogeneous job, a plain one and a pod."""
    jobs = [
        # The task that started last keeps the array's own number.
        *((f"20_{task}", "20" if task == 10 else str(30 + task), "20") for task in (1, 9, 10)),
        *((f"22+{part}", str(22 + part), "") for part in range(3)),
        ("41", "41", ""),
    ]
    infos = [
        WorkloadInfo("c", "slurm", raw_id, job_id, array=array, start_ms=1_000)
        for job_id, raw_id, array in jobs
    ]
    infos += [
        WorkloadInfo("c", "slurm", "42", "42", other_id=SLUID, start_ms=1_000),
        WorkloadInfo("d", "slurm", "41", "41", start_ms=1_000),
        WorkloadInfo("k", "kubernetes", UID, "train-0", array="JobSet/train", start_ms=1_000),
    ]
    record_knowledge(ledger, "test", Knowledge(infos))
    return ledger


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["20"], ["20_1", "20_9", "20_10"]),
        (["20_9"], ["20_9"]),
        (["39"], ["20_9"]),
        (["22"], ["22+0", "22+1", "22+2"]),
        (["22+1"], ["22+1"]),
        (["23"], ["22+1"]),
        (["41", "42", "41"], ["41", "42"]),
        ([SLUID], ["42"]),
        (["99", ""], []),
        ([str(number) for number in range(1200)], ["20_1", "20_9", "20_10", "22+0", "22+1"]),
    ],
)
def test_slurm_ids(known: Ledger, typed: Sequence[str], expected: Sequence[str]) -> None:
    """A job, an array, its tasks, components, and the scheduler's own numbers."""
    found = named(known, typed, "c")
    assert [job_id for _, job_id in found][: len(expected)] == expected
    assert bool(found) == bool(expected)
    for cluster, job_id in found:
        assert job(known, cluster, job_id) is not None


def test_any_cluster_and_pods(known: Ledger) -> None:
    """Without a cluster all are looked at; a pod is found by name, UID, or what it belongs to."""
    assert named(known, ["41"]) == [("c", "41"), ("d", "41")]
    for typed in ("train-0", UID, "JobSet/train"):
        assert named(known, [typed]) == [("k", "train-0")]
