"""Which schedulers the configuration asks for."""

import os
import shutil
from collections.abc import Collection
from functools import partial
from pathlib import Path

from wattkeeper.aggregator.config import AggregatorSettings, KubernetesSection, SlurmSection
from wattkeeper.aggregator.group_config import wanted_labels, wants_topology
from wattkeeper.schedulers.base import Scheduler
from wattkeeper.schedulers.kubernetes import KubernetesScheduler
from wattkeeper.schedulers.kubernetes_access import explicit, from_pod, in_cluster
from wattkeeper.schedulers.kubernetes_kubeconfig import from_kubeconfig
from wattkeeper.schedulers.kubernetes_pods import Naming
from wattkeeper.schedulers.slurm import Slurm, SlurmOptions

_SLURM_CONFS = ("/etc/slurm/slurm.conf", "/etc/slurm-llnl/slurm.conf", "/run/slurm/conf/slurm.conf")
"""Where a configuration usually is; the last one is fetched from slurmctld (configless)."""


def schedulers(settings: AggregatorSettings) -> list[Scheduler]:
    """Return the schedulers that are switched on, not started yet."""
    found: list[Scheduler] = []
    if _asks_slurm(settings.slurm):
        found.append(_slurm(settings.slurm, topology=wants_topology(settings.groups)))
    if _asks_kubernetes(settings.kubernetes):
        found.append(_kubernetes(settings.kubernetes, wanted_labels(settings.groups)))
    return found


def _asks_slurm(section: SlurmSection) -> bool:
    """Tell whether to ask; a machine that only has the commands installed is no cluster's."""
    if section.enabled is not None:
        return section.enabled
    if section.rest is not None:
        return True
    confs = (section.conf, os.environ.get("SLURM_CONF"), *_SLURM_CONFS)
    if not any(Path(conf).is_file() for conf in confs if conf):
        return False
    return shutil.which("squeue", path=section.bin) is not None


def _slurm(section: SlurmSection, *, topology: bool) -> Slurm:
    return Slurm(
        SlurmOptions(
            cluster=section.cluster,
            interval_s=section.interval.total_seconds(),
            timeout_s=section.timeout.total_seconds(),
            accounts=section.sacct,
            lookback_s=section.lookback.total_seconds(),
            max_bytes=section.max_answer << 20,
            rest=section.rest or "",
            user=section.user or "",
            token_file=str(section.token_file or ""),
            bin=str(section.bin or ""),
            conf=str(section.conf or ""),
            topology=topology,
        )
    )


def _asks_kubernetes(section: KubernetesSection) -> bool:
    if section.enabled is not None:
        return section.enabled
    return section.url is not None or section.kubeconfig is not None or in_cluster(os.environ)


def _kubernetes(section: KubernetesSection, node_labels: Collection[str]) -> KubernetesScheduler:
    find = from_pod
    if section.url is not None:
        find = partial(explicit, section.url, section.token_file, section.ca_file)
    elif section.kubeconfig is not None:
        find = partial(from_kubeconfig, section.kubeconfig, section.context)
    return KubernetesScheduler(
        find,
        Naming(section.cluster, section.user, section.account, section.labels),
        interval_s=section.interval.total_seconds(),
        node_selector=section.node_selector,
        node_labels=node_labels,
    )
