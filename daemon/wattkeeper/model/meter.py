"""A meter: one physical point that counts energy on one node."""

import enum
from dataclasses import dataclass
from typing import Annotated

import msgspec


class Component(enum.StrEnum):
    """What a meter measures. `host` is a family of its own, so that nobody sums it twice."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"
    HOST = "host"


class Method(enum.IntEnum):
    """Where a figure comes from: the `source` axis of every posting."""

    COUNTER = 0
    INTEGRATED = 1
    ESTIMATED = 2


class MeterInfo(msgspec.Struct, frozen=True, array_like=True):
    """Who a meter is, as it travels to the ledger.

    `name` is `gpu/<UUID>`, `cpu/<socket>/<domain>` or `host/<meter>`: UUID or topology, never an
    index. `labels` are descriptive: uuid, pci_bus_id, model, driver, vendor, scope.
    """

    name: str
    component: Component
    source: str
    labels: Annotated[dict[str, str], msgspec.Meta(max_length=256)] = {}


@dataclass(frozen=True, slots=True)
class Partition:
    """A slice of a GPU that has no meter of its own (a MIG instance).

    `uuid` is `MIG-…`, `meter` the name of the physical GPU's meter, `instance` the GPU instance's
    id. `memory_ppm`, `compute_ppm`: its parts of the GPU's memory and of its compute units, in
    parts per million; they need not sum to the whole.
    """

    uuid: str
    meter: str
    instance: int
    memory_ppm: int
    compute_ppm: int


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """A meter as its source sees it now.

    `wrap_uj`: the counter's range if it wraps, else None.
    `limit_mw`: the most that it can plausibly draw, else None (then no jump can be told).
    `load`: identity of this load of the driver; another value is another epoch.
    `method`: COUNTER where the hardware counts energy, else INTEGRATED from power.
    """

    info: MeterInfo
    method: Method = Method.COUNTER
    wrap_uj: int | None = None
    limit_mw: int | None = None
    load: str = ""
