"""Puts an agent together: which sources, which ways to see holders, which journal."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wattkeeper.agent import kubernetes, slurm
from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.gpus import NodeGpus
from wattkeeper.agent.place import boot_id, claim
from wattkeeper.agent.runtime import Agent
from wattkeeper.agent.slurm import SlurmDevices
from wattkeeper.agent.transport import HttpTransport
from wattkeeper.flags import ConfigError
from wattkeeper.holders.base import HolderSource
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.holders.paths import Believed
from wattkeeper.holders.processes import ProcessHolders
from wattkeeper.holders.registry import HolderRegistry
from wattkeeper.metering.journal import Journal, JournalError
from wattkeeper.model.clock import Clock, SystemClock
from wattkeeper.model.reading import Gauge
from wattkeeper.sources.host import HostSource
from wattkeeper.sources.hwmon import HwmonSource
from wattkeeper.sources.rapl import RaplSource
from wattkeeper.tls.client import ClientCertificates

_CGROUPS, _PODS, _MERGED = "cgroups", "pods", "holders"


class Node:
    """The sources and holders of this machine, as an agent and `doctor` both use them.

    `on_edge` is called when a holder comes or goes; `memo` gives what `memos` said before a
    restart; `peek` leaves the spool of marks as it is, for whoever looks beside a running agent.
    """

    def __init__(
        self,
        settings: AgentSettings,
        clock: Clock,
        boot: str,
        on_edge: Callable[[], None],
        memo: Callable[[str], Any],
        *,
        peek: bool = False,
    ) -> None:
        path = settings.path
        self._boot = boot
        self.gpus = NodeGpus(settings)
        self.sources = (
            *self.gpus.sources,
            RaplSource(path.sysfs, module_metered=self.gpus.module_metered),
            HwmonSource(path.sysfs, module_metered=self.gpus.module_metered),
            HostSource(path.procfs),
        )

        def edge() -> None:
            self.gpus.hurry()  # processes come to their GPUs seconds after the cgroup
            on_edge()

        believed = Believed(settings.slurm.nodename, settings.slurm.in_pods)
        self._cgroups = CgroupHolders(
            path.procfs, path.cgroupfs, clock, edge, memo(_CGROUPS), believed, path.sysfs
        )
        processes = ProcessHolders(
            self.gpus.processes, path.procfs, clock, self._cgroups.birth_ms, believed,
            self.gpus.partitions,
        )  # fmt: skip
        self.slurm_devices = SlurmDevices(
            self.gpus.meters, self.gpus.partitions, settings.slurm.gpu_order
        )
        weak, self._marks = slurm.ways(
            settings, self._cgroups, self.slurm_devices, self.gpus.partitions, clock, boot,
            on_edge, peek=peek,
        )  # fmt: skip
        self._pods = kubernetes.ways(
            settings.kubernetes, self._cgroups, self.gpus, clock, self._of_this_boot(memo(_PODS))
        )
        # Marks last: their labels are the scheduler's own.
        ways: list[HolderSource] = [self._cgroups, processes, *weak, *self._pods, self._marks]
        self.holders = HolderRegistry(ways, memo(_MERGED) or ())

    def memos(self) -> Mapping[str, Any]:
        """Return what lets holders keep their births over a restart."""
        return {
            _CGROUPS: self._cgroups.remember(),
            _PODS: {"boot_id": self._boot, **(self._pods[0].remember() if self._pods else {})},
            _MERGED: self.holders.remember(),
        }

    def _of_this_boot(self, known: Any) -> Any:
        return known if known and known.get("boot_id") == self._boot else None

    def changed_hands(self, meter: str, since_ns: int) -> bool:
        """Tell whether a job got or lost the meter after `since_ns` (boot time)."""
        return any(meter in edge.meters for edge in self.holders.edges(since_ns))

    def gauges(self) -> list[Gauge]:
        """Return what is counted about holders."""
        return [*slurm.gauges(self.holders, self._marks), *kubernetes.gauges(self._pods)]


@contextlib.contextmanager
def agent(settings: AgentSettings, on_edge: Callable[[], None]) -> Iterator[Agent]:
    """Build the agent of this machine and hold its data folder.

    Raises:
        ConfigError: the configuration cannot work here; names the key and the fix.

    """
    clock, boot = SystemClock(), boot_id(settings.path.procfs)
    with claim(settings.data_dir, settings.path.procfs):
        try:
            journal = Journal(
                settings.data_dir,
                cluster=settings.cluster_name,
                node=settings.node,
                max_bytes=settings.journal.max_bytes,
            )
        except JournalError as error:
            raise ConfigError(str(error)) from error
        node = Node(settings, clock, boot, on_edge, journal.memo)
        yield Agent(
            settings, clock, boot, node.sources, node.holders, journal,
            transport(settings), node.memos, node.changed_hands, node.holders.fresh, node.gauges,
        )  # fmt: skip


def transport(settings: AgentSettings) -> HttpTransport | None:
    """Return the way to the aggregator, None if none is configured."""
    aggregator = settings.aggregator
    if aggregator.url is None:
        return None
    return HttpTransport(
        str(aggregator.url),
        aggregator.shown,
        aggregator.timeout.total_seconds(),
        token_file=aggregator.token_file,
        certificates=certificates(settings),
    )


def certificates(settings: AgentSettings) -> ClientCertificates:
    """Return what the agent believes and shows when it delivers."""
    one = settings.aggregator
    return ClientCertificates(one.ca, one.certificate, one.key, "aggregator.")
