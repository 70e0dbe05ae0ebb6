"""The cluster's scheduler: places jobs on nodes over time, one event after the other."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Node:
    """What of one machine is free."""

    machine: Machine
    partition: str
    cores: int
    shards: list[int] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    up: bool = True

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
            free.sort(key=lambda index: self.shards[index])
        return tuple(free[: plan.gpus]) if len(free) >= plan.gpus else None

    def take(self, job: Job, gpus: Sequence[int], sign: int) -> None:
        """Take (`sign` 1) or give back (-1) the job's part of the node."""
        self.cores -= sign * job.plan.cores
        for index in gpus:
            self.shards[index] -= sign * (job.plan.shard_ppm or 1_000_000)


class Cluster:
    """Jobs over time. `step` runs the next event; true time must have come to `next_ms`."""

    def __init__(self, machines: Sequence[Machine], seed: int, start_ms: int) -> None:
        self.nodes = {
            machine.name: Node(
                machine, PARTITIONS[index % len(PARTITIONS)], 2 * CORES,
                [1_000_000] * len(machine.gpus),
            )
            for index, machine in enumerate(machines)
        }  # fmt: skip
        self.jobs: list[Job] = []
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
        marks = [mark for job in list(node.jobs.values()) for mark in self._end(job, at_ms)]
        return [mark for mark in marks if mark != name]

    def restore(self, name: str) -> None:
        """The node takes jobs again."""
        self.nodes[name].up = True

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

    def _place(self, partition: str, at_ms: int) -> list[str]:
        """Start whatever fits, in the order of the queue, smaller ones past larger ones."""
        marks: list[str] = []
        queue = self._queues[partition]
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
        job = Job(plan, at_ms, places, marked, at_ms + plan.lasts_ms)
        self.jobs.append(job)
        for node, gpus in where:
            node.take(job, gpus, 1)
            node.jobs[job.key] = job
        job.allocate(at_ms)
        self._at(at_ms + plan.launch_ms, partial(self._when_running, job, job.launch))
        finish_ms = job.end_ms - plan.teardown_ms
        self._at(finish_ms, partial(self._when_running, job, job.finish))
        self._at(job.end_ms, partial(self._end, job))
        return [node.machine.name for node, _ in where] if marked else []

    def _when_running(self, job: Job, change: Callable[[int], None], at_ms: int) -> list[str]:
        if job.running:
            change(at_ms)
        return []

    def _end(self, job: Job, at_ms: int) -> list[str]:
        if not job.running:
            return []
        job.release(at_ms)
        for place in job.places:
            node = self.nodes[place.machine.name]
            node.take(job, place.gpus, -1)
            del node.jobs[job.key]
        marks = [place.machine.name for place in job.places] if job.marked else []
        return marks + self._place(job.plan.partition, at_ms)
