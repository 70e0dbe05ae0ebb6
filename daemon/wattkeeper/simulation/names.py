"""What the simulated scheduler tells the aggregator: whose job is behind a holder."""

from wattkeeper.schedulers.base import Knowledge, WorkloadInfo
from wattkeeper.simulation.cluster import Cluster
from wattkeeper.simulation.jobs import Job
from wattkeeper.simulation.sightings import MANAGER

CLUSTER = "simulated"


class SimulatedScheduler:
    """The cluster's own knowledge of its jobs, behind the same protocol as a real scheduler."""

    name = CLUSTER
    interval_s = 5.0

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def start(self) -> None:
        """Nothing to watch."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Return the jobs that run, or ended at or after `since_ms`."""
        return self.known(since_ms)

    async def close(self) -> None:
        """Nothing to stop."""

    def known(self, since_ms: int) -> Knowledge:
        """The same, without waiting."""
        return Knowledge(
            [workload(job) for job in self._cluster.jobs if job.running or job.end_ms >= since_ms]
        )


def workload(job: Job) -> WorkloadInfo:
    """Return a job as its scheduler names it."""
    plan = job.plan
    task = plan.array_task
    return WorkloadInfo(
        cluster=CLUSTER,
        manager=MANAGER,
        raw_id=plan.job_id,
        job_id=plan.job_id if task is None else f"{plan.array_id}_{task}",
        user=plan.user,
        account=plan.account,
        partition=plan.partition,
        name=plan.name,
        array=plan.array_id,
        state="running" if job.running else "completed",
        start_ms=job.start_ms,
        end_ms=None if job.running else job.end_ms,
        nodes=tuple(place.machine.name for place in job.places),
    )
