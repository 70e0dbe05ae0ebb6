"""Nodes as slurmctld tells them: `scontrol show nodes`, `/slurm/…/nodes`, `sinfo`, all in JSON."""

from typing import Any

import msgspec

from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.hostlist import expand
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
    return [(NodeInfo(cluster, name, gpus, "+".join(flags), expected), sliced) for name in names]


def _of(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None
