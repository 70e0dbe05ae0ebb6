"""The cluster's scheduler: places jobs on nodes over time, one event after the other."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from wattkeeper.simulation.jobs import Job, Place
from wattkeeper.simulation.machine import CORES, Machine
from wattkeeper.simulation.workloads import JobPlan, Workloads

PARTITIONS = ("train", "batch", "shared", "cpu", "train", "batch", "train", "idle")
"""Partition of each node by turns. Nodes of `idle` are drained."""
MARKED = frozenset({"train", "shared"})
"""Partitions whose nodes run `wattkeeper mark` in prolog and epilog."""
_SPREAD = frozenset({"shared", "cpu"})
"""Partitions whose jobs go to the node with the fewest, not to the first."""
_QUEUE = 24
_ARRIVAL_S = {"train": 150.0, "batch": 150.0, "shared": 22.0, "cpu": 11.0}
"""Seconds between two submissions, for each node of the partition."""
_CPU_JOBS = 50
_SLICES = 7
"""Compute slices of a GPU that is cut into MIG instances: every other one of the shared nodes."""
GRACE_MS = 60_000
"""For how long a job keeps its GPUs after a missed epilog, unless the next one comes."""
_MISSED_EPILOGS = 0.03
_REQUEUED = 0.06
"""Part of the jobs of a minute and more that are preempted once, and run again."""
_REQUEUE_S = (2.0, 90.0)


@dataclass(slots=True)
class Node:
    """What of one machine is free."""

    machine: Machine
    partition: str
    cores: int
    shards: list[int] = field(default_factory=list)
    slices: list[int] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    forgotten: list[Job] = field(default_factory=list)
    up: bool = True

    def lingering(self, at_ms: int) -> list[Job]:
        """Jobs that have ended without an epilog, as long as the node takes them to be there."""
        self.forgotten = [job for job in self.forgotten if at_ms < job.end_ms + GRACE_MS]
        return self.forgotten

    @property
    def marked(self) -> bool:
        """Whether its prolog and epilog tell the agent of edges."""
        return self.partition in MARKED

    def fit(self, plan: JobPlan) -> tuple[int, ...] | None:
        """GPUs that the job would get here, None if it does not fit."""
        if not self.up or self.cores < plan.cores:
            return None
        need = plan.shard_ppm or 1_000_000
        free = [index for index, left in enumerate(self.shards) if left >= need]
        if plan.shard_ppm:
            compute = _slices(plan)
            free = [i for i in free if bool(i % 2) == bool(compute) and self.slices[i] >= compute]
            free.sort(key=lambda index: self.shards[index])
        return tuple(free[: plan.gpus]) if len(free) >= plan.gpus else None

    def take(self, job: Job, gpus: Sequence[int], sign: int) -> None:
        """Take (`sign` 1) or give back (-1) the job's part of the node."""
        self.cores -= sign * job.plan.cores
        for index in gpus:
            self.shards[index] -= sign * (job.plan.shard_ppm or 1_000_000)
            self.slices[index] -= sign * _slices(job.plan)


class Cluster:
    """Jobs over time. `step` runs the next event; true time must have come to `next_ms`."""

    def __init__(self, machines: Sequence[Machine], seed: int, start_ms: int) -> None:
        self.nodes = {
            machine.name: Node(
                machine, PARTITIONS[index % len(PARTITIONS)], 2 * CORES,
                [1_000_000] * len(machine.gpus), [_SLICES] * len(machine.gpus),
            )
            for index, machine in enumerate(machines)
        }  # fmt: skip
        self.jobs: list[Job] = []
        self.running: dict[str, Job] = {}
        self.ended: list[Job] = []
        """In the order in which they ended."""
        self.placing = True
        """Jobs start; they wait while the scheduler is down."""
        self._random = Random(f"{seed}/cluster")
        self._workloads = Workloads(seed)
        self._queues: dict[str, deque[JobPlan]] = {}
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[int], list[str]]]] = []
        for partition in _ARRIVAL_S:
            nodes = [node for node in self.nodes.values() if node.partition == partition]
            if nodes:
                self._open(partition, len(nodes), start_ms)

    @property
    def next_ms(self) -> int:
        """Instant of the next event."""
        return self._events[0][0] if self._events else 1 << 62

    def step(self) -> list[str]:
        """Run the next event; return the nodes on which a mark was made by it."""
        at_ms, _, event = heapq.heappop(self._events)
        return event(at_ms)

    def kill(self, name: str, at_ms: int) -> list[str]:
        """A node went down: its jobs end there and then; returns the other nodes' marks."""
        node = self.nodes[name]
        node.up = False
        marks: list[str] = []
        for job in list(node.jobs.values()):
            marks += self._again(job, "node_fail", at_ms)
        return [mark for mark in marks if mark != name]

    def restore(self, name: str) -> None:
        """The node takes jobs again."""
        self.nodes[name].up = True

    def resume(self, at_ms: int) -> list[str]:
        """The scheduler is back: start what waits; returns the nodes on which marks were made."""
        self.placing = True
        return [mark for name in self._queues for mark in self._place(name, at_ms)]

    def pending(self) -> int:
        """Jobs that wait."""
        return sum(len(queue) for queue in self._queues.values())

    def _at(self, at_ms: int, event: Callable[[int], list[str]]) -> None:
        heapq.heappush(self._events, (at_ms, next(self._order), event))

    def _open(self, partition: str, nodes: int, start_ms: int) -> None:
        """Fill the partition soon after a first quiet half minute; people go on submitting.

        A node that was never seen at rest cannot know what of its power is idle.
        """
        self._queues[partition] = deque()
        crowd = _CPU_JOBS if partition == "cpu" else 12 if partition == "shared" else 6
        for _ in range(crowd * nodes):
            at_ms = start_ms + self._random.randrange(31_000, 75_000)
            self._at(at_ms, partial(self._submit, partition))
        gap_s = _ARRIVAL_S[partition] / nodes
        self._at(start_ms + 75_000, partial(self._arrive, partition, gap_s))

    def _arrive(self, partition: str, gap_s: float, at_ms: int) -> list[str]:
        wait_ms = max(1, round(self._random.expovariate(1 / gap_s) * 1000))
        self._at(at_ms + wait_ms, partial(self._arrive, partition, gap_s))
        return self._submit(partition, at_ms)

    def _submit(self, partition: str, at_ms: int) -> list[str]:
        queue = self._queues[partition]
        if len(queue) < _QUEUE:
            queue.append(self._workloads.next(partition))
        return self._place(partition, at_ms)

    def _resubmit(self, plan: JobPlan, at_ms: int) -> list[str]:
        self._queues[plan.partition].appendleft(plan)
        return self._place(plan.partition, at_ms)

    def _place(self, partition: str, at_ms: int) -> list[str]:
        """Start whatever fits, in the order of the queue, smaller ones past larger ones."""
        marks: list[str] = []
        queue = self._queues[partition]
        if not self.placing:
            return []
        for plan in list(queue):
            fits = [
                (node, gpus)
                for node in self.nodes.values()
                if node.partition == partition and (gpus := node.fit(plan)) is not None
            ]
            if partition in _SPREAD:
                fits.sort(key=lambda fit: len(fit[0].jobs))
            if len(fits) >= plan.nodes:
                queue.remove(plan)
                marks += self._start(plan, fits[: plan.nodes], at_ms)
        return marks

    def _start(
        self, plan: JobPlan, where: list[tuple[Node, tuple[int, ...]]], at_ms: int
    ) -> list[str]:
        places = [Place(node.machine, gpus) for node, gpus in where]
        marked = where[0][0].marked
        epilog = bool(plan.shard_ppm) or self._random.random() >= _MISSED_EPILOGS
        job = Job(plan, at_ms, places, marked, at_ms + plan.lasts_ms, epilog)
        self.jobs.append(job)
        self.running[job.key] = job
        for node, gpus in where:
            node.take(job, gpus, 1)
            node.jobs[job.key] = job
        job.allocate(at_ms)
        for begin_ms, finish_ms in plan.work_ms:
            self._at(at_ms + begin_ms, partial(self._when_running, job, job.launch))
            self._at(at_ms + finish_ms, partial(self._when_running, job, job.finish))
        self._at(job.end_ms, partial(self._end, job))
        if plan.lasts_ms >= 60_000 and not plan.requeued and self._random.random() < _REQUEUED:
            early_ms = at_ms + round(self._random.uniform(0.1, 0.9) * plan.lasts_ms)
            self._at(early_ms, partial(self._again, job, "preempted"))
        return [node.machine.name for node, _ in where] if marked else []

    def _when_running(self, job: Job, change: Callable[[int], None], at_ms: int) -> list[str]:
        if job.running:
            change(at_ms)
        return []

    def _again(self, job: Job, state: str, at_ms: int) -> list[str]:
        """End a job before its time; it goes back into the queue under the same id."""
        if not job.running:
            return []
        job.state = state
        plan = replace(job.plan, requeued=job.plan.requeued + 1)
        wait_ms = round(self._random.uniform(*_REQUEUE_S) * 1000)
        self._at(at_ms + wait_ms, partial(self._resubmit, plan))
        return self._end(job, at_ms)

    def _end(self, job: Job, at_ms: int) -> list[str]:
        if not job.running:
            return []
        job.release(at_ms)
        del self.running[job.key]
        self.ended.append(job)
        for place in job.places:
            node = self.nodes[place.machine.name]
            node.take(job, place.gpus, -1)
            del node.jobs[job.key]
            if job.marked and not job.epilog and node.up:
                node.forgotten.append(job)
        told = job.marked and job.epilog
        marks = [place.machine.name for place in job.places] if told else []
        return marks + self._place(job.plan.partition, at_ms)


def _slices(plan: JobPlan) -> int:
    """Return the compute slices of its MIG instance, 0 if it has none."""
    return round(plan.compute_ppm * _SLICES / 1_000_000)
