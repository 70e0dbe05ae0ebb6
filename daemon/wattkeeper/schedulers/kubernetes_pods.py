"""Pods as workloads: what is read of each, and when it ended."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.kubernetes_objects import MIRROR, Pod

MANAGER = "kubernetes"

SLURM_NODE = "slurm_node"
"""Label of a pod in which a slurmd runs: the Slurm node that it is. Its jobs pay, not the pod."""
SLURM_JOB = "slurm_job"
"""Label of a pod for which Slurm holds the place: the id of that job. The pod pays, not the job."""

_ENDED = frozenset(("Succeeded", "Failed"))
_NODE_SETS = frozenset(("slinky.slurm.net", "sunk.coreweave.com"))
"""Groups whose NodeSets make pods with a slurmd inside."""
_SLINKY_HOSTNAME = "nodeset.slinky.slurm.net/pod-hostname"
_SLINKY_JOB = "scheduler.slinky.slurm.net/slurm-jobid"
_DIGEST = re.compile("[0-9a-f]{32}")
_READY = frozenset(("Ready", "ContainersReady"))


@dataclass(frozen=True, slots=True)
class Naming:
    """Which words of a pod name whom.

    `user` and `account`: labels or annotations, the first that a pod has counts; without any, its
    namespace is its account. `labels`: those that become dimensions of reports.
    """

    cluster: str
    user: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def _uid_on_node(pod: Pod) -> str:
    """Return the UID in cgroup paths: a static pod's image at the API has one of its own.

    Anybody may annotate a pod, but a digest without dashes is no UID that the API ever gave, so
    nobody can pass for another's pod.
    """
    digest = (pod.metadata.annotations or {}).get(MIRROR, "")
    return digest if _DIGEST.fullmatch(digest) else pod.metadata.uid


def placed(pod: Pod) -> bool:
    """Tell whether it was given a node: before, it can hold nothing."""
    return bool(pod.spec.node_name)


def ended(pod: Pod) -> bool:
    """Tell whether it has come to its end."""
    return pod.status.phase in _ENDED


def workload(pod: Pod, naming: Naming) -> WorkloadInfo:
    """Return what the pod itself tells; owner, array and queue come from `resolve`."""
    meta = pod.metadata
    words = {**(meta.annotations or {}), **(meta.labels or {})}
    on_node = _uid_on_node(pod)
    return WorkloadInfo(
        cluster=naming.cluster,
        manager=MANAGER,
        raw_id=on_node,
        job_id=meta.name,
        other_id=meta.uid if on_node != meta.uid else "",
        run=on_node,
        user=_first(words, naming.user),
        account=_first(words, naming.account) or meta.namespace,
        name=meta.name,
        namespace=meta.namespace,
        state=pod.status.phase.lower(),
        start_ms=_ms(pod.status.start_time),
        end_ms=end_ms(pod) if ended(pod) else None,
        nodes=(pod.spec.node_name,),
        labels=_labels(pod, naming.labels),
    )


def end_ms(pod: Pod) -> int | None:
    """Return when it ended (UTC), as far as the pod itself says.

    That is when its last container did. An evicted pod may never have had one: then it is when it
    was no longer ready, or was to be gone.
    """
    states = [container.state.terminated for container in pod.status.containers]
    finished = [state.finished_at for state in states if state is not None]
    times = [at for at in finished if at is not None]
    if not times:
        conditions = pod.status.conditions or ()
        marks = [c.last_transition_time for c in conditions if c.type in _READY]
        times = [at for at in marks if at is not None]
    return _ms(max(times)) if times else deadline_ms(pod)


def deadline_ms(pod: Pod) -> int | None:
    """Return when a pod that is being deleted has to be gone (UTC)."""
    return _ms(pod.metadata.deletion_timestamp)


def _labels(pod: Pod, chosen: tuple[str, ...]) -> dict[str, str]:
    own = pod.metadata.labels or {}
    found = {key: own[key][:MAX_LABEL] for key in chosen if key in own}
    controller = pod.metadata.controller
    slinky = own.get(_SLINKY_HOSTNAME)
    node_set = controller is not None and controller.kind == "NodeSet"
    if slinky or (node_set and controller is not None and controller.group in _NODE_SETS):
        found[SLURM_NODE] = slinky or pod.spec.hostname or pod.metadata.name
    if _SLINKY_JOB in own:
        found[SLURM_JOB] = own[_SLINKY_JOB]
    return found


def _first(words: Mapping[str, str], keys: tuple[str, ...]) -> str:
    return next((words[key] for key in keys if words.get(key)), "")[:MAX_LABEL]


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)
