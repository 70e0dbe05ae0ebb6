"""Whose a pod is: up the chain of controllers to the workload that somebody asked for.

ReplicaSets and Jobs are mirrored (their metadata); other owners are fetched by name once. Where
a link is gone or may not be read, the labels that the operators put on pods tell the rest.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from wattkeeper.schedulers.kubernetes_objects import Meta, OwnerReference, Thing

MIRRORED = {
    ("apps", "ReplicaSet"): "/apis/apps/v1/replicasets",
    ("batch", "Job"): "/apis/batch/v1/jobs",
}
"""Owners of which all are listed and watched."""

PLURALS = {
    ("apps", "Deployment"): "deployments",
    ("apps", "StatefulSet"): "statefulsets",
    ("apps", "DaemonSet"): "daemonsets",
    ("batch", "CronJob"): "cronjobs",
    ("batch.volcano.sh", "Job"): "jobs",
    ("jobset.x-k8s.io", "JobSet"): "jobsets",
    ("kubeflow.org", "JAXJob"): "jaxjobs",
    ("kubeflow.org", "MPIJob"): "mpijobs",
    ("kubeflow.org", "PaddleJob"): "paddlejobs",
    ("kubeflow.org", "PyTorchJob"): "pytorchjobs",
    ("kubeflow.org", "TFJob"): "tfjobs",
    ("kubeflow.org", "XGBoostJob"): "xgboostjobs",
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): "leaderworkersets",
    ("ray.io", "RayCluster"): "rayclusters",
    ("ray.io", "RayJob"): "rayjobs",
    ("ray.io", "RayService"): "rayservices",
    ("trainer.kubeflow.org", "TrainJob"): "trainjobs",
    ("workload.codeflare.dev", "AppWrapper"): "appwrappers",
}
"""Owners that are fetched one by one, as the API names them in paths."""

QUEUES = ("kueue.x-k8s.io/queue-name", "volcano.sh/queue-name", "scheduling.volcano.sh/queue-name")
"""Labels and annotations that name the queue of a pod or of one of its owners."""

_APPWRAPPER = "workload.codeflare.dev/appwrapper"
_LWS = "leaderworkerset.sigs.k8s.io/name"
_TRAINJOB = "trainer.kubeflow.org/trainjob-name"
_TRAINJOB_STEP = "trainer.kubeflow.org/trainjob-ancestor-step"
_RAY_KIND = "ray.io/originated-from-crd"
_RAY_NAME = "ray.io/originated-from-cr-name"
_RAY_CLUSTER = "ray.io/cluster"
_JOBSET = "jobset.sigs.k8s.io/jobset-name"
_KUBEFLOW = "training.kubeflow.org/job-name"
_KUBEFLOW_KIND = "training.kubeflow.org/operator-name"
_VOLCANO = "volcano.sh/job-name"
_JOB = ("batch.kubernetes.io/job-name", "job-name")
_GROUP = "kueue.x-k8s.io/pod-group-name"
_TEMPLATE = "pod-template-hash"
HINTS = frozenset(
    (
        *QUEUES, *_JOB, _APPWRAPPER, _LWS, _TRAINJOB, _TRAINJOB_STEP, _RAY_KIND, _RAY_NAME,
        _RAY_CLUSTER, _JOBSET, _KUBEFLOW, _KUBEFLOW_KIND, _VOLCANO, _GROUP, _TEMPLATE,
    )
)  # fmt: skip
"""Labels and annotations that are kept of pods and owners, for what they say of owners."""

_KUBEFLOW_KINDS = {
    "jaxjob-controller": "JAXJob",
    "mpi-operator": "MPIJob",
    "mpijob-controller": "MPIJob",
    "paddlejob-controller": "PaddleJob",
    "pytorchjob-controller": "PyTorchJob",
    "tfjob-controller": "TFJob",
    "xgboostjob-controller": "XGBoostJob",
}
_BATCH = frozenset(
    ("AppWrapper", "Job", "JobSet", "PodGroup", "RayJob", "TrainJob", *_KUBEFLOW_KINDS.values())
)
"""Kinds that run once: the pods of one are a sweep, or ranks of one training."""
_RANKS = (
    "PodGroup", "ReplicaSet", "StatefulSet", "Job", "Deployment", "RayCluster", "MPIJob", "JobSet",
    "TrainJob", "RayJob", "RayService", "LeaderWorkerSet", "AppWrapper",
)  # fmt: skip
"""Which kinds own which others, from the bottom up; PyTorchJob and its like rank with MPIJob."""
_DEEPEST = 10
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Link:
    """An object and the one that controls it. `hints` are those of its labels that are kept."""

    controller: OwnerReference | None
    hints: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Owner:
    """The workload on top. `array`: the batch workload that the pod is one of, empty if none is.

    `missing` is the link that is not known and may be fetched. `certain`: nothing is missing.
    """

    kind: str = ""
    name: str = ""
    array: str = ""
    queue: str = ""
    certain: bool = True
    missing: OwnerReference | None = None


def hints(meta: Meta) -> dict[str, str]:
    """Return the labels and annotations that tell of owners."""
    found = {**(meta.annotations or {}), **(meta.labels or {})}
    return {key: value for key, value in found.items() if key in HINTS}


def link(meta: Meta) -> Link:
    """Return what is kept of an owner."""
    return Link(meta.controller, hints(meta))


@dataclass(slots=True)
class Links:
    """The owners that exist, and the last ones that did: a pod may be heard of after them."""

    mirrored: dict[str, Link] = field(default_factory=dict)
    others: OrderedDict[str, Link] = field(default_factory=OrderedDict)

    def find(self, uid: str) -> Link | None:
        """Return an owner."""
        found = self.mirrored.get(uid)
        return found if found is not None else self.others.get(uid)

    def keep(self, uid: str, owner: Link) -> None:
        """Remember one that is not mirrored (any more); the oldest make way."""
        self.others[uid] = owner
        self.others.move_to_end(uid)
        while len(self.others) > _MOST_KEPT:
            self.others.popitem(last=False)


class MirroredLinks:
    """The store of one mirrored kind of owner."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._own: set[str] = set()

    def put(self, item: Thing) -> None:
        """Take an owner."""
        uid = item.metadata.uid
        self._links.mirrored[uid] = link(item.metadata)
        self._own.add(uid)

    def drop(self, item: Thing) -> None:
        """An owner was deleted; its pods mostly go after it."""
        self._links.mirrored.pop(item.metadata.uid, None)
        self._links.keep(item.metadata.uid, link(item.metadata))
        self._own.discard(item.metadata.uid)

    def keep_only(self, uids: AbstractSet[str]) -> None:
        """Forget those that were deleted unseen."""
        for uid in self._own - uids:
            self._links.keep(uid, self._links.mirrored.pop(uid))
        self._own &= uids


def fetchable(owner: OwnerReference) -> bool:
    """Tell whether an owner of this kind can be fetched by name."""
    return (owner.group, owner.kind) in PLURALS


def path_of(owner: OwnerReference, namespace: str) -> str:
    """Return where the API keeps it. Owners live in the namespace of what they own."""
    plural = PLURALS[owner.group, owner.kind]
    return f"/apis/{owner.api_version}/namespaces/{namespace}/{plural}/{owner.name}"


def resolve(pod: Link, name: str, find: Callable[[str], Link | None]) -> Owner:
    """Follow the controllers of a pod called `name` to the top."""
    chain: list[OwnerReference] = []
    told = dict(pod.hints)
    at: Link | None = pod
    while at is not None and at.controller is not None and len(chain) < _DEEPEST:
        chain.append(at.controller)
        at = find(at.controller.uid)
        if at is not None:
            told = {**at.hints, **told}
    queue = next((told[key] for key in QUEUES if key in told), "")
    names = [(owner.kind, owner.name) for owner in chain] or [("Pod", name)]
    lost = chain[-1] if chain and at is None else None
    known = lost is not None and (fetchable(lost) or _followed(lost))
    if known or not chain:
        names = _with_labels(names, told)
    kind, top = names[-1]
    return Owner(
        kind=kind,
        name=top,
        array=next((f"{kind}/{of}" for kind, of in reversed(names) if kind in _BATCH), ""),
        queue=queue,
        certain=not known,
        missing=lost if known and lost is not None and fetchable(lost) else None,
    )


def _followed(owner: OwnerReference) -> bool:
    """Tell whether the owner should have been known without asking for it."""
    # The workers of a LeaderWorkerSet belong to a StatefulSet of their leading pod.
    return (owner.group, owner.kind) in MIRRORED or (owner.group, owner.kind) == ("", "Pod")


def _with_labels(names: list[tuple[str, str]], told: Mapping[str, str]) -> list[tuple[str, str]]:
    """Add what labels tell of owners above those that are known."""
    kind, name = names[-1]
    claims = [*_claims(told), *_deployment(kind, name, told)]
    above = [claim for claim in claims if _rank(claim[0]) > _rank(kind)]
    return [*names, *sorted(above, key=lambda claim: _rank(claim[0]))]


def _rank(kind: str) -> int:
    if kind in _KUBEFLOW_KINDS.values():
        kind = "MPIJob"
    return _RANKS.index(kind) if kind in _RANKS else -1


def _claims(told: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the owners that labels name."""
    for kind, *keys in (
        ("AppWrapper", _APPWRAPPER),
        ("LeaderWorkerSet", _LWS),
        ("TrainJob", _TRAINJOB),
        ("JobSet", _JOBSET),
        ("Job", _VOLCANO, *_JOB),
        ("RayCluster", _RAY_CLUSTER),
        ("PodGroup", _GROUP),
    ):
        name = next((told[key] for key in keys if key in told), "")
        if name:
            yield kind, name
    if _TRAINJOB_STEP in told and _JOBSET in told:
        yield "TrainJob", told[_JOBSET]  # a TrainJob's JobSet has its name
    if told.get(_RAY_KIND) in {"RayJob", "RayService"} and _RAY_NAME in told:
        yield told[_RAY_KIND], told[_RAY_NAME]
    operator = _KUBEFLOW_KINDS.get(told.get(_KUBEFLOW_KIND, ""))
    if operator is not None and _KUBEFLOW in told:
        yield operator, told[_KUBEFLOW]


def _deployment(kind: str, name: str, told: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """A Deployment's ReplicaSet has its name and the hash that its pods carry."""
    suffix = f"-{told.get(_TEMPLATE, '')}"
    if kind == "ReplicaSet" and len(suffix) > 1 and name.endswith(suffix):
        yield "Deployment", name.removesuffix(suffix)
