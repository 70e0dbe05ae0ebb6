"""What the simulated scheduler tells the aggregator: jobs, who holds which GPU, nodes."""

from bisect import bisect_left

from wattkeeper.schedulers.base import Knowledge, NodeGpus, NodeInfo, WorkloadInfo
from wattkeeper.simulation.clock import TrueTime
from wattkeeper.simulation.cluster import Cluster, Node
from wattkeeper.simulation.jobs import Job
from wattkeeper.simulation.sightings import MANAGER

CLUSTER = "simulated"
_POWERED_DOWN = "cloud001"
"""A node that its scheduler would power up if it were needed: nobody expects figures of it."""


class SchedulerDownError(ConnectionError):
    """The scheduler does not answer."""


class SimulatedScheduler:
    """The cluster's own knowledge of its jobs, behind the same protocol as a real scheduler.

    Like Slurm it forgets the GPUs of a job with its end. While it is `down` it answers nobody.
    """

    name = CLUSTER

    def __init__(self, cluster: Cluster, time: TrueTime, interval_s: float = 5.0) -> None:
        self.interval_s = interval_s
        self.down = False
        self._cluster = cluster
        self._time = time

    async def start(self) -> None:
        """Nothing to watch."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Return the jobs that run, or ended at or after `since_ms`.

        Raises:
            SchedulerDownError: it is down.

        """
        return self.known(since_ms)

    async def close(self) -> None:
        """Nothing to stop."""

    def known(self, since_ms: int) -> Knowledge:
        """The same, without waiting."""
        if self.down:
            raise SchedulerDownError("the simulated scheduler is down")
        cluster = self._cluster
        running = list(cluster.running.values())
        for job in running:
            job.told = True
        first = bisect_left(cluster.ended, since_ms, key=lambda job: job.end_ms)
        nodes = [node_info(node) for node in cluster.nodes.values()]
        nodes.append(NodeInfo(CLUSTER, _POWERED_DOWN, 8, "POWERED_DOWN", expected=False))
        return Knowledge(
            [workload(job) for job in (*cluster.ended[first:], *running)],
            granted_ms=self._time.now_ms,
            nodes=nodes,
        )


def node_info(node: Node) -> NodeInfo:
    """Return a node as its scheduler knows it."""
    state = "DOWN" if not node.up else "DRAINED" if node.partition == "idle" else "IDLE"
    if node.up and node.jobs:
        state = "MIXED"
    return NodeInfo(CLUSTER, node.machine.name, len(node.machine.gpus), state)


def workload(job: Job) -> WorkloadInfo:
    """Return a run of a job as its scheduler names it.

    Of parts of GPUs it does not say which GPUs they are of: the node knows better.
    """
    plan = job.plan
    task = plan.array_task
    granted = job.running and plan.gpus and not plan.shard_ppm
    return WorkloadInfo(
        cluster=CLUSTER,
        manager=MANAGER,
        raw_id=plan.job_id,
        job_id=plan.job_id if task is None else f"{plan.array_id}_{task}",
        run=str(plan.requeued),
        user=plan.user,
        account=plan.account,
        partition=plan.partition,
        name=plan.name,
        array=plan.array_id,
        state="running" if job.running else job.state,
        start_ms=job.start_ms,
        end_ms=None if job.running else job.end_ms,
        nodes=tuple(place.machine.name for place in job.places),
        gpus=tuple(NodeGpus(p.machine.name, p.gpus) for p in job.places) if granted else (),
        labels={"qos": plan.qos},
    )
