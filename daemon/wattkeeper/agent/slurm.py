"""How this node's Slurm jobs are seen: what its GPU indices mean, and who says who has them."""

from collections.abc import Callable, Mapping, Sequence

from wattkeeper.agent.config import AgentSettings
from wattkeeper.holders.base import HolderSource
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.holders.dcgm_mapping import MappingHolders
from wattkeeper.holders.gpus import Device
from wattkeeper.holders.mark_holders import MarkHolders, Surroundings
from wattkeeper.holders.marks import SPOOL
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.holders.slurm_environ import SlurmEnvironHolders
from wattkeeper.holders.slurm_roll import SlurmRoll, squeue
from wattkeeper.model.clock import Clock
from wattkeeper.model.meter import MeterSpec, Partition
from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import Finding, State
from wattkeeper.values import milliseconds

_NS_PER_MS = 1_000_000


class SlurmDevices:
    """Slurm's GPU indices, as devices that are metered.

    `order` is `pci`, as Slurm counts by itself (AutoDetect=nvml, rsmi), or `minor`, where
    gres.conf lists /dev/nvidiaN or /dev/dri/renderDN files. A GPU in MIG mode counts as its
    instances, an MI250X as its dies. With GPUs of two makers no index is certain.
    """

    def __init__(
        self,
        meters: Callable[[], Sequence[MeterSpec]],
        partitions: Callable[[], Mapping[str, Partition]],
        order: str,
    ) -> None:
        self._meters = meters
        self._partitions = partitions
        self._order = order

    def gpus(self) -> Mapping[int, str]:
        """Return the meters of whole GPUs by index; empty while the driver does not answer."""
        label = "minor" if self._order == "minor" else "gpu"
        specs = [spec for spec in self._meters() if spec.info.labels.get(label, "").isdecimal()]
        if len(_makers(specs)) > 1:
            return {}
        specs.sort(key=lambda spec: int(spec.info.labels[label]))
        if self._order == "minor":
            # Slurm counts the files that it was given from 0, whatever their numbers.
            return {index: spec.info.name for index, spec in enumerate(specs)}
        return {int(spec.info.labels[label]): spec.info.name for spec in specs}

    def devices(self) -> Mapping[int, Device]:
        """Return what Slurm hands out by index: GPUs, and instances of those in MIG mode."""
        gpus = self.gpus()
        instances: dict[str, list[Partition]] = {}
        for part in self._partitions().values():
            instances.setdefault(part.meter, []).append(part)
        if not instances:
            return gpus
        found: list[Device] = []
        for _, meter in sorted(gpus.items()):
            found += instances.get(meter) or [meter]
        return dict(enumerate(found))

    def findings(self) -> list[Finding]:
        """Return whether minor numbers run against PCI order, so that gres.conf decides."""
        makers = _makers(self._meters())
        if len(makers) > 1:
            detail = f"GPUs of {' and '.join(sorted(makers))}: Slurm's indices are not believed"
            return [Finding("slurm/gpu_order", State.STALE, detail, "name GPUs by UUID in marks")]
        minors = [
            int(spec.info.labels["minor"])
            for spec in sorted(self._meters(), key=lambda spec: int(spec.info.labels["gpu"]))
            if spec.info.labels.get("minor", "").isdecimal()
        ]
        if minors == sorted(minors):
            return []
        detail = (
            f"the GPUs in the order of their PCI addresses are {_device_file(makers)}"
            f"{','.join(map(str, minors))}; indices are counted by {self._order}"
        )
        fix = (
            "if gres.conf names these files, set slurm.gpu_order = 'minor'; with AutoDetect=nvml, "
            "'pci'"
        )
        return [Finding("slurm/gpu_order", State.STALE, detail, fix)]


def _makers(specs: Sequence[MeterSpec]) -> set[str]:
    return {spec.info.labels.get("vendor", "") for spec in specs}


def _device_file(makers: set[str]) -> str:
    return "/dev/dri/renderD" if makers == {"amd"} else "/dev/nvidia"


def ways(
    settings: AgentSettings,
    cgroups: CgroupHolders,
    devices: SlurmDevices,
    partitions: Callable[[], Mapping[str, Partition]],
    clock: Clock,
    boot: str,
    on_edge: Callable[[], None],
    *,
    peek: bool,
) -> tuple[list[HolderSource], MarkHolders]:
    """Return the ways to see who has which GPU, the weakest word first; marks come last."""
    found: list[HolderSource] = []
    environ = SlurmEnvironHolders(
        settings.path.procfs, cgroups.lives, devices.devices, clock, on_edge, cgroups.died_ns
    )
    found.append(environ)
    folder = settings.slurm.job_mapping_dir
    if folder is not None:
        found.append(MappingHolders(folder, devices.gpus, partitions, clock, cgroups.birth_ms))
    marks = MarkHolders(
        settings.data_dir / SPOOL,
        devices.devices,
        boot,
        partitions=partitions,
        around=Surroundings(
            cgroups,
            SlurmRoll(squeue(settings.slurm.nodename or settings.node), clock),
            environ.claims,
            clock,
            milliseconds(settings.slurm.epilog_grace) * _NS_PER_MS,
        ),
        peek=peek,
    )
    return found, marks


def gauges(holders: HolderRegistry, marks: MarkHolders) -> list[Gauge]:
    """Return how often ways of seeing contradict each other, and how many epilogs were missed."""
    kinds = {"allocated": 0, "mapping": 0, "environ": 0, "processes": 0}
    for conflict in holders.conflicts:
        kind = conflict.kind if conflict.kind in kinds else "allocated"
        kinds[kind] += 1
    found = [Gauge("holder_conflicts", (("kind", kind),), count) for kind, count in kinds.items()]
    return [*found, Gauge("missed_epilogs_total", (), marks.missed_epilogs)]
