"""Nodes as slurmctld tells them: `scontrol show nodes`, `/slurm/…/nodes`, `sinfo`, all in JSON."""

from typing import Any

import msgspec

from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.hostlist import expand
from wattkeeper.schedulers.marks import FEATURE, TOPOLOGY, bounded
from wattkeeper.schedulers.slurm_gres import gpu_count, has_slices
from wattkeeper.schedulers.slurm_values import text, words

_AWAY = frozenset(
    {"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "POWER_DOWN", "POWER_UP", "FUTURE"}
)
"""Nothing can be metered there. A node that is down or drained draws power: it should be."""


class NodeRecord(msgspec.Struct, frozen=True):
    """The fields that are read; `node`, `nodes` and a table `gres` are `sinfo`'s from 23.02 on."""

    name: Any = None
    state: Any = None
    state_flags: Any = None
    gres: Any = None
    node: Any = None
    nodes: Any = None
    features: Any = None
    active_features: Any = None
    topology: Any = None


def read(cluster: str, record: NodeRecord) -> list[tuple[NodeInfo, bool]]:
    """Return the nodes of a record, and whether their GPUs are cut into slices.

    Raises:
        ValueError: the record cannot be read.

    """
    if isinstance(record.node, dict):
        names = [name for part in words(_of(record.nodes, "nodes")) for name in expand(part)]
        state, gres = words(record.node.get("state")), _of(record.gres, "total")
    else:
        names = [text(record.name)]
        state, gres = (*words(record.state), *words(record.state_flags)), record.gres
    gres = gres if isinstance(gres, str) else ""  # long: a list of types is not to be cut
    if not all(names):
        raise ValueError("a node without a name")
    flags = [flag.upper().rstrip("*~#!%$@^-+") for flag in state]
    gpus, sliced, expected = gpu_count(gres), has_slices(gres), _AWAY.isdisjoint(flags)
    state_text, marks = "+".join(flags), _marks(record)
    return [(NodeInfo(cluster, name, gpus, state_text, expected, marks), sliced) for name in names]


def _marks(record: NodeRecord) -> tuple[str, ...]:
    """Return features that are active, and where in the topology a node is (25.05 on)."""
    features = record.active_features or _of(record.features, "active") or record.features
    named = (feature for word in words(features) for feature in word.split(",") if feature)
    units = filter(None, text(record.topology).split(","))
    return bounded([*(FEATURE + feature for feature in named), *map(_unit, units)])


def _unit(path: str) -> str:
    """Return `topology:default=s1` of `default:s1`, or of a path of switches that ends there."""
    name, _, rest = path.partition(":")
    return f"{TOPOLOGY}{name}={rest.rpartition(':')[2]}"


def topology(said: bytes) -> dict[str, str]:
    """Return the leaf switch or block of each node by `scontrol show topology`, as marks."""
    found: dict[str, str] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        values = dict(word.split("=", 1) for word in line.split() if "=" in word)
        unit = values.get("SwitchName") or values.get("BlockName")
        nodes = values.get("Nodes")
        if not unit or not nodes or values.get("Level", "0") != "0":
            continue
        for node in expand(nodes):
            found.setdefault(node, f"{TOPOLOGY}={unit}")
    return found


def _of(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None
