"""All GPUs of this node, whoever made them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wattkeeper.agent.config import AgentSettings
from wattkeeper.model.meter import MeterSpec, Partition
from wattkeeper.sources import amd_sysfs
from wattkeeper.sources.amd import AmdSource
from wattkeeper.sources.amd_hwmon import AmdHwmonSource
from wattkeeper.sources.base import DeviceProcess
from wattkeeper.sources.driver import DriverSource
from wattkeeper.sources.nvml import NvmlSource


class NodeGpus:
    """The sources of GPUs as one. AMD's are there where this machine has an AMD GPU."""

    def __init__(self, settings: AgentSettings) -> None:
        path = settings.path
        self._drivers: list[DriverSource] = [
            NvmlSource(path.sysfs, path.procfs, gpm=settings.nvml.gpm)
        ]
        self.sources: list[DriverSource | AmdHwmonSource] = [*self._drivers]
        if any(amd_sysfs.gpus(path.sysfs)):
            self._add_amd(path.sysfs, path.procfs)

    def _add_amd(self, sysfs: Path, procfs: Path) -> None:
        amd = AmdSource(sysfs, procfs)
        self._drivers.append(amd)
        self.sources += [amd, AmdHwmonSource(sysfs, lambda: amd.blind)]

    def meters(self) -> Sequence[MeterSpec]:
        """Return the meters of all GPUs."""
        return [spec for source in self.sources for spec in source.meters()]

    def partitions(self) -> Mapping[str, Partition]:
        """Return the parts of divided GPUs by UUID."""
        return {uuid: part for source in self.sources for uuid, part in source.partitions().items()}

    def processes(self) -> Mapping[str, Sequence[DeviceProcess]]:
        """Return the processes of each GPU by meter; a missing meter is unknown."""
        return {
            meter: found for source in self._drivers for meter, found in source.processes().items()
        }

    def hurry(self) -> None:
        """Look at processes more often for a while: holders come and go just now."""
        for source in self._drivers:
            source.hurry()

    def module_metered(self) -> bool:
        """Tell whether a GPU's counter covers its whole module, processors and all."""
        return any(spec.info.labels.get("scope") == "module" for spec in self.meters())
