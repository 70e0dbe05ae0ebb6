"""`/v1/telemetry`: history with the names that only the ledger knows."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS
from tests.aggregator.past import Past
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.telemetry.base import Metric, Part, Place, Row

PATH = "/v1/telemetry"
GPU_W, CPU_W = 400.0, 100.0


def told(answer: Any) -> dict[tuple[str, ...], float | None]:
    """Return the first value of each series by its labels."""
    return {tuple(s["labels"].values()): s["values"][0] for s in answer["series"]}


def test_the_fleet_s_power(past: Past) -> None:
    """One series of every meter, 10 s apart, with what it is and of when."""
    answer = past.get(PATH, metric="power", since="-30m")
    (series,) = answer.pop("series")
    assert (series["labels"], series["values"]) == ({}, [2 * (GPU_W + CPU_W)] * 180)
    assert answer == {
        "metric": "power",
        "unit": "watts",
        "aggregation": "sum",
        "since": rfc3339(START_MS),
        "until": rfc3339(START_MS + 1_800_000),
        "step_seconds": 10.0,
        "resolution_seconds": None,
        "by": [],
        "omitted_series": 0,
    }


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("node", {("node001",): 500.0, ("node003",): 500.0}),
        ("component", {("gpu",): 800.0, ("cpu",): 200.0}),
        ("payer", {("workload",): 900.0, ("idle",): 75.0, ("system",): 25.0}),
        ("workload", {("123",): 450.0, ("124",): 450.0, ("",): 100.0}),
        ("group", {("r12",): 500.0, ("",): 500.0}),
        ("group:rack,component",
         {("r12", "gpu"): 400.0, ("r12", "cpu"): 100.0, ("", "gpu"): 400.0, ("", "cpu"): 100.0}),
        ("user", {("alice", "workload"): 450.0, ("bob", "workload"): 450.0,
                  ("", "idle"): 75.0, ("", "system"): 25.0}),
        ("job", {("123", "workload"): 450.0, ("124", "workload"): 450.0,
                 ("", "idle"): 75.0, ("", "system"): 25.0}),
        ("account,group:rack",
         {("physics", "r12", "workload"): 450.0, ("chemistry", "", "workload"): 450.0,
          ("", "r12", "idle"): 37.5, ("", "", "idle"): 37.5,
          ("", "r12", "system"): 12.5, ("", "", "system"): 12.5}),
    ],
)  # fmt: skip
def test_grouped(past: Past, by: str, expected: dict[tuple[str, ...], float]) -> None:
    """By what a store knows, by what the ledger knows, and by groups of nodes."""
    assert told(past.get(PATH, metric="power", since="-30m", by=by)) == expected


@pytest.mark.parametrize(
    ("query", "watts"),
    [
        ({"node": "node001"}, 500.0),
        ({"node": "node[001-002]"}, 500.0),
        ({"node": "node[001,003],node9"}, 1000.0),
        ({"node": "nobody"}, None),
        ({"component": "gpu,dram"}, 800.0),
        ({"device": "GPU-2"}, 400.0),
        ({"payer": "idle,system"}, 100.0),
        ({"user": "alice"}, 450.0),
        ({"user": "alice,bob"}, 900.0),
        ({"user": "carol"}, None),
        ({"account": "chemistry", "component": "cpu"}, 50.0),
        ({"partition": "gpu"}, 450.0),
        ({"namespace": "ml"}, None),
        ({"job": "100-123"}, 450.0),
        ({"job": "124", "user": "alice"}, None),
        ({"cluster": "east", "user": "alice"}, None),
        ({"group": "rack:r12"}, 500.0),
        ({"group": "r12", "node": "node[001-003]"}, 500.0),
        ({"group": "rack:r13"}, None),
        ({"workload": "124"}, 450.0),
    ],
)
def test_filtered(past: Past, query: dict[str, str], watts: float | None) -> None:
    """Several filters are all meant, several values of one are any of them."""
    answer = past.get(PATH, metric="power", since="-30m", **query)
    assert told(answer) == ({} if watts is None else {(): watts})


def test_a_filter_that_is_given_again(past: Past) -> None:
    """Is one with both values."""
    again = [("node", "node001"), ("node", "node003")]
    answer = past.get(PATH, again, metric="power", since="-30m")
    assert told(answer) == {(): 1000.0}


@pytest.mark.parametrize("by", ["node", "user", "account", "job", "group:rack", "user,group:rack"])
def test_energy_by_anything_is_the_energy_of_all(past: Past, by: str) -> None:
    """What the meters counted, and what the report of the same time says."""
    answer = past.get(PATH, metric="energy", since="-30m", step="15m", by=by)
    joules = sum(sum(series["values"]) for series in answer["series"])
    assert pytest.approx(joules) == 2 * 180 * (GPU_UJ + CPU_UJ) / 1e6
    assert past.get("/v1/report", since="-30m")["energy_uj"] == str(2 * 180 * (GPU_UJ + CPU_UJ))


def test_host_meters_are_told_apart_or_left_out(fresh: Past) -> None:
    """They see the watts of the others again."""
    place = Place("west", "node001", "host/dcmi", "host", "dcmi", "", "", "dcmi")
    parts = (("components", 5_000_000_000), ("overhead", 1_000_000_000))
    host = [Part(account, "", "", 0, 0, 10_000, uj, 0) for account, uj in parts]
    row = Row(place, START_MS, START_MS + 10_000, 10_000, 6_000_000_000, "integrated",
              recovered=False, parts=host, stats=None)  # fmt: skip
    fresh.rows.write([row], {})
    query = {"metric": "power", "since": "-30m"}
    assert told(fresh.get(PATH, **query)) == {(): 1000.0}
    assert told(fresh.get(PATH, **query, by="component"))["host",] == 600.0
    assert told(fresh.get(PATH, **query, component="host")) == {(): 600.0}
    payers = told(fresh.get(PATH, **query, by="payer"))
    assert (payers["components",], payers["overhead",]) == (500.0, 100.0)
    by_user = told(fresh.get(PATH, **query, by="user"))
    assert sum(watts or 0 for watts in by_user.values()) == 1000.0


@pytest.mark.parametrize(
    ("metric", "unit", "aggregation", "value"),
    [
        ("temperature", "celsius", "max", 60.0),
        ("temperature", "celsius", "min", 40.0),
        ("temperature", "celsius", "mean", 50.0),
        ("power_peak", "watts", "sum", 1000.0),
        ("energy", "joules", "sum", 10_000.0),
        ("idle_power", "watts", "sum", 0.0),
        ("power", "watts", "mean", 250.0),
    ],
)
def test_metrics(past: Past, metric: str, unit: str, aggregation: str, value: float) -> None:
    """Each in its unit; one aggregation is usual, the others are to be asked for."""
    query = {"metric": metric, "since": "-30m", "step": "10s"}
    answer = past.get(PATH, **query, aggregation=aggregation)
    assert (answer["unit"], told(answer)) == (unit, {(): value})
    usual = past.get(PATH, **query)["aggregation"]
    assert usual == {"temperature": "max"}.get(metric, "sum")


@pytest.mark.parametrize(
    ("since", "step_s"),
    [
        ("-30m", 10),
        ("-6h", 60),
        ("-24h", 300),
        ("-7d", 1800),
        ("-30d", 7200),
        ("2020-01-01", 604800),
    ],
)
def test_the_usual_step_suits_the_time(past: Past, since: str, step_s: float) -> None:
    """At most 600 of them, on lines that people know, and the period is widened to them."""
    answer = past.get(PATH, metric="power", since=since)
    assert answer["step_seconds"] == step_s
    assert all(len(series["values"]) <= 600 + 1 for series in answer["series"])


def test_steps_are_no_shorter_than_rows(tmp_path: Path) -> None:
    """Where rows are downsampled, a step is as long as they are, and the answer says so."""
    with Past(tmp_path) as past:
        past.feed()
        place = Place("west", "node001", "gpu/GPU-9", "gpu", "GPU-9", "1", "H100", "nvml")
        idle = Part("idle", "", "", 0, 0, 300_000, 30_000_000_000, 0)
        begin = START_MS - 3_600_000
        past.rows.write(
            [
                Row(place, at, at + 300_000, 300_000, idle.uj, "counter", False, [idle], None)
                for at in range(begin, START_MS, 300_000)
            ],
            {},
        )
        query = {"metric": "power", "until": rfc3339(START_MS + 600_000), "step": "10s"}
        answer = past.get(PATH, since=rfc3339(begin + 10_000), **query)
        (series,) = answer["series"]
        assert (answer["step_seconds"], answer["resolution_seconds"]) == (300.0, 300.0)
        assert series["values"] == [100.0] * 12 + [500.0] * 2
        assert answer["since"] == rfc3339(begin)
        by_user = past.get(PATH, since=rfc3339(begin), by="user", **query)
        assert by_user["step_seconds"] == 300.0
        recent = past.get(PATH, since=rfc3339(START_MS), **query)
        assert recent["step_seconds"] == 10.0


def test_nothing_was_metered(tmp_path: Path) -> None:
    """An empty answer; holes are null."""
    with Past(tmp_path) as past:
        answer = past.get(PATH, metric="power")
        assert (answer["series"], answer["resolution_seconds"]) == ([], None)
        past.feed(windows=30)
        answer = past.get(PATH, metric="power", since="-10m")
        assert answer["series"][0]["values"] == [None] * 30 + [500.0] * 30


def test_the_greatest_series_are_told(past: Past) -> None:
    """And how many are left out, folded or not."""
    for by, first in (("component", "gpu"), ("user", "alice")):
        answer = past.get(PATH, metric="power", since="-30m", by=by, limit="1")
        (series,) = answer["series"]
        omitted = {"component": 1, "user": 3}[by]
        assert (series["labels"][by], answer["omitted_series"]) == (first, omitted)


def test_jobs_that_the_ledger_does_not_know_yet(fresh: Past) -> None:
    """Are called as their nodes call them; whose they are is not known."""
    known = [row for row in fresh.rows.rows if row.place.node == "node001"]
    for row in known:
        part = replace(row.parts[0], workload="999")
        fresh.rows.rows.append(replace(row, place=row.place._replace(node="node9"), parts=[part]))
    by_job = told(fresh.get(PATH, metric="power", since="-30m", by="job,user"))
    assert by_job["999", "", "workload"] == 450.0


def test_a_name_that_came_late(fresh: Past) -> None:
    """Changes who is told, of the past as well."""
    run = WorkloadInfo("west", "slurm", "124", "124", user="carol", start_ms=START_MS)
    fresh.knows(run)
    users = told(fresh.get(PATH, metric="power", since="-30m", by="user"))
    assert users["carol", "workload"] == 450.0


def test_every_metric_has_a_unit(past: Past) -> None:
    """And an answer."""
    for metric in Metric:
        assert past.get(PATH, metric=metric, since="-30m")["unit"]
