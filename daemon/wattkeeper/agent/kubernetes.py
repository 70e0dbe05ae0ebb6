"""Kubernetes on this node: how an agent is put together to see which pod was given which GPU."""

from collections.abc import Mapping, Sequence
from typing import Any

from wattkeeper.agent.config import KubernetesSection
from wattkeeper.agent.gpus import NodeGpus
from wattkeeper.holders.cgroups import CgroupHolders, Life
from wattkeeper.holders.paths import KUBERNETES
from wattkeeper.holders.pod_resources import NodeView, PodResources
from wattkeeper.model.clock import Clock
from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import State

_UNSEEN = frozenset({State.ABSENT, State.DENIED})


def ways(
    settings: KubernetesSection,
    cgroups: CgroupHolders,
    node_gpus: NodeGpus,
    clock: Clock,
    remembered: Any,
) -> list[PodResources]:
    """Return the kubelet's word as a way to see holders, none where it is switched off."""
    if settings.enabled is False:
        return []
    view = NodeView(
        lambda: pods(cgroups),
        cgroups.died_ns,
        lambda: [spec.info for spec in node_gpus.meters()],
        node_gpus.partitions,
    )
    return [
        PodResources(
            settings.pod_resources,
            settings.pod_logs,
            view,
            clock,
            remembered,
            wanted=settings.enabled is True,
        )
    ]


def gauges(asked: Sequence[PodResources]) -> list[Gauge]:
    """Return how many GPU devices pods may be given, how many they have, how many are unclear."""
    return [
        Gauge("pod_gpus", (("state", state),), count)
        for way in asked
        for state, count in way.counts().items()
    ]


def pods(cgroups: CgroupHolders) -> Mapping[str, Life] | None:
    """Return the pods that have a cgroup by UID, None while cgroups cannot be seen at all."""
    if any(f.subject == cgroups.name and f.state in _UNSEEN for f in cgroups.findings()):
        return None
    return {life.key.raw_id: life for life in cgroups.lives() if life.key.manager == KUBERNETES}
