"""Objects as the API shows them: pods with their owners, nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kube.server import uid
from tests.kube.store import Kind, Object

BEGAN = "2026-11-23T10:00:00Z"
BEGAN_MS = 1_795_428_000_000
ENDED = "2026-11-23T10:05:00Z"
ENDED_MS = BEGAN_MS + 300_000


@dataclass(frozen=True)
class Made:
    """An owner that was made: where it is kept, and how others refer to it."""

    kind: Kind
    object: Object
    reference: dict[str, Any]


def owner(
    api_version: str,
    kind: str,
    plural: str,
    name: str,
    above: "Made | None" = None,
    labels: Mapping[str, str] | None = None,
    namespace: str = "ml",
) -> Made:
    """Return an owner, controlled by the one above."""
    own = uid()
    meta: dict[str, Any] = {"name": name, "namespace": namespace, "uid": own}
    if labels:
        meta["labels"] = dict(labels)
    if above is not None:
        meta["ownerReferences"] = [above.reference]
    reference = {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": own,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    group = api_version.rpartition("/")[0]
    return Made(
        Kind(group, plural),
        {"apiVersion": api_version, "kind": kind, "metadata": meta, "spec": {"replicas": 1}},
        reference,
    )


@dataclass
class PodMaker:
    """A pod and its life. Each step returns the object as the API shows it then."""

    name: str
    namespace: str = "ml"
    owners: Sequence[Mapping[str, Any]] = ()
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    node: str = "n1"
    uid: str = field(default_factory=uid)
    deletion: str | None = None

    def show(self, phase: str, *, placed: bool = True, **status: Any) -> Object:
        """Return it in a phase."""
        meta: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "uid": self.uid,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "ownerReferences": [dict(one) for one in self.owners],
            "managedFields": [{"manager": "kubelet"}],
        }
        if self.deletion is not None:
            meta["deletionTimestamp"] = self.deletion
        spec: dict[str, Any] = {"containers": [{"name": "main", "image": "x"}]}
        if placed:
            spec["nodeName"] = self.node
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": spec,
            "status": {"phase": phase, **status},
        }

    def pending(self) -> Object:
        """Waiting for a node."""
        return self.show("Pending", placed=False)

    def running(self) -> Object:
        """Running."""
        state = {"running": {"startedAt": BEGAN}}
        return self.show(
            "Running", startTime=BEGAN, containerStatuses=[{"name": "main", "state": state}]
        )

    def over(self, phase: str = "Succeeded") -> Object:
        """Ended by itself."""
        state = {"terminated": {"exitCode": 0, "startedAt": BEGAN, "finishedAt": ENDED}}
        return self.show(
            phase, startTime=BEGAN, containerStatuses=[{"name": "main", "state": state}]
        )


def node(
    name: str,
    capacity: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    ready: str = "True",
    **spec: Any,
) -> Object:
    """Return a node."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": uid(), "labels": dict(labels or {})},
        "spec": spec,
        "status": {
            "capacity": {"cpu": "128", "memory": "2Ti", **(capacity or {})},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": ready},
            ],
        },
    }
