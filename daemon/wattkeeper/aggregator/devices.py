"""Every device now: what it draws, how warm it is, and who has it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field

from wattkeeper.aggregator.answers import Answer, Instant, NodeGpus
from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.live import LiveMeter, LiveNode
from wattkeeper.ledger.queries.whose import Whose, whose_grants, whose_holders
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component


class DevicesQuery(Query):
    """Which devices."""

    cluster: str | None = Field(None, description="of this cluster")
    node: str | None = Field(None, description="of this node")
    component: Literal["gpu", "cpu", "dram", "host"] | None = Field(
        None, description="of this kind"
    )


class Holding(Answer):
    """A run that has a device."""

    cluster: str
    job_id: str
    account: str | None
    user: str | None
    name: str | None


class Device(Answer):
    """A device as the last delivery of its node showed it; null is what cannot be read.

    `use`: `busy`; `idle`, held by a run and doing nothing; `free`; null where that is not known.
    `held_by`: the runs that have it, by the node's word, else by their scheduler's.
    """

    cluster: str
    node: str
    meter: str
    component: str
    gpu: int | None
    watts: float | None
    celsius: float | None
    utilization: float | None
    use: Literal["busy", "idle", "free"] | None
    held_by: list[Holding]


class Devices(Answer):
    """The devices of the nodes that are live, by cluster and node, GPUs first by their index."""

    as_of: Instant
    devices: list[Device]


def devices(ledger: Ledger, nodes: Iterable[LiveNode], query: DevicesQuery) -> list[Device]:
    """Return the devices of some nodes. Blocks."""
    found = [
        (node, meter)
        for node in nodes
        if query.cluster in (None, node.cluster) and query.node in (None, node.node)
        for meter in node.meters
        if query.component in (None, meter.component)
    ]
    pairs = ((node.journal, holder) for node, meter in found for holder in meter.workloads)
    held = whose_holders(ledger, pairs)
    granted = whose_grants(ledger) if found else {}
    listed = []
    for node, meter in found:
        runs: Iterable[Whose] = (
            held[pair] for one in meter.workloads if (pair := (node.journal, one)) in held
        )
        if not meter.held and meter.gpu is not None:
            runs = granted.get((node.cluster, node.node, meter.gpu), ())
        listed.append(_device(node, meter, sorted(set(runs))))
    return sorted(listed, key=_order)


def gpus_of(meters: Iterable[LiveMeter]) -> NodeGpus:
    """Return what the GPUs among some meters are together."""
    gpus = [meter for meter in meters if meter.component == Component.GPU]
    powers = [gpu.power_mw for gpu in gpus if gpu.power_mw is not None]
    heats = [gpu.temperature_mc for gpu in gpus if gpu.temperature_mc is not None]
    loads = [gpu.utilization_ppm for gpu in gpus if gpu.utilization_ppm is not None]
    return NodeGpus(
        count=len(gpus),
        watts=sum(powers) / 1000 if powers else None,
        hottest_celsius=max(heats) / 1000 if heats else None,
        mean_utilization=sum(loads) / len(loads) / 1e6 if loads else None,
    )


def _device(node: LiveNode, meter: LiveMeter, runs: Sequence[Whose]) -> Device:
    return Device(
        cluster=node.cluster,
        node=node.node,
        meter=meter.name,
        component=meter.component,
        gpu=meter.gpu,
        watts=None if meter.power_mw is None else meter.power_mw / 1000,
        celsius=None if meter.temperature_mc is None else meter.temperature_mc / 1000,
        utilization=None if meter.utilization_ppm is None else meter.utilization_ppm / 1e6,
        use=_use(meter, granted=bool(runs)),
        held_by=list(_holding(runs)),
    )


def _use(meter: LiveMeter, *, granted: bool) -> Literal["busy", "idle", "free"] | None:
    if meter.component != Component.GPU or meter.utilization_ppm is None:
        return None
    if not meter.idle:
        return "busy"
    return "idle" if meter.held or granted else "free"


def _holding(runs: Iterable[Whose]) -> Iterator[Holding]:
    for run in runs:
        yield Holding(
            cluster=run.cluster,
            job_id=run.job,
            account=run.account or None,
            user=run.user or None,
            name=run.name or None,
        )


def _order(device: Device) -> tuple[str, str, bool, int, str]:
    index = -1 if device.gpu is None else device.gpu
    return device.cluster, device.node, device.component != Component.GPU, index, device.meter
