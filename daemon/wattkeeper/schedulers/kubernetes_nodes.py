"""Nodes as the API lists them: which there are, and how many GPUs each should have."""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.kubernetes_objects import Node
from wattkeeper.schedulers.marks import LABEL, bounded

_COUNTS = ("nvidia.com/gpu.count", "cloud.google.com/gke-accelerator-count")
"""Labels that count physical GPUs: NVIDIA's feature discovery, GKE."""
_PRESENT = "nvidia.com/gpu.present"
_WHOLE = ("nvidia.com/gpu", "amd.com/gpu")
_MIG = "nvidia.com/mig-"
_SHARED = "nvidia.com/gpu.shared"
_REPLICAS = "nvidia.com/gpu.replicas"
_MOST_GPUS = 4096
"""No node has more: a label that says so is a mistake."""
_POWERED_DOWN = frozenset(
    ("node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service")
)


def node(item: Node, cluster: str, chosen: Collection[str] = ()) -> NodeInfo:
    """Return a node as the inventory has it, with the `chosen` of its labels."""
    labels = item.metadata.labels or {}
    taints = {taint.key for taint in item.spec.taints or ()}
    virtual = labels.get("type") == "virtual-kubelet"
    return NodeInfo(
        cluster=cluster,
        name=item.metadata.name,
        gpus=_gpus(item.status.capacity or {}, labels),
        state=_state(item),
        expected=not virtual and taints.isdisjoint(_POWERED_DOWN),
        marks=bounded(f"{LABEL}{key}={labels[key]}" for key in chosen if key in labels),
    )


def _state(item: Node) -> str:
    """Return the state in kubectl's words."""
    ready = next((c.status for c in item.status.conditions or () if c.type == "Ready"), "Unknown")
    word = "Ready" if ready == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if item.spec.unschedulable else word


def _gpus(capacity: Mapping[str, str], labels: Mapping[str, str]) -> int | None:
    """Return the physical GPUs, None where only parts or replicas of them are counted."""
    for key in _COUNTS:
        if (count := _number(labels.get(key, ""))) is not None:
            return count
    numbers = [_number(capacity.get(key, "")) for key in _WHOLE]
    counted = [number for number in numbers if number is not None]
    shared = _SHARED in capacity or labels.get(_REPLICAS, "1") not in {"0", "1"}
    if shared or any(key.startswith(_MIG) for key in capacity):
        return None
    # With dynamic resource allocation GPUs are no capacity of the node any more.
    if not counted and labels.get(_PRESENT) == "true":
        return None
    return sum(counted)


def _number(text: str) -> int | None:
    if len(text) > len(str(_MOST_GPUS)) or not text.isdecimal() or int(text) > _MOST_GPUS:
        return None
    return int(text)


class Inventory:
    """The store of nodes. `labels`: those that are kept."""

    def __init__(self, cluster: str, labels: Collection[str] = ()) -> None:
        self._cluster = cluster
        self._labels = labels
        self._nodes: dict[str, NodeInfo] = {}

    def put(self, item: Node) -> None:
        """Take a node that exists."""
        self._nodes[item.metadata.uid] = node(item, self._cluster, self._labels)

    def drop(self, item: Node) -> None:
        """A node was removed."""
        self._nodes.pop(item.metadata.uid, None)

    def keep_only(self, uids: AbstractSet[str]) -> None:
        """Forget nodes that were removed unseen."""
        for uid in self._nodes.keys() - uids:
            del self._nodes[uid]

    def nodes(self) -> tuple[NodeInfo, ...]:
        """Return all of them."""
        return tuple(self._nodes.values())
