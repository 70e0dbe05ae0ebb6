"""From a pod's UID on a node to its owner in a report: intake, API server and books together."""

import asyncio
from pathlib import Path

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import GPU_UJ, START_MS, Feeder
from tests.kube.objects import PodMaker, owner
from tests.kube.server import PODS, ApiServer, serving
from tests.schedulers.kubernetes_watching import FAST, access
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.holder import FIRST_HOLDER, HolderInfo
from wattkeeper.schedulers.kubernetes import KubernetesScheduler
from wattkeeper.schedulers.kubernetes_pods import Naming


class PodFeeder(Feeder):
    """A node whose holder is a pod."""

    def _holders(self) -> dict[int, HolderInfo]:
        labels = {"pod_uid": self.raw_id}
        return {FIRST_HOLDER: HolderInfo("kubernetes", self.raw_id, START_MS, labels)}


def _scheduler(server: ApiServer, folder: Path, now_ms: int) -> KubernetesScheduler:
    return KubernetesScheduler(
        lambda: access(server, folder),
        Naming("west", account=("team",), labels=("stage",)),
        pace=FAST,
        now_ms=lambda: now_ms,
    )


async def _told(centre: Centre, scheduler: KubernetesScheduler) -> None:
    answer = await scheduler.ask(0)
    await asyncio.to_thread(
        record_knowledge, centre.aggregator.ledger, scheduler.name, answer, now_ms=centre.clock[0]
    )


async def _groups(centre: Centre, by: str) -> set[str]:
    _, report = await centre.get("/v1/report", by=by, since="-1h")
    return {
        row["key"]
        for row in report["rows"]
        if row["kind"] == "group" and int(row["energy_uj"]) >= 180 * GPU_UJ
    }


async def test_joules_of_a_pod_find_their_owner(centre: Centre, tmp_path: Path) -> None:
    """A report names owner, namespace, account and label; the job is found by the pod's name."""
    server = ApiServer()
    job = owner("batch/v1", "Job", "jobs", "train")
    server.store.put(job.kind, job.object)
    pod = PodMaker("train-x7", owners=[job.reference], labels={"team": "vision", "stage": "tune"})
    server.store.put(PODS, pod.running())
    async with serving(server):
        scheduler = _scheduler(server, tmp_path, START_MS)
        await scheduler.start()
        try:
            await centre.fed(PodFeeder(raw_id=pod.uid))
            await _told(centre, scheduler)
            assert {"vision"} == await _groups(centre, "account")
            assert {"ml"} == await _groups(centre, "namespace")
            assert {"tune"} == await _groups(centre, "label:stage")
            assert {"Job/train"} == await _groups(centre, "owner")
            status, found = await centre.get("/v1/jobs/west/train-x7")
            assert (200, "running") == (status, found["state"])
        finally:
            await scheduler.close()


async def test_a_pod_that_went_while_the_aggregator_was_down(
    centre: Centre, tmp_path: Path
) -> None:
    """A new aggregator that is told all pods sees that one of the books is over."""
    server = ApiServer()
    pod = PodMaker("p")
    server.store.put(PODS, pod.running())
    async with serving(server):
        await centre.fed(PodFeeder(raw_id=pod.uid))
        for began_ms in (START_MS, START_MS + 3_600_000):
            scheduler = _scheduler(server, tmp_path, began_ms)
            await scheduler.start()
            await _told(centre, scheduler)
            await scheduler.close()
            if began_ms == START_MS:
                server.store.delete(PODS, "ml", "p")
        _, found = await centre.get("/v1/jobs/west/p")
        assert "ended" == found["state"].lower()
        assert found["end"] is not None
