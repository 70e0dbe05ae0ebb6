"""`/v1/jobs/…/trace`: the power of one job, beside what the books have of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from tests.aggregator.past import Past
from wattkeeper.aggregator.telemetry_asking import Asking
from wattkeeper.aggregator.telemetry_trace import TraceQuery, trace
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.telemetry.base import Place, Row

PATH = "/v1/jobs/west/123/trace"
END_MS = START_MS + 1_800_000


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[Past]:
    """A job of half an hour on two nodes, which ended 5 s before its nodes let go of it."""
    with Past(tmp_path) as opened:
        opened.feed()
        opened.feed(Feeder(node="node002", journal="j2", uuid="GPU-2"))
        opened.knows(ended(END_MS - 5_000))
        yield opened


def ended(end_ms: int) -> WorkloadInfo:
    """Return what Slurm says of the job when it has ended."""
    return WorkloadInfo(
        "west", "slurm", "123", "123", state="COMPLETED", start_ms=START_MS, end_ms=end_ms
    )


def joules(answer: Any) -> dict[str, float]:
    """Return the energy of the shown series by component: watts times steps."""
    found: dict[str, float] = {}
    for series in answer["series"]:
        name = series["labels"]["component"]
        watts = sum(value or 0 for value in series["values"])
        found[name] = found.get(name, 0.0) + watts * answer["step_seconds"]
    return found


def test_a_trace_agrees_with_the_books(two_nodes: Past) -> None:
    """By component, from the first birth to the last sight, beyond the scheduler's own end."""
    answer = two_nodes.get(PATH)
    assert (answer["since"], answer["until"]) == (rfc3339(START_MS), rfc3339(END_MS))
    assert (answer["state"], answer["whole"], answer["run"]) == ("COMPLETED", True, 1)
    assert {s["labels"]["component"]: set(s["values"]) for s in answer["series"]} == {
        "gpu": {800.0},
        "cpu": {100.0},
    }
    gpu, cpu = answer["components"]
    assert (gpu["component"], gpu["ledger_energy_uj"]) == ("gpu", str(360 * GPU_UJ))
    assert gpu["energy_joules"] == pytest.approx(360 * GPU_UJ / 1e6)
    assert cpu["energy_joules"] == pytest.approx(180 * CPU_UJ / 1e6)
    assert (gpu["mean_watts"], gpu["peak_watts"]) == (pytest.approx(800.0), 800.0)
    assert answer["energy_joules"] == pytest.approx(int(answer["ledger_energy_uj"]) / 1e6)
    assert answer["ledger_settled_uj"] == "0"


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("node", {("gpu", "node001"), ("gpu", "node002"), ("cpu", "node001"), ("cpu", "node002")}),
        ("component,gpu", {("gpu", "0"), ("cpu", "")}),
    ],
)
def test_taken_apart(two_nodes: Past, by: str, labels: set[tuple[str, ...]]) -> None:
    """By node, device and the like; the parts are the same whole, shown or not."""
    answer = two_nodes.get(PATH, by=by)
    assert {tuple(series["labels"].values()) for series in answer["series"]} == labels
    assert joules(answer)["gpu"] == pytest.approx(360 * GPU_UJ / 1e6)
    fewer = two_nodes.get(PATH, by=by, limit="1")
    assert (len(fewer["series"]), fewer["omitted_series"]) == (1, len(labels) - 1)
    assert fewer["components"] == answer["components"]


def test_a_part_of_its_life(two_nodes: Past) -> None:
    """Within its life; the books' figure stays that of the whole job, and that is said."""
    since, until = rfc3339(START_MS + 600_000), rfc3339(START_MS + 900_000)
    answer = two_nodes.get(PATH, since=since, until=until, step="1m")
    assert (answer["since"], answer["until"], answer["whole"]) == (since, until, False)
    assert joules(answer)["gpu"] == pytest.approx(60 * GPU_UJ / 1e6)
    assert answer["components"][0]["mean_watts"] == pytest.approx(800.0)
    beyond = two_nodes.get(PATH, since="2027-01-01", until="2027-02-01")
    assert (beyond["since"], beyond["whole"]) == (rfc3339(START_MS), True)


def test_a_running_job_s_trace_ends_now(fresh: Past) -> None:
    """What its nodes have not told yet is null."""
    fresh.clock[0] += 60_000
    answer = fresh.get(PATH)
    assert (answer["end"], answer["until"]) == (None, rfc3339(END_MS + 60_000))
    gpu = answer["series"][0]["values"]
    assert gpu == [400.0] * 180 + [None] * 6
    assert answer["components"][0]["mean_watts"] == pytest.approx(400.0)


def test_the_runs_of_a_requeued_job(fresh: Past) -> None:
    """Each has a trace of its own; the newest by default."""
    again = Feeder(node="node002", journal="j3", uuid="GPU-3", birth_ms=END_MS + 60_000)
    again.at_ms = END_MS + 60_000
    fresh.feed(again, windows=30)
    fresh.knows(
        WorkloadInfo("west", "slurm", "123", "123", run="0", state="REQUEUED",
                     start_ms=START_MS, end_ms=END_MS),
        WorkloadInfo("west", "slurm", "123", "123", run="1", state="RUNNING",
                     start_ms=END_MS + 60_000),
    )  # fmt: skip
    newest = fresh.get(PATH)
    assert (newest["run"], newest["runs"], newest["since"]) == (2, 2, rfc3339(END_MS + 60_000))
    assert newest["energy_joules"] == pytest.approx(30 * (GPU_UJ + CPU_UJ // 2) / 1e6)
    first = fresh.get(PATH, run="1")
    assert (first["state"], first["until"]) == ("REQUEUED", rfc3339(END_MS))
    assert first["energy_joules"] == pytest.approx(180 * (GPU_UJ + CPU_UJ // 2) / 1e6)


def test_history_that_has_less(fresh: Past) -> None:
    """Retention, or a store that is younger than the books: both figures are told."""
    del fresh.rows.rows[: len(fresh.rows.rows) // 2]
    answer = fresh.get(PATH)
    assert answer["energy_joules"] == 0
    assert answer["components"][0]["peak_watts"] is None
    assert answer["ledger_energy_uj"] == str(180 * (GPU_UJ + CPU_UJ // 2))


@pytest.mark.parametrize("length_ms", [300_000, 3_600_000])
def test_a_short_job_of_long_ago(tmp_path: Path, length_ms: int) -> None:
    """Whose rows were made longer than it ran: its energy is still its own."""
    with Past(tmp_path) as past:
        feeder = past.feed(windows=12)
        past.knows(ended(feeder.at_ms))
        by_meter: dict[Place, list[Row]] = {}
        for row in past.rows.rows:
            by_meter.setdefault(row.place, []).append(row)
        past.rows.rows = [
            replace(
                rows[0],
                end_ms=START_MS + length_ms,
                covered_ms=120_000,
                uj=sum(row.uj for row in rows),
                parts=[
                    replace(part, uj=part.uj * len(rows), to_ms=120_000) for part in rows[0].parts
                ],
            )
            for rows in by_meter.values()
        ]
        answer = past.get(PATH)
    assert answer["step_seconds"] * 1000 == length_ms
    assert answer["energy_joules"] == pytest.approx(int(answer["ledger_energy_uj"]) / 1e6)
    assert answer["components"][0]["mean_watts"] == pytest.approx(400.0)


def test_a_job_that_no_node_metered(fresh: Past) -> None:
    """Has an empty trace over its life."""
    start_ms = START_MS + 600_000
    run = WorkloadInfo("west", "slurm", "200", "200", start_ms=start_ms, end_ms=start_ms + 60_000)
    fresh.knows(run)
    answer = fresh.get("/v1/jobs/west/200/trace")
    assert (answer["series"], answer["components"], answer["energy_joules"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("path", "query", "status", "field"),
    [
        ("/v1/jobs/west/999/trace", {}, 404, "id"),
        ("/v1/jobs/east/123/trace", {}, 404, "id"),
        (PATH, {"run": "2"}, 404, "id"),
        (PATH, {"by": "user"}, 400, "by"),
        (PATH, {"step": "0s"}, 400, "step"),
        (PATH, {"since": "now", "until": "2020-01-01"}, 400, "since"),
        (PATH, {"until": "2020-01-01"}, 400, "since"),
        (PATH, {"since": "soon"}, 400, "since"),
    ],
)
def test_traces_that_are_not(
    past: Past, path: str, query: dict[str, str], status: int, field: str
) -> None:
    """Problems that name what is wrong."""
    problem = past.problem(path, **query)
    assert (problem.status, problem.field) == (status, field)


def test_a_job_that_has_not_started(fresh: Past) -> None:
    """Is no unknown one."""
    fresh.knows(WorkloadInfo("west", "slurm", "300", "300", state="PENDING"))
    problem = fresh.problem("/v1/jobs/west/300/trace")
    assert (problem.status, problem.kind) == (404, "not-started")


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 10**10), st.integers(0, 10**10)), min_size=20, max_size=60
    ),
    step=st.sampled_from([None, "10s", "45s", "1m", "7m", "1h"]),
    by=st.sampled_from([(), ("node",), ("device", "gpu")]),
)
def test_energy_of_a_trace_is_that_of_its_parts(
    remembered: Past, drawn: list[tuple[int, int]], step: str | None, by: tuple[str, ...]
) -> None:
    """Whatever its meters counted and however it is cut: to the microjoule, as far as floats go."""
    kept = remembered.rows.rows
    own = [row for row in kept if row.place.node == "node001"]
    rows = []
    for (uj, others_uj), row in zip(drawn, own, strict=False):
        mine, *others = row.parts
        parts = [replace(mine, uj=uj), *(replace(one, uj=others_uj) for one in others)]
        rows.append(replace(row, uj=sum(part.uj for part in parts), parts=parts))
    store = type(remembered.rows)(rows)
    query = TraceQuery(cluster="west", id="123", step=step, by=by)
    answer = trace(Asking(store), remembered.ledger, query, None, remembered.clock[0])
    mine_uj = sum(row.parts[0].uj for row in rows)
    assert answer.energy_joules == pytest.approx(mine_uj / 1e6)
    for part in answer.components:
        of = [row.parts[0].uj for row in rows if row.place.component == part.component]
        assert part.energy_joules == pytest.approx(sum(of) / 1e6)
    shown = sum(value or 0 for one in answer.series for value in one.values)
    if step in (None, "10s"):
        assert shown * answer.step_seconds == pytest.approx(mine_uj / 1e6)
