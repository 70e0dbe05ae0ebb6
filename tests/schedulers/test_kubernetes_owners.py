"""Whose a pod is: owners of every kind, followed to the top or told by labels."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from tests.kube.objects import Made, PodMaker, owner
from tests.kube.rbac import Right, rights
from tests.kube.server import CORE, PODS, ApiServer
from tests.schedulers.kubernetes_watching import watching
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.kubernetes_objects import Meta, OwnerReference, Thing
from wattkeeper.schedulers.kubernetes_owners import Links, MirroredLinks, resolve
from wattkeeper.schedulers.kubernetes_owners import link as link_of

CUSTOM = CORE | {
    "batch.volcano.sh",
    "jobset.x-k8s.io",
    "kubeflow.org",
    "leaderworkerset.x-k8s.io",
    "ray.io",
    "trainer.kubeflow.org",
    "workload.codeflare.dev",
}


@dataclass(frozen=True)
class Case:
    """A pod's owners from the top down, its labels, and what should be told of it."""

    chain: tuple[tuple[str, str, str, str], ...]
    kind: str
    name: str
    array: str = ""
    queue: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    top_labels: dict[str, str] = field(default_factory=dict)


_JOB = ("batch/v1", "Job", "jobs")
_JOBSET = ("jobset.x-k8s.io/v1alpha2", "JobSet", "jobsets")
_RAY = ("ray.io/v1", "RayCluster", "rayclusters")
_STS = ("apps/v1", "StatefulSet", "statefulsets")
_RS = ("apps/v1", "ReplicaSet", "replicasets")
_DEPLOYMENT = ("apps/v1", "Deployment", "deployments")
_KUBEFLOW = "training.kubeflow.org"

CASES = {
    "Job": Case(
        ((*_JOB, "sweep"),),
        "Job",
        "sweep",
        "ml/Job/sweep",
        "gpus",
        {"batch.kubernetes.io/job-name": "sweep", "job-name": "sweep"},
        {"kueue.x-k8s.io/queue-name": "gpus"},
    ),
    "CronJob": Case(
        (("batch/v1", "CronJob", "cronjobs", "nightly"), (*_JOB, "nightly-1")),
        "CronJob",
        "nightly",
        "ml/Job/nightly-1",
    ),
    "JobSet": Case(
        ((*_JOBSET, "pretrain"), (*_JOB, "pretrain-workers-0")),
        "JobSet",
        "pretrain",
        "ml/JobSet/pretrain",
        "big",
        {"jobset.sigs.k8s.io/jobset-name": "pretrain", "job-name": "pretrain-workers-0"},
        {"kueue.x-k8s.io/queue-name": "big"},
    ),
    "TrainJob": Case(
        (
            ("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs", "llm"),
            (*_JOBSET, "llm"),
            (*_JOB, "llm-node-0"),
        ),
        "TrainJob",
        "llm",
        "ml/TrainJob/llm",
        "",
        {
            "jobset.sigs.k8s.io/jobset-name": "llm",
            "trainer.kubeflow.org/trainjob-ancestor-step": "trainer",
        },
    ),
    "PyTorchJob": Case(
        (("kubeflow.org/v1", "PyTorchJob", "pytorchjobs", "bert"),),
        "PyTorchJob",
        "bert",
        "ml/PyTorchJob/bert",
        "",
        {f"{_KUBEFLOW}/job-name": "bert", f"{_KUBEFLOW}/replica-type": "worker"},
    ),
    "TFJob": Case(
        (("kubeflow.org/v1", "TFJob", "tfjobs", "mnist"),), "TFJob", "mnist", "ml/TFJob/mnist"
    ),
    "MPIJob": Case(
        (("kubeflow.org/v2beta1", "MPIJob", "mpijobs", "hpl"), (*_JOB, "hpl-launcher")),
        "MPIJob",
        "hpl",
        "ml/MPIJob/hpl",
        "",
        {f"{_KUBEFLOW}/job-name": "hpl", f"{_KUBEFLOW}/operator-name": "mpi-operator"},
    ),
    "RayCluster": Case(
        ((*_RAY, "shared"),), "RayCluster", "shared", labels={"ray.io/cluster": "shared"}
    ),
    "RayJob": Case(
        (("ray.io/v1", "RayJob", "rayjobs", "tune"), (*_RAY, "tune-x7")),
        "RayJob",
        "tune",
        "ml/RayJob/tune",
        "",
        {
            "ray.io/cluster": "tune-x7",
            "ray.io/originated-from-crd": "RayJob",
            "ray.io/originated-from-cr-name": "tune",
        },
    ),
    "RayService": Case(
        (("ray.io/v1", "RayService", "rayservices", "chat"), (*_RAY, "chat-x7")),
        "RayService",
        "chat",
        labels={
            "ray.io/cluster": "chat-x7",
            "ray.io/originated-from-crd": "RayService",
            "ray.io/originated-from-cr-name": "chat",
        },
    ),
    "Volcano": Case(
        (("batch.volcano.sh/v1alpha1", "Job", "jobs", "gang"),),
        "Job",
        "gang",
        "ml/Job/gang",
        "research",
        {"volcano.sh/job-name": "gang", "volcano.sh/queue-name": "research"},
    ),
    "LeaderWorkerSet": Case(
        (
            ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets", "vllm"),
            (*_STS, "vllm"),
        ),
        "LeaderWorkerSet",
        "vllm",
        labels={"leaderworkerset.sigs.k8s.io/name": "vllm"},
    ),
    "Deployment": Case(
        ((*_DEPLOYMENT, "web"), (*_RS, "web-5d9c")),
        "Deployment",
        "web",
        labels={"pod-template-hash": "5d9c"},
    ),
    "StatefulSet": Case(((*_STS, "db"),), "StatefulSet", "db"),
    "DaemonSet": Case((("apps/v1", "DaemonSet", "daemonsets", "agent"),), "DaemonSet", "agent"),
    "AppWrapper": Case(
        (
            ("workload.codeflare.dev/v1beta2", "AppWrapper", "appwrappers", "aw"),
            ("kubeflow.org/v1", "PyTorchJob", "pytorchjobs", "inner"),
        ),
        "AppWrapper",
        "aw",
        "ml/AppWrapper/aw",
        "",
        {"workload.codeflare.dev/appwrapper": "aw"},
    ),
    "unknown": Case(
        (("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices", "llama"),
         (*_DEPLOYMENT, "llama-predictor"), (*_RS, "llama-predictor-7f")),
        "InferenceService",
        "llama",
    ),
    "Node": Case((("v1", "Node", "nodes", "n1"),), "Node", "n1"),
    "nobody": Case((), "Pod", "p"),
    "Kueue pod group": Case(
        (), "PodGroup", "ring", "ml/PodGroup/ring", "gpus",
        {"kueue.x-k8s.io/pod-group-name": "ring", "kueue.x-k8s.io/queue-name": "gpus"},
    ),
}  # fmt: skip


def _make(server: ApiServer, case: Case) -> PodMaker:
    above: Made | None = None
    for depth, (version, kind, plural, name) in enumerate(case.chain):
        labels = case.top_labels if depth == 0 else None
        above = owner(version, kind, plural, name, above, labels)
        server.store.put(above.kind, above.object)
    owners = [] if above is None else [above.reference]
    return PodMaker("p", owners=owners, labels=case.labels)


def _words(info: WorkloadInfo) -> tuple[str, str, str, str]:
    return info.owner_kind, info.owner_name, info.array, info.partition


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_owners_of_every_kind(tmp_path: Path, case: Case) -> None:
    """The top of the chain is named in the first answer; nothing is asked for twice."""
    server = ApiServer(installed=CUSTOM)
    server.store.put(PODS, _make(server, case).running())
    async with watching(server, tmp_path) as watch:
        (info,) = (await watch.ask()).workloads
        assert (case.kind, case.name, case.array, case.queue) == _words(info)
        fetched = len(server.requests)
        await watch.ask()
        assert fetched == len(server.requests)


@pytest.mark.parametrize(
    "case",
    [case for name, case in CASES.items() if case.labels and name != "Job"],
    ids=[name for name, case in CASES.items() if case.labels and name != "Job"],
)
@pytest.mark.parametrize("why", ["denied", "not installed", "gone"])
async def test_owners_told_by_labels(tmp_path: Path, case: Case, why: str) -> None:
    """Where owners may not be read or are gone, the labels of the pod name the same one."""
    basic = {Right(verb, "", kind) for kind in ("pods", "nodes") for verb in ("list", "watch")}
    server = ApiServer(
        installed=CORE if why == "not installed" else CUSTOM,
        allowed=frozenset(basic) if why == "denied" else rights(),
    )
    pod = _make(server, case)
    if why == "gone":
        for kind, namespace, name in list(server.store.objects):
            server.store.delete(kind, namespace, name)
    server.store.put(PODS, pod.running())
    async with watching(server, tmp_path) as watch:
        (info,) = (await watch.ask()).workloads
        assert (case.kind, case.name, case.array) == _words(info)[:3]


async def test_workers_of_a_leader(tmp_path: Path) -> None:
    """Workers of a LeaderWorkerSet belong to a StatefulSet of their leading pod."""
    server = ApiServer(installed=CUSTOM)
    group = owner("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets", "vllm")
    leaders = owner("apps/v1", "StatefulSet", "statefulsets", "vllm", group)
    leader = PodMaker("vllm-0", owners=[leaders.reference])
    above = Made(PODS, leader.running(), {
        "apiVersion": "v1", "kind": "Pod", "name": "vllm-0", "uid": leader.uid, "controller": True,
    })  # fmt: skip
    workers = owner("apps/v1", "StatefulSet", "statefulsets", "vllm-0", above)
    for made in (group, leaders, above, workers):
        server.store.put(made.kind, made.object)
    server.store.put(PODS, PodMaker("vllm-0-1", owners=[workers.reference]).running())
    async with watching(server, tmp_path) as watch:
        infos = (await watch.ask()).workloads
        assert {("LeaderWorkerSet", "vllm")} == {(i.owner_kind, i.owner_name) for i in infos}
        assert 2 == len(infos)


async def test_an_owner_whose_name_was_taken(tmp_path: Path) -> None:
    """Owners are told apart by UID: another object of the same name is not the owner."""
    server = ApiServer(installed=CUSTOM)
    old = owner("kubeflow.org/v1", "PyTorchJob", "pytorchjobs", "bert")
    wrapper = owner("workload.codeflare.dev/v1beta2", "AppWrapper", "appwrappers", "other")
    new = owner("kubeflow.org/v1", "PyTorchJob", "pytorchjobs", "bert", wrapper)
    server.store.put(new.kind, new.object)
    server.store.put(PODS, PodMaker("p", owners=[old.reference]).running())
    async with watching(server, tmp_path) as watch:
        (info,) = (await watch.ask()).workloads
        assert ("PyTorchJob", "bert") == (info.owner_kind, info.owner_name)
        await watch.ask()
        assert 1 == server.count("get", "pytorchjobs")


async def test_a_kind_that_is_denied_is_asked_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing right costs a few requests, not one for each of a thousand owners."""
    allowed = rights() - {Right("get", "ray.io", "rayclusters")}
    server = ApiServer(installed=CUSTOM, allowed=allowed)
    for number in range(50):
        cluster = owner(*_RAY, f"c{number}")
        server.store.put(PODS, PodMaker(f"p{number}", owners=[cluster.reference]).running())
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.ask()
        assert server.count("get", "rayclusters") <= 4
        assert 1 == caplog.text.count("named by labels")


async def test_owners_of_what_has_ended(tmp_path: Path) -> None:
    """A finished pod waits for the name of its owner while the server does not answer."""
    server = ApiServer(installed=CUSTOM)
    wrapper = owner("workload.codeflare.dev/v1beta2", "AppWrapper", "appwrappers", "aw")
    inner = owner("kubeflow.org/v1", "TFJob", "tfjobs", "inner", wrapper)
    server.store.put(wrapper.kind, wrapper.object)
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        server.store.put(PODS, PodMaker("p", owners=[inner.reference]).over())
        await watch.caught_up()
        server.store.put(inner.kind, inner.object)
        server.token = "second"  # owners are refused, the watches go on
        assert ["TFJob"] == [info.owner_kind for info in (await watch.ask()).workloads]
        assert ["TFJob"] == [info.owner_kind for info in (await watch.ask()).workloads]
        (tmp_path / "token").write_text("second")
        assert ["AppWrapper"] == [info.owner_kind for info in (await watch.ask()).workloads]
        assert [] == list((await watch.ask()).workloads)


def test_mirrored_owners_outlive_their_deletion() -> None:
    """A Job is often gone before its pods: the last ones are still known, the oldest are not."""
    links = Links()
    store = MirroredLinks(links)
    cron = owner("batch/v1", "CronJob", "cronjobs", "nightly")
    gone = owner("batch/v1", "Job", "jobs", "nightly-1", cron)
    reference = Meta(name="p", owner_references=[_reference(gone)])
    things = [_thing(gone), _thing(owner("batch/v1", "Job", "jobs", "other"))]
    for thing in things:
        store.put(thing)
    store.drop(things[0])
    store.keep_only(set())
    assert {} == links.mirrored
    assert ("CronJob", "nightly") == _top(reference, links)
    for number in range(10_000):
        links.keep(f"u{number}", link_of(Meta()))
    assert ("Job", "nightly-1") == _top(reference, links)


def test_owners_in_a_circle() -> None:
    """Objects that own each other end somewhere."""
    links = Links()
    one = owner("apps/v1", "StatefulSet", "statefulsets", "one")
    two = owner("apps/v1", "StatefulSet", "statefulsets", "two", one)
    links.keep(one.reference["uid"], link_of(Meta(owner_references=[_reference(two)])))
    links.keep(two.reference["uid"], link_of(Meta(owner_references=[_reference(one)])))
    assert "StatefulSet" == _top(Meta(owner_references=[_reference(one)]), links)[0]


def _reference(made: Made) -> OwnerReference:
    return msgspec.convert(made.reference, OwnerReference)


def _thing(made: Made) -> Thing:
    return msgspec.convert(made.object, Thing)


def _top(meta: Meta, links: Links) -> tuple[str, str]:
    found = resolve(link_of(meta), "p", links.find)
    return found.kind, found.name
