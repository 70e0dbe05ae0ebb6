"""Nodes of the inventory: how many GPUs each should have, and whether it should be metered."""

from typing import Any

import msgspec
import pytest

from tests.kube.objects import node as shown_node
from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.kubernetes_nodes import node
from wattkeeper.schedulers.kubernetes_objects import Node


def _node(*args: Any, **kwargs: Any) -> NodeInfo:
    shown = shown_node("n1", *args, **kwargs)
    return node(msgspec.json.decode(msgspec.json.encode(shown), type=Node), "c")


@pytest.mark.parametrize(
    ("gpus", "capacity", "labels"),
    [
        (8, {"nvidia.com/gpu": "8"}, {}),
        (4, {"amd.com/gpu": "4"}, {}),
        (0, {}, {}),
        # Time slicing multiplies what is counted; feature discovery counts what is there.
        (2, {"nvidia.com/gpu": "8"}, {"nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "4"}),
        (None, {"nvidia.com/gpu": "8"}, {"nvidia.com/gpu.replicas": "4"}),
        (8, {"nvidia.com/gpu": "8"}, {"nvidia.com/gpu.replicas": "1"}),
        (None, {"nvidia.com/gpu.shared": "8"}, {}),
        (4, {"nvidia.com/gpu": "40"}, {"cloud.google.com/gke-accelerator-count": "4"}),
        # MIG: instances are no GPUs.
        (8, {"nvidia.com/mig-1g.10gb": "56"}, {"nvidia.com/gpu.count": "8"}),
        (None, {"nvidia.com/gpu": "4", "nvidia.com/mig-1g.10gb": "28"}, {}),
        # Dynamic resource allocation: GPUs are in ResourceSlices, not in the capacity.
        (None, {}, {"nvidia.com/gpu.present": "true"}),
        (0, {"nvidia.com/gpu": "0"}, {"nvidia.com/gpu.present": "true"}),
        (3, {"nvidia.com/gpu": "3"}, {"nvidia.com/gpu.count": "many"}),
        # More than the books can hold would keep every answer out of them.
        (3, {"nvidia.com/gpu": "3"}, {"nvidia.com/gpu.count": "9" * 60}),
        (0, {"nvidia.com/gpu": "99999999999999999999"}, {}),
    ],
)
def test_physical_gpus(gpus: int | None, capacity: dict[str, str], labels: dict[str, str]) -> None:
    """Whole GPUs are counted; where only parts or replicas are, nothing is claimed."""
    assert gpus == _node(capacity, labels).gpus


@pytest.mark.parametrize(
    ("state", "ready", "unschedulable"),
    [
        ("Ready", "True", None),
        ("NotReady", "False", None),
        ("NotReady", "Unknown", None),
        ("Ready,SchedulingDisabled", "True", True),
    ],
)
def test_states(state: str, ready: str, unschedulable: bool | None) -> None:
    """States are those that kubectl shows; a node that is not ready should still be metered."""
    found = _node(ready=ready, unschedulable=unschedulable)
    assert (state, True) == (found.state, found.expected)


@pytest.mark.parametrize(
    "gone",
    [
        {"taints": [{"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}]},
        {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]},
        {"labels": {"type": "virtual-kubelet"}},
    ],
)
def test_nodes_that_draw_nothing_here(gone: dict[str, Any]) -> None:
    """Powered down, or no machine at all."""
    assert not _node(ready="False", **gone).expected
    assert _node(taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]).expected


def test_chosen_labels() -> None:
    """No others are kept; a node without one is not marked with it."""
    shown = shown_node("n1", {}, {"rack": "r12", "secret": "x"})
    item = msgspec.json.decode(msgspec.json.encode(shown), type=Node)
    assert node(item, "c", ("rack", "zone")).marks == ("label:rack=r12",)
    assert node(item, "c").marks == ()
