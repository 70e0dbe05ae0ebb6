"""What slurmdbd wrote down about jobs."""

import time
from collections import defaultdict
from pathlib import Path

from tests.e2e.programs import until
from tests.slurm.cluster import Cluster
from tests.slurm.edges import stays


def starts_ns(cluster: Cluster, log: Path) -> dict[int, list[int]]:
    """Return the boot times at which the runs of each job began, in Slurm's whole seconds.

    Waits until slurmdbd knows the end of every job in the log of edges; that takes seconds.
    """
    offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    ask = ("env", "SLURM_TIME_FORMAT=%s", "sacct", "-aDXnP", "-o", "JobIDRaw,Start,End")
    runs: list[list[str]] = []

    def written() -> bool:
        runs[:] = [line.split("|") for line in cluster.run(*ask).splitlines()]
        over = {int(number) for number, _, end in runs if end.isdecimal()}
        return {stay.job for stay in stays(log)} <= over

    until("slurmdbd knows of every job", written)
    starts: dict[int, list[int]] = defaultdict(list)
    for number, start, _ in runs:
        if start.isdecimal():  # a requeued job that never ran again has none
            starts[int(number)].append(int(start) * 1_000_000_000 - offset_ns)
    return starts
