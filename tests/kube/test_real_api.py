"""The scheduler against a real kube-apiserver: opt-in, with WATTKEEPER_TEST_KUBE_APISERVER.

Set it to the program's path (and WATTKEEPER_TEST_ETCD, unless etcd is installed);
`tests/kube/run_real.sh FOLDER` builds one and runs this.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.objects import Made, PodMaker, node, owner
from tests.kube.real import APISERVER, ETCD, RealApi, real_api
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo
from wattkeeper.schedulers.kubernetes import KubernetesScheduler
from wattkeeper.schedulers.kubernetes_access import Access, explicit
from wattkeeper.schedulers.kubernetes_api import Api, Resource, read_object
from wattkeeper.schedulers.kubernetes_errors import DeniedError, ExpiredError
from wattkeeper.schedulers.kubernetes_mirror import Pace
from wattkeeper.schedulers.kubernetes_objects import Pod, Status
from wattkeeper.schedulers.kubernetes_pods import Naming

pytestmark = pytest.mark.skipif(
    not (APISERVER and ETCD), reason="WATTKEEPER_TEST_KUBE_APISERVER or etcd is not there"
)

_PODS = "/api/v1/namespaces/ml/pods"
_RESOURCE = Resource("/api/v1/pods", Pod)
_TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "main", "image": "x"}], "restartPolicy": "Never"},
}
_SELECTOR = {"matchLabels": {"app": "x"}}


class Cluster:
    """The server with the rights of the aggregator, and a scheduler that has just them."""

    def __init__(self, api: RealApi, token: Path) -> None:
        self.api = api
        self.access: Access = explicit(api.url, token, api.authority)
        self.scheduler = KubernetesScheduler(
            lambda: self.access,
            Naming("c", labels=("stage",)),
            pace=Pace(first_s=0.05, watch_s=2, chunk=3),
        )
        self._since = 0
        self.told: dict[str, WorkloadInfo] = {}

    async def ask(self) -> Knowledge:
        """Ask as the aggregator does."""
        self._since += 1
        answer = await self.scheduler.ask(self._since)
        self.told.update({info.job_id: info for info in answer.workloads})
        return answer

    async def until(self, **states: str) -> None:
        """Ask until pods are told in these states."""
        async with asyncio.timeout(20):
            while {name: self.told[name].state for name in states if name in self.told} != states:
                await asyncio.sleep(0.05)
                await self.ask()

    async def pod(self, name: str, above: Made | None = None, **labels: str) -> dict[str, Any]:
        """Create a pod that runs."""
        owners = [] if above is None else [above.reference]
        shown = PodMaker(name, owners=owners, labels=labels).running()
        return await self.api.create(_PODS, _clean(shown))

    async def own(self, made: Made, **spec: Any) -> Made:
        """Create an owner; return it with the UID that the server gave it."""
        item = made.object | {"spec": spec}
        version, plural = item["apiVersion"], made.kind.plural
        created = await self.api.create(f"/apis/{version}/namespaces/ml/{plural}", _clean(item))
        return Made(made.kind, created, made.reference | {"uid": created["metadata"]["uid"]})


def _clean(item: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the server gives itself."""
    meta = {k: v for k, v in item["metadata"].items() if k not in {"uid", "managedFields"}}
    return item | {"metadata": meta}


@pytest.fixture(name="cluster")
async def _cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with real_api(tmp_path, watch_cache=getattr(request, "param", True)) as api:
        await api.create("/api/v1/namespaces", {"metadata": {"name": "ml"}})
        cluster = Cluster(api, await api.grant())
        await cluster.scheduler.start()
        try:
            yield cluster
        finally:
            await cluster.scheduler.close()


@pytest.mark.parametrize("cluster", [False, True], indirect=True)
async def test_the_life_of_pods(cluster: Cluster) -> None:
    """Pods that run, end, are deleted, and nodes with GPUs, all through the granted rights."""
    made = _clean(node("n1", {"nvidia.com/gpu": "8", "cpu": "8", "memory": "1Gi"}))
    await cluster.api.create("/api/v1/nodes", made)
    for number in range(7):
        await cluster.pod(f"p{number}", stage="train")
    await cluster.until(**{f"p{number}": "running" for number in range(7)})
    answer = await cluster.ask()
    assert answer.nodes is not None
    assert [("n1", 8, "Ready")] == [(n.name, n.gpus, n.state) for n in answer.nodes]
    over = PodMaker("p0").over()["status"]
    await cluster.api.call("PATCH", f"{_PODS}/p0/status", {"status": over}, "merge")
    await cluster.api.call("DELETE", f"{_PODS}/p1?gracePeriodSeconds=0")
    await cluster.until(p0="succeeded", p1="deleted", p2="running")
    assert cluster.told["p0"].end_ms is not None
    assert {"stage": "train"} == cluster.told["p0"].labels
    assert 5 == len((await cluster.ask()).workloads)


async def test_owners(cluster: Cluster) -> None:
    """ReplicaSet, Job and Deployment by metadata, a custom kind from its own definition."""
    await cluster.api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", _definition()
    )
    web = await cluster.own(
        owner("apps/v1", "Deployment", "deployments", "web"),
        selector=_SELECTOR,
        template=_TEMPLATE | {"spec": {"containers": [{"name": "main", "image": "x"}]}},
    )
    replicas = await cluster.own(
        owner("apps/v1", "ReplicaSet", "replicasets", "web-1", web),
        selector=_SELECTOR,
        template=_TEMPLATE | {"spec": {"containers": [{"name": "main", "image": "x"}]}},
    )
    async with asyncio.timeout(20):
        jobset = None
        while jobset is None:
            try:
                jobset = await cluster.own(
                    owner("jobset.x-k8s.io/v1alpha2", "JobSet", "jobsets", "pretrain")
                )
            except OSError:
                await asyncio.sleep(0.2)  # the definition is not served yet
    job = await cluster.own(
        owner("batch/v1", "Job", "jobs", "pretrain-0", jobset), template=_TEMPLATE
    )
    await cluster.pod("web-1-x", replicas)
    await cluster.pod("pretrain-0-x", job)
    await cluster.until(**{"web-1-x": "running", "pretrain-0-x": "running"})
    await cluster.ask()
    told = {name: (i.owner_kind, i.owner_name, i.array) for name, i in cluster.told.items()}
    assert ("Deployment", "web", "") == told["web-1-x"]
    assert ("JobSet", "pretrain", "ml/JobSet/pretrain") == told["pretrain-0-x"]


@pytest.mark.parametrize("cluster", [False], indirect=True)
async def test_what_etcd_forgot(cluster: Cluster) -> None:
    """Real 410s: of a watch, of a list in chunks, and a mirror that recovers from one."""
    for number in range(7):
        await cluster.pod(f"p{number}")
    await cluster.until(**{f"p{number}": "running" for number in range(7)})
    api = Api(lambda: cluster.access)
    try:
        page = await api.page(_RESOURCE, 3, "")
        assert 3 == len(page.items or ())
        await cluster.pod("p7")
        await cluster.api.compact()
        with pytest.raises(ExpiredError):
            await api.page(_RESOURCE, 3, page.metadata.continue_)
        # This server begins the stream and says it there; with its watch cache it refuses.
        events = [event async for event in api.watch(_RESOURCE, page.metadata.resource_version, 5)]
        assert [None, "ERROR"] == [event and event.type for event in events]
        assert events[1] is not None
        assert (410, "Expired") == _code(read_object(events[1], Status))
    finally:
        await api.close()
    pods = cluster.scheduler._pods
    errors: list[str] = []
    async with asyncio.timeout(20):
        while not errors:
            pods.version = page.metadata.resource_version  # as after a long separation
            if isinstance(pods.error, ExpiredError):
                errors.append(str(pods.error))
            await asyncio.sleep(0.01)
    await cluster.pod("p8")
    await cluster.api.call("DELETE", f"{_PODS}/p2?gracePeriodSeconds=0")
    await cluster.until(p2="deleted", p7="running", p8="running")


async def test_rights_end_where_the_manifest_does(cluster: Cluster) -> None:
    """The account of the manifest may not read secrets, and the error says so."""
    api = Api(lambda: cluster.access)
    try:
        with pytest.raises(DeniedError, match='cannot list resource "secrets"'):
            await api.page(Resource("/api/v1/secrets", Pod), 1, "")
    finally:
        await api.close()


def _code(status: Status) -> tuple[int, str]:
    return status.code, status.reason


def _definition() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1alpha2",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "jobsets.jobset.x-k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": "jobset.x-k8s.io",
            "scope": "Namespaced",
            "names": {"plural": "jobsets", "singular": "jobset", "kind": "JobSet"},
            "versions": [version],
        },
    }
