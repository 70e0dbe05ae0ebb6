"""The endpoints that ask, against a real ledger fed with real batches."""

import asyncio
import secrets
import threading
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, UUID, Feeder
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.delivery import wire
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.meter import Component, MeterInfo
from wattkeeper.schedulers.base import Knowledge, NodeInfo

WINDOWS = 180
GPU = WINDOWS * GPU_UJ
CPU = WINDOWS * CPU_UJ


async def test_a_job_tells_what_it_used(centre: Centre) -> None:
    """Energy by component, source and split, to the microjoule; names, times and coverage."""
    await centre.fed()
    status, job = await centre.get("/v1/jobs/west/123")
    assert status == 200
    assert str(GPU + CPU // 2) == job["energy_uj"]
    assert {"gpu": str(GPU), "cpu": str(CPU // 2)} == job["energy_by_component_uj"]
    assert {"counter": str(GPU + CPU // 2)} == job["energy_by_source_uj"]
    assert pytest.approx(job["energy_kwh"]) == (GPU + CPU // 2) / 3.6e12
    assert job["nodes"] == ["node001"]
    names = ("alice", "physics", "gpu", "train", "slurm")
    assert names == tuple(job[k] for k in ("user", "account", "partition", "name", "manager"))
    assert pytest.approx(job["gpu_seconds"]) == 1800
    assert pytest.approx(job["mean_watts"]) == 450
    assert pytest.approx(job["coverage"]) == 1
    assert rfc3339(START_MS) == job["start"]


async def test_an_unknown_job_is_404(centre: Centre) -> None:
    """As a problem that names the parameter."""
    status, body = await centre.get("/v1/jobs/west/999")
    assert (status, body["field"]) == (404, "id")


async def test_jobs_filter_and_count(centre: Centre) -> None:
    """By user, account and limit; `more` says that the limit cut something off."""
    await centre.fed()
    other = {"job_id": "124", "user": "bob", "account": "chemistry", "name": "fold"}
    await centre.fed(Feeder(node="node002", journal="j2", raw_id="124", labels=other, uuid="GPU-2"))
    for query, expected in (
        ({}, {"123", "124"}),
        ({"user": "alice"}, {"123"}),
        ({"account": "chemistry"}, {"124"}),
        ({"user": "nobody"}, set()),
        ({"id": "100-130"}, {"123", "124"}),
        ({"id": "100-130", "user": "bob"}, {"124"}),
        ({"id": "123,125", "cluster": "west"}, {"123"}),
        ({"id": "123", "cluster": "east"}, set()),
    ):
        status, answer = await centre.get("/v1/jobs", **query)
        assert (200, expected) == (status, {job["job_id"] for job in answer["jobs"]}), query
        assert answer["more"] is False
    _, answer = await centre.get("/v1/jobs", limit="1")
    assert (len(answer["jobs"]), answer["more"]) == (1, True)


@pytest.mark.parametrize("by", ["user", "account", "partition", "name", "node"])
async def test_report_rows_add_up_to_the_balance(centre: Centre, by: str) -> None:
    """Every joule that the meters counted is in exactly one row."""
    await centre.fed()
    status, report = await centre.get("/v1/report", by=by, since="-1h")
    _, balance = await centre.get("/v1/balance", since="-1h")
    assert status == 200
    assert str(GPU + CPU) == report["energy_uj"] == balance["energy_uj"]
    assert sum(int(row["energy_uj"]) for row in report["rows"]) == GPU + CPU


@pytest.mark.parametrize("by", ["user", "account", "node"])
async def test_report_keeps_accounts_apart(centre: Centre, by: str) -> None:
    """What is idle and what is the system's are two rows, or two accounts of a node's row."""
    await centre.fed()
    _, report = await centre.get("/v1/report", by=by, since="-1h")
    if by == "node":
        booked = report["rows"][0]["energy_by_account_uj"]
    else:
        booked = {row["kind"]: row["energy_uj"] for row in report["rows"]}
    assert (booked["idle"], booked["system"]) == (str(CPU * 3 // 8), str(CPU // 8))


RACKS = {"groups": {"rack": {"r12": ("node[001-002]",)}}}


@pytest.mark.parametrize("centre", [RACKS], indirect=True)
@pytest.mark.parametrize("by", ["group", "group:rack"])
async def test_report_by_group_of_nodes(centre: Centre, by: str) -> None:
    """Racks add up to the total, a job on two nodes of one is one job, and the rest has a row."""
    await centre.fed()
    for number, node in enumerate(("node002", "node003"), 2):
        await centre.fed(Feeder(node=node, journal=f"j{number}", uuid=f"GPU-{number}"))
    status, report = await centre.get("/v1/report", by=by, since="-1h")
    assert (status, report["by"]) == (200, "group:rack")
    rows = [(row["key"], row["jobs"], int(row["energy_uj"])) for row in report["rows"]]
    assert rows == [("r12", 1, 2 * (GPU + CPU)), (None, 1, GPU + CPU)]
    booked = report["rows"][0]["energy_by_account_uj"]
    assert sum(map(int, booked.values())) == 2 * (GPU + CPU)


async def test_report_by_groups_that_are_none(centre: Centre) -> None:
    """The answer says what to do."""
    status, body = await centre.get("/v1/report", by="group:rack")
    assert (status, body["field"]) == (400, "by")
    assert "the aggregator's `groups` first" in body["detail"]


async def test_balance_balances(centre: Centre) -> None:
    """Residual 0 on both meters, and what is booked is what was counted."""
    await centre.fed()
    status, answer = await centre.get("/v1/balance", since="-1h")
    assert (
        status,
        answer["balanced"],
        answer["residual_uj"],
        answer["problems"],
    ) == (200, True, "0", [])
    by_meter = {meter["meter"]: meter for meter in answer["meters"]}
    gpu, cpu = by_meter[f"gpu/{UUID}"], by_meter["cpu/0/package"]
    assert (str(GPU), str(GPU)) == (gpu["measured_uj"], gpu["workload_uj"])
    booked = (cpu["workload_uj"], cpu["system_uj"], cpu["idle_uj"])
    assert booked == (str(CPU // 2), str(CPU // 8), str(CPU * 3 // 8))
    assert cpu["covered_seconds"] == 1800


async def test_periods_snap_to_slots_and_say_so(centre: Centre) -> None:
    """A period in the middle of slots is answered for whole slots."""
    await centre.fed()
    query = {"since": rfc3339(START_MS + 60_000), "until": rfc3339(START_MS + 120_000)}
    _, answer = await centre.get("/v1/balance", **query)
    assert (rfc3339(START_MS), rfc3339(START_MS + 900_000)) == (answer["since"], answer["until"])


async def test_nodes_go_silent_and_stay_listed(centre: Centre) -> None:
    """A node that stopped delivering is silent, and Prometheus still has its target."""
    await centre.fed()
    _, answer = await centre.get("/v1/nodes")
    node = answer["nodes"][0]
    assert (
        node["node"],
        node["state"],
        node["watts"],
        node["meters"],
    ) == ("node001", "live", 500.0, 2)
    assert node["sources"] == [{"subject": "nvml", "state": "ok", "detail": "1 GPU"}]
    centre.clock[0] += 3_600_000
    _, answer = await centre.get("/v1/nodes")
    assert (answer["nodes"][0]["state"], answer["nodes"][0]["watts"]) == ("silent", None)
    _, targets = await centre.get("/v1/prometheus/targets")
    labels = {"__meta_wattkeeper_cluster": "west", "__meta_wattkeeper_node": "node001"}
    assert [{"targets": ["node001:9745"], "labels": labels}] == targets


async def test_targets_outlive_a_restart(centre: Centre) -> None:
    """A node that is silent since before the restart is still listed."""
    await centre.fed()
    await centre.aggregator.stop()
    await centre.aggregator_again()
    _, targets = await centre.get("/v1/prometheus/targets")
    assert [target["targets"] for target in targets] == [["node001:9745"]]
    _, answer = await centre.get("/v1/nodes")
    assert [node["node"] for node in answer["nodes"]] == ["node001"]


async def test_fleet_sums_what_is_live(centre: Centre) -> None:
    """Watts by component, GPUs, and those that are held and idle, by account."""
    feeder = await centre.fed()
    await centre.deliver(feeder.batch([], feeder.snapshot(utilization_ppm=0)))
    _, fleet = await centre.get("/v1/fleet")
    assert fleet["watts_by_component"] == {"gpu": 400.0, "cpu": 100.0}
    assert (
        fleet["watts"],
        fleet["gpus"],
        fleet["allocated_idle_gpus"],
    ) == (500.0, 1, {"physics": 1})
    states = {"live": 1, "silent": 0, "conflict": 0, "absent": 0, "off": 0}
    assert fleet["nodes"] == states


async def test_nodes_that_only_a_scheduler_knows(centre: Centre) -> None:
    """They are absent, or off; a node that went silent because it was powered down is off too."""
    await centre.fed()
    listed = [
        NodeInfo("west", "node001", 1, "POWERED_DOWN", expected=False),
        NodeInfo("west", "node002", 8, "IDLE"),
        NodeInfo("west", "node003", None, "FUTURE", expected=False),
    ]
    ledger, known = centre.aggregator.ledger, Knowledge(nodes=listed)
    for now_ms in (centre.clock[0] - 3_600_000, centre.clock[0] + 600_000):
        await asyncio.to_thread(record_knowledge, ledger, "slurm", known, now_ms=now_ms)
    _, answer = await centre.get("/v1/nodes")
    shown = [
        (node["node"], node["state"], node["scheduler_state"], node["gpus_expected"])
        for node in answer["nodes"]
    ]
    assert shown == [
        ("node001", "live", "POWERED_DOWN", 1),
        ("node002", "absent", "IDLE", 8),
        ("node003", "off", "FUTURE", None),
    ]
    assert answer["nodes"][1]["last_seen"] is None
    centre.clock[0] += 3_600_000
    _, answer = await centre.get("/v1/nodes")
    assert answer["nodes"][0]["state"] == "off"
    _, books = await centre.get("/v1/balance")
    assert [node["node"] for node in books["missing_nodes"]] == ["node002"]
    assert books["coverage"] < 0.2
    assert books["expected_seconds"] > 8 * 3600


@pytest.mark.parametrize(
    ("path", "query", "field", "says"),
    [
        ("/v1/jobs", {"usr": "x"}, "usr", "known: account, cluster"),
        ("/v1/fleet", {"x": "1"}, "x", "known: none"),
        ("/v1/jobs", {"limit": "many"}, "limit", "integer"),
        ("/v1/jobs", {"limit": "0"}, "limit", "greater than"),
        ("/v1/jobs", {"since": "yesterday"}, "since", "-24h"),
        ("/v1/jobs", {"id": "9-1"}, "id", "backward"),
        ("/v1/jobs", {"id": "1_[,]"}, "id", "no task"),
        ("/v1/report", {"by": "shoe"}, "by", "account"),
        ("/v1/report", {"by": "user", "since": "2026-13-01"}, "since", "not a time"),
        ("/v1/balance", {"since": "2026-11-01T00:00:00"}, "since", "time zone"),
        ("/v1/balance", {"since": "-1h", "until": "-2h"}, "until", "after since"),
        ("/v1/balance", {"since": "9999-01-01"}, "since", "2100"),
    ],
)
async def test_bad_parameters_are_named(
    centre: Centre, path: str, query: dict[str, str], field: str, says: str
) -> None:
    """400, the field, and what would be right."""
    status, body = await centre.get(path, **query)
    assert (400, field) == (status, body["field"])
    assert any(part in body["detail"] for part in says.split("|")), body["detail"]


async def test_a_parameter_given_twice(centre: Centre) -> None:
    """Which one would count? None does."""
    url = f"{centre.aggregator.url}/v1/report?by=user&by=node"
    async with centre.session.get(url) as answer:
        assert (answer.status, (await answer.json(content_type=None))["field"]) == (400, "by")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/windows", 405), ("POST", "/v1/jobs", 405)],
)
async def test_wrong_paths_and_methods(centre: Centre, method: str, path: str, status: int) -> None:
    """Also these are problems."""
    async with centre.session.request(method, f"{centre.aggregator.url}{path}") as answer:
        assert (status, "application/problem+json") == (answer.status, answer.content_type)
        body: Any = await answer.json(content_type=None)
        assert status == body["status"]


async def test_healthz(centre: Centre) -> None:
    """A probe's endpoint."""
    assert ((got := await centre.get("/healthz"))[0], got[1]["status"]) == (200, "ok")


async def test_every_route_is_documented(centre: Centre) -> None:
    """The OpenAPI document has each route with its method, parameters and responses."""
    _, document = await centre.get("/openapi.json")
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in centre.aggregator.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    described = {(m, path) for path, item in document["paths"].items() for m in item}
    assert routes == described
    assert document["openapi"] == "3.1.0"
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"]
            assert operation["responses"].keys() & {"200", "201"}
            named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert {part[1:-1] for part in path.split("/") if part.startswith("{")} == named


async def test_every_reference_of_the_document_resolves(centre: Centre) -> None:
    """No $ref points at nothing."""
    _, document = await centre.get("/openapi.json")
    schemas = document["components"]["schemas"]

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                assert part["$ref"].removeprefix("#/components/schemas/") in schemas
            for inner in part.values():
                walk(inner)
        elif isinstance(part, list):
            for inner in part:
                walk(inner)

    walk(document)


async def test_answers_are_as_documented(centre: Centre) -> None:
    """The keys of real answers are those of their schemas."""
    await centre.fed()
    _, document = await centre.get("/openapi.json")
    for path in ("/v1/fleet", "/v1/nodes", "/v1/jobs", "/v1/report", "/v1/balance", "/healthz"):
        _, answer = await centre.get(path)
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(document["components"]["schemas"][name]["properties"]) == set(answer)


async def test_slow_questions_hold_up_nobody(centre: Centre) -> None:
    """With every thread busy, probes, scrapes and deliveries go on."""
    release = threading.Event()
    busy = [centre.aggregator._threads.ask.submit(release.wait) for _ in range(4)]
    try:
        async with asyncio.timeout(20):
            assert (await centre.get("/healthz"))[0] == 200
            assert "wattkeeper_nodes" in await centre.text("/metrics")
            feeder = Feeder()
            # Beyond the size from which on a delivery is unpacked in a thread.
            labels = {"noise": secrets.token_hex(300_000)}
            batch = msgspec.structs.replace(
                feeder.batch([]), meters={1: MeterInfo("gpu/x", Component.GPU, "nvml", labels)}
            )
            assert len(wire.pack(batch)) > 256 << 10
            assert (await centre.deliver(batch))[0] == 200
    finally:
        release.set()
    assert all(future.result(timeout=20) for future in busy)


async def test_the_loop_stays_free_while_a_query_runs(centre: Centre) -> None:
    """Queries run in threads: a probe is answered while a balance is asked for."""
    await centre.fed()
    url = centre.aggregator.url
    async with aiohttp.ClientSession() as session:
        asked = [session.get(f"{url}/v1/balance") for _ in range(8)]
        for question in asked:
            async with question as answer:
                assert answer.status == 200
