"""Runs in the accounts, in the shapes of 22.05 to 26.05, against what was submitted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.schedulers.slurm_captures import BOB, CHEM, accounts, jobs
from tests.schedulers.test_slurm_jobs import VALUES
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.slurm_accounting import AccountReader, AccountRecord

FILES = [
    "22.05/sacct.json",
    "22.05/sacct_duplicates_requeued.json",
    "22.05/rest_slurmdb_v0.0.37_jobs.json",
    "22.05/rest_slurmdb_v0.0.38_jobs.json",
    "25.11/sacct.json",
    "26.05/sacct.json",
    "26.05/sacct_duplicates_requeued.json",
    "26.05/rest_slurmdb_v0.0.44_jobs.json",
    "26.05/rest_slurmdb_v0.0.45_jobs.json",
]
FULL = ["22.05/sacct.json", "25.11/sacct.json", "26.05/sacct.json"]


def named(file: str, name: str) -> list[WorkloadInfo]:
    """Return the runs of a job in a capture, the first to start first."""
    found = [run for run in accounts(file) if run.name == name]
    return sorted(found, key=lambda run: run.start_ms or 0)


@pytest.mark.parametrize("file", FILES)
def test_who(file: str) -> None:
    """Only runs that ended, each with its user, account and times."""
    found = accounts(file)
    assert found
    for run in found:
        assert run.user == ("bob" if run.name in BOB else "alice")
        assert run.account == ("chem" if run.name in CHEM else "research")
        assert run.start_ms is not None
        assert run.end_ms is not None
        assert run.start_ms <= run.end_ms
        assert run.nodes
        assert run.gpus == ()
        assert run.labels["wckey"] == "wk-train"


@pytest.mark.parametrize("file", FULL)
def test_ends(file: str) -> None:
    """Each with the word that people know."""
    states = {run.name: run.state for run in accounts(file)}
    assert states["exit3"] == states["sigkill"] == "FAILED"
    assert states["steps"] == "COMPLETED"
    assert states["node_fail_job"] == "NODE_FAIL"
    assert states["het"] == "CANCELLED"
    assert not {"cancel_pending", "pend_resources"} & states.keys()  # never began


@pytest.mark.parametrize("file", FULL)
def test_a_resized_job_is_one_run(file: str) -> None:
    """Two records, the first of another size: one run, from the first start to the last end."""
    (run,) = named(file, "resized")
    assert (run.state, run.nodes) == ("COMPLETED", ("n2",))
    assert run.labels["comment"] == "shrinks to one node"
    (live,) = [run for run in jobs(LIVE[file]) if run.name == "resized"] or [run]
    assert (live.start_ms, live.end_ms) == (run.start_ms, run.end_ms)
    assert run.other_id in ("", live.other_id)


LIVE = {
    "22.05/sacct.json": "22.05/squeue.json",
    "25.11/sacct.json": "25.11/squeue.json",
    "26.05/sacct.json": "26.05/scontrol_show_jobs.json",
}


@pytest.mark.parametrize("file", ["22.05/sacct.json", "26.05/sacct_duplicates_requeued.json"])
def test_a_requeued_job_is_two_runs(file: str) -> None:
    """With one id; the second has its own start, and its own SLUID where there are any."""
    first = next(run for run in accounts(file) if run.state == "REQUEUED")
    assert first.raw_id == "28"
    (second,) = [run for run in jobs(LIVE_REQUEUED[file]) if run.name == "requeued"]
    assert second.raw_id == "28"
    assert second.start_ms is not None
    assert first.end_ms is not None
    assert second.start_ms > first.end_ms
    assert first.run != second.run


LIVE_REQUEUED = {
    "22.05/sacct.json": "22.05/squeue.json",
    "26.05/sacct_duplicates_requeued.json": "26.05/squeue.json",
}


@pytest.mark.parametrize("file", FULL)
def test_arrays_and_het_jobs(file: str) -> None:
    """Called as slurmctld calls them."""
    done = {run.raw_id: run for run in named(file, "array_done")}
    assert {"9": "9_3", "11": "9_1"} == {raw_id: run.job_id for raw_id, run in done.items()}
    assert {run.array for run in done.values()} == {"9"}
    assert {"22+0", "22+1"} >= {run.job_id for run in named(file, "het")}


def test_both_name_a_run_alike() -> None:
    """What slurmctld and slurmdbd say of one run has the same identity and times."""
    live = {run.raw_id: run for run in jobs("26.05/squeue_all_states.json") if run.end_ms}
    books = {(run.raw_id, run.start_ms): run for run in accounts("26.05/sacct.json")}
    for raw_id, run in live.items():
        other = books[raw_id, run.start_ms]
        assert (run.run, run.end_ms, run.state) == (other.run, other.end_ms, other.state)


def test_half_a_record() -> None:
    """Of a run that was requeued at once: no start, no nodes, and a name that is none."""
    fields = {"job_id": 5, "name": "allocation", "nodes": "None assigned"}
    times = {"start": 0, "end": 1_795_427_000}
    reader = AccountReader("c")
    half = AccountRecord(**fields, time=times, state={"current": ["PENDING", "REQUEUED"]})
    run = reader.read(half)
    assert run is not None
    assert (run.name, run.state, run.start_ms, run.nodes) == ("", "REQUEUED", None, ())
    never = AccountRecord(**fields, time=times, state={"current": ["CANCELLED"]})
    assert reader.read(never) is None


def test_other_clusters() -> None:
    """Slurmdbd may keep the accounts of several: only ours, if we know its name."""
    assert accounts("22.05/sacct.json", "elsewhere") == []
    assert len(accounts("22.05/sacct.json", "")) == len(accounts("22.05/sacct.json"))


@given(st.dictionaries(st.sampled_from(AccountRecord.__struct_fields__), VALUES, max_size=6))
def test_any_value_in_any_field(fields: dict[str, Any]) -> None:
    """A run, nothing, or a ValueError that lets the others go on."""
    usual = {"job_id": 5, "time": {"start": 1, "end": 2}, "nodes": "n1", "state": {"current": "X"}}
    try:
        AccountReader("c").read(AccountRecord(**(usual | fields)))
    except ValueError:
        return
