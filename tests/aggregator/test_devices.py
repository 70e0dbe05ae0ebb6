"""`/v1/devices`: every device now, and who has it."""

import asyncio
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import UUID, Feeder
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, NodeGpus, WorkloadInfo

ALICE = {
    "cluster": "west",
    "job_id": "123",
    "account": "physics",
    "user": "alice",
    "name": "train",
}


async def _gpu(centre: Centre) -> dict[str, Any]:
    status, answer = await centre.get("/v1/devices", component="gpu")
    assert status == 200
    (gpu,) = answer["devices"]
    return dict(gpu)


async def test_a_device_tells_its_figures_and_its_job(centre: Centre) -> None:
    """Power, temperature and utilization of the last delivery; the job by its names."""
    await centre.fed()
    assert await _gpu(centre) == {
        "cluster": "west",
        "node": "node001",
        "meter": f"gpu/{UUID}",
        "component": "gpu",
        "gpu": 0,
        "watts": 400.0,
        "celsius": 61.0,
        "utilization": 0.9,
        "use": "busy",
        "held_by": [ALICE],
    }


@pytest.mark.parametrize(("held", "use"), [(True, "idle"), (False, "free")])
async def test_idle_is_not_free(centre: Centre, held: bool, use: str) -> None:
    """A GPU that does nothing is idle where a job has it, and free where nobody does."""
    feeder = await centre.fed()
    await centre.deliver(feeder.batch([], feeder.snapshot(utilization_ppm=0, held=held)))
    gpu = await _gpu(centre)
    assert (use, [ALICE] if held else []) == (gpu["use"], gpu["held_by"])


async def test_a_scheduler_tells_of_what_the_node_does_not_see(centre: Centre) -> None:
    """A granted GPU on which nobody is seen is the run's, and idle."""
    feeder = await centre.fed()
    await centre.deliver(feeder.batch([], feeder.snapshot(utilization_ppm=0, held=False)))
    now_ms = centre.clock[0]
    run = WorkloadInfo(
        "west", "slurm", "7", "7", state="RUNNING", user="bob", start_ms=now_ms - 60_000,
        gpus=(NodeGpus("node001", (0,)),),
    )  # fmt: skip
    known = Knowledge([run], granted_ms=now_ms)
    ledger = centre.aggregator.ledger
    await asyncio.to_thread(record_knowledge, ledger, "slurm", known, now_ms=now_ms)
    gpu = await _gpu(centre)
    assert ("idle", ["7"]) == (gpu["use"], [run["job_id"] for run in gpu["held_by"]])


async def test_filters_and_silence(centre: Centre) -> None:
    """By node, cluster and component; nodes that are silent tell nothing of now."""
    await centre.fed()
    await centre.fed(Feeder(node="node002", journal="j2", uuid="GPU-2", raw_id="9"))
    for query, expected in (
        ({}, 4),
        ({"node": "node002"}, 2),
        ({"cluster": "east"}, 0),
        ({"component": "cpu"}, 2),
    ):
        _, answer = await centre.get("/v1/devices", **query)
        assert expected == len(answer["devices"]), query
    centre.clock[0] += 3_600_000
    assert (await centre.get("/v1/devices"))[1]["devices"] == []


async def test_a_node_tells_of_its_gpus_together(centre: Centre) -> None:
    """Power, the hottest, the mean utilization; null where a node is not live."""
    await centre.fed()
    _, answer = await centre.get("/v1/nodes")
    figures = {"count": 1, "watts": 400.0, "hottest_celsius": 61.0, "mean_utilization": 0.9}
    assert figures == answer["nodes"][0]["gpus"]
    centre.clock[0] += 3_600_000
    _, answer = await centre.get("/v1/nodes")
    assert answer["nodes"][0]["gpus"] is None
