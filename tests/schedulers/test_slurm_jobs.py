"""Jobs of slurmctld, in the shapes of 22.05 to 26.05, against what was submitted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.schedulers.slurm_captures import BOB, CHEM, GPUS, HOSTILE, NOW_MS, TYPES, jobs
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import NodeGpus, WorkloadInfo
from wattkeeper.schedulers.slurm_jobs import JobReader, JobRecord

LIVE = [
    "22.05/squeue.json",
    "22.05/rest_v0.0.37_jobs.json",
    "22.05/rest_v0.0.38_jobs.json",
    "25.11/squeue.json",
    "26.05/squeue.json",
    "26.05/squeue_v0.0.44.json",
    "26.05/rest_v0.0.44_jobs.json",
    "26.05/scontrol_show_jobs.json",
]
FULL = ["22.05/squeue.json", "26.05/squeue.json"]


def by_name(file: str, **more: int) -> dict[str, list[WorkloadInfo]]:
    """Return the runs of a capture by the name of their job."""
    found: dict[str, list[WorkloadInfo]] = {}
    for run in jobs(file, **more):
        found.setdefault(run.name, []).append(run)
    return found


def held(run: WorkloadInfo) -> int:
    """Return how many GPUs a run holds."""
    return sum(len(gpus.indices) for gpus in run.gpus)


@pytest.mark.parametrize("file", LIVE)
def test_who_and_how_many(file: str) -> None:
    """Every run has its user and account, and while it goes on the GPUs that it asked for."""
    for name, runs in by_name(file).items():
        for run in runs:
            assert run.user == ("bob" if name in BOB else "alice")
            assert run.account == ("chem" if name in CHEM else "research")
            assert run.partition == ("debug" if name == "other_user" else "main")
            assert run.labels["qos"] == "normal"
            assert run.labels["wckey"] == "wk-train"
            assert (run.cluster, run.manager) == ("demo", "slurm")
            if run.end_ms is not None:
                assert run.gpus == ()
            elif name in GPUS:
                assert held(run) == GPUS[name]


@pytest.mark.parametrize("file", LIVE)
def test_nobody_shares_a_gpu(file: str) -> None:
    """At one instant a GPU is one run's, on a node of that run."""
    taken: set[tuple[str, int]] = set()
    for run in jobs(file):
        for gpus in run.gpus:
            assert gpus.node in run.nodes
            given = {(gpus.node, index) for index in gpus.indices}
            assert not taken & given
            assert all(0 <= index < 8 for index in gpus.indices)
            taken |= given


@pytest.mark.parametrize("file", FULL)
def test_every_running_job(file: str) -> None:
    """All that were submitted to run on and on are there, and none that waits."""
    found = by_name(file)
    running = {name for name, runs in found.items() if any(run.end_ms is None for run in runs)}
    expected = {
        "other_user", "mixed", "a100", "node_fail_job", "exclusive", "gpu1", "gpu2", "multinode",
        "array", "array_limit", "het", "gpus_opt", "gpus_per_node", "gpus_per_task", "annotated",
        "requeued", "two_steps", "cpu_only", "suspended", "interactive",
    }  # fmt: skip
    assert expected <= running
    assert not any(name.startswith("pend_") for name in found)


def found_hostile(found: dict[str, list[WorkloadInfo]]) -> WorkloadInfo:
    """Return the job with the hostile name."""
    return next(runs[0] for name, runs in found.items() if name.startswith('q"'))


@pytest.mark.parametrize("file", FULL)
def test_names(file: str) -> None:
    """Quotes, backslash, newline and other alphabets stay; 300 characters are cut."""
    found = by_name(file)
    hostile = found_hostile(found)
    assert hostile.name.startswith(HOSTILE)
    assert len(hostile.name) == MAX_LABEL
    assert found["annotated"][0].labels["comment"] == 'it\'s "quoted" & <b>ünï</b>'


@pytest.mark.parametrize("file", ["25.11/squeue.json", *FULL])
def test_arrays_and_het_jobs(file: str) -> None:
    """A task is called by the array's id and its own; the last one has the array's id itself."""
    found = by_name(file)
    tasks = {run.job_id: run for run in found["array"]}
    assert tasks.keys() == {"20_0", "20_1", "20_2"}
    assert {run.array for run in tasks.values()} == {"20"}
    assert tasks["20_2"].raw_id == "20"
    assert len({run.raw_id for run in tasks.values()}) == 3
    parts = {run.job_id: run for run in found["het"]}
    assert {"22+0", "22+1"} == parts.keys()
    assert ["22", "23"] == [parts[name].raw_id for name in ("22+0", "22+1")]
    assert [1, 2] == [held(parts[name]) for name in ("22+0", "22+1")]
    assert found["multinode"][0].array == ""


@pytest.mark.parametrize("file", FULL)
def test_gpu_types(file: str) -> None:
    """Two types on a node: the index counts over both."""
    found = by_name(file)
    (mixed,) = found["mixed"][0].gpus
    first, second = mixed.indices
    assert mixed.node == "n4"
    assert first < TYPES["n4"] <= second
    (a100,) = found["a100"][0].gpus
    assert max(a100.indices) < TYPES["n4"]


def test_gpus_by_node() -> None:
    """In the order of the expanded host list, with a count of its own for each node."""
    found = by_name("22.05/squeue.json")
    run = found["gpus_opt"][0]
    assert run.nodes == ("n3", "n5")
    assert run.gpus == (NodeGpus("n3", (0, 1, 2, 3)), NodeGpus("n5", (0,)))
    assert found["gpus_per_node"][0].gpus == (NodeGpus("n3", (4, 5)), NodeGpus("n4", (6, 7)))


def test_times_and_states() -> None:
    """The end of a run that goes on is its time limit, and no end."""
    found = by_name("26.05/squeue.json")
    assert found["gpu2"][0].start_ms == 1_795_426_847_000
    assert found["gpu2"][0].end_ms is None
    assert found["suspended"][0].state == "SUSPENDED"
    ended = by_name("26.05/squeue_all_states.json")
    assert [("TIMEOUT", 1_795_426_928_000), ("NODE_FAIL", 1_795_426_929_000)] == [
        (ended[name][0].state, ended[name][0].end_ms) for name in ("timeout", "node_fail_job")
    ]
    assert "cancel_pending" not in by_name("22.05/squeue.json")  # it never had a node


def test_a_requeued_job() -> None:
    """Its second run has a start of its own, and its own SLUID where there are any."""
    (run,) = by_name("22.05/squeue.json")["requeued"]
    assert (run.run, run.other_id, run.start_ms) == ("1", "", 1_795_427_185_000)
    (run,) = by_name("26.05/squeue.json")["requeued"]
    assert (run.run, run.other_id) == ("s1G5M83WF8F600", "s1G5M83WF8F600")


def test_what_ended_long_ago() -> None:
    """Ends before `since_ms` were told before."""
    since_ms = 1_795_427_052_000
    runs = jobs("22.05/squeue.json", since_ms=since_ms)
    ends = [run.end_ms for run in runs if run.end_ms is not None]
    assert ends
    assert all(end_ms >= since_ms for end_ms in ends)
    assert any(run.end_ms is None for run in runs)


@pytest.mark.parametrize(
    "version", ["23.02_v0.0.39", "23.11_v0.0.40", "24.05_v0.0.41", "24.11_v0.0.42"]
)
def test_shapes_from_documentation(version: str) -> None:
    """Plain and wrapped numbers, states as a word and as a list, in every mixture."""
    found = {run.name: run for run in jobs(f"documented/{version}_jobs.json")}
    assert found.keys() == {"train", "done", "boots"}
    train = found["train"]
    assert (train.job_id, train.array, train.raw_id) == ("812_3", "812", "815")
    assert (train.user, train.account, train.state) == ("alice", "research", "RUNNING")
    assert train.start_ms == 1_795_426_000_000
    assert train.end_ms is None
    assert train.gpus == (NodeGpus("gpu01", (0, 1)), NodeGpus("gpu02", (2, 3)))
    assert (found["done"].state, found["done"].end_ms) == ("OUT_OF_MEMORY", 1_795_426_900_000)
    assert found["boots"].end_ms is None  # CONFIGURING: its GPUs are its own already
    assert held(found["boots"]) == 8


RUNNING = {
    "job_id": 7, "job_state": ["RUNNING"], "nodes": "n1", "gres_detail": ["gpu:1(IDX:0)"],
    "start_time": 1_795_426_000, "end_time": 1_795_430_000, "name": "a",
}  # fmt: skip


def read(reader: JobReader | None = None, **fields: object) -> WorkloadInfo | None:
    """Return what is kept of a running job with some fields changed."""
    return (reader or JobReader("c", NOW_MS, 0)).read(JobRecord(**(RUNNING | fields)))


@pytest.mark.parametrize(
    ("state", "end", "expected"),
    [
        (["RUNNING"], 1_795_430_000, "RUNNING"),
        (["RUNNING", "CONFIGURING"], 1_795_430_000, "RUNNING"),
        (["RUNNING", "POWER_UP_NODE"], 1_795_430_000, "RUNNING"),
        ("CONFIGURING", 1_795_430_000, "CONFIGURING"),
        ("STOPPED", 1_795_430_000, "STOPPED"),
        ("SIGNALING", 1_795_430_000, "SIGNALING"),
        ("RESIZING", 1_795_430_000, "RESIZING"),
        (["COMPLETED", "COMPLETING"], 1_795_426_999, "COMPLETED"),
        ("COMPLETING", 1_795_426_999, "COMPLETING"),
        ("COMPLETING", 6_090_443_800, None),  # 22.05: requeued, and its nodes not free yet
        (["PENDING", "COMPLETING"], 6_090_443_800, None),
        (["PENDING", "REQUEUED"], 0, None),
        ("REQUEUE_HOLD", 0, None),
        ("SPECIAL_EXIT", 0, None),
        ("SOMETHING_NEW", 1_795_430_000, "SOMETHING_NEW"),
    ],
)
def test_states(state: object, end: int, expected: str | None) -> None:
    """A word or a list, alone or beside a flag."""
    run = read(job_state=state, end_time=end)
    assert expected == (None if run is None else run.state)
    if run is not None:
        assert (run.end_ms is None) == bool(run.gpus) == (end > NOW_MS // 1000)


def test_gpus_that_cannot_be_told() -> None:
    """The name is kept, and it is said why its GPUs are not known."""
    reader = JobReader("c", NOW_MS, 0)
    run = read(reader, nodes="n[1-2]")
    assert run is not None
    assert (run.name, run.gpus) == ("a", ())
    assert reader.doubt == "job 7: gres_detail has 1 entries for 2 nodes"


def test_a_node_whose_gpus_are_cut() -> None:
    """A GPU's index is not known there, without any doubt about the others."""
    reader = JobReader("c", NOW_MS, 0, frozenset({"n1"}))
    run = read(reader, nodes="n[1-2]", gres_detail=["gpu:1(IDX:3)", "gpu:1(IDX:0)"])
    assert run is not None
    assert run.gpus == (NodeGpus("n2", (0,)),)
    assert reader.doubt == ""


def test_users_without_a_name() -> None:
    """Looked up here; else the number is who it is."""
    for uid, expected in ((0, "root"), (4_000_000, "4000000")):
        run = read(user_name="", user_id={"set": True, "infinite": False, "number": uid})
        assert run is not None
        assert expected == run.user


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["RUNNING", "n[1-3]", "gpu:2(IDX:0-1)", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["set", "infinite", "number", "sluid"]), inner)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(JobRecord.__struct_fields__), VALUES, max_size=6))
def test_any_value_in_any_field(fields: dict[str, Any]) -> None:
    """A run, nothing, or a ValueError that lets the others go on; no text that cannot be sent."""
    try:
        run = read(**fields)
    except ValueError:
        return
    if run is not None:
        assert run.raw_id.isdigit()
        run.name.encode()
        "".join(run.nodes).encode()
        assert all(len(word) <= MAX_LABEL for word in (run.name, run.user, *run.labels.values()))
