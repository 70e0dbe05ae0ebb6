"""What people submit: training that swings with its steps, inference, arrays, jobs of 2 seconds.

Deterministic by seed. A `JobPlan` says what a job will do, not when or where it runs.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from wattkeeper.simulation.machine import CORE_MW
from wattkeeper.simulation.waveform import Pattern

NOTHING = Pattern((1, 0))

_STALLS = 0.3
"""Part of the trainings that wait for their data once, for long."""
_SLICE_WATTS = 70
"""What each compute slice of a MIG GPU draws, give or take a tenth."""

_PEOPLE = (
    ("amira", "vision"), ("bao", "vision"), ("chen", "speech"), ("dara", "speech"),
    ("elif", "climate"), ("farid", "climate"), ("grete", "proteins"), ("hugo", "proteins"),
    ("ines", "robotics"), ("jun", "robotics"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job as submitted.

    `nodes`, `gpus`, `cores`: nodes, and GPUs and cores on each. `shard_ppm`: its part of one GPU
    if it shares it, else 0. `gpu_power`: what it asks of each GPU above idle; `launch_ms`,
    `teardown_ms`: how long its GPUs stay idle after the prolog and before the epilog. `core_mw`:
    what each busy core draws above idle; a job's own code makes it a tenth more or less than usual.
    `compute_ppm`: its part of the GPU's compute units if its part is a MIG instance, else 0, where
    `shard_ppm` is that of the memory. `pause_ms`: from when to when after its start nothing of it
    runs. `requeued`: how often it was.
    """

    job_id: str
    kind: str
    user: str
    account: str
    partition: str
    name: str
    lasts_ms: int
    nodes: int = 1
    gpus: int = 1
    cores: int = 8
    shard_ppm: int = 0
    gpu_power: Pattern = NOTHING
    core_mw: int = CORE_MW
    memory_bytes: int = 0
    launch_ms: int = 400
    teardown_ms: int = 150
    array_id: str = ""
    array_task: int | None = None
    qos: str = "normal"
    compute_ppm: int = 0
    pause_ms: tuple[int, int] = (0, 0)
    requeued: int = 0

    @property
    def work_ms(self) -> list[tuple[int, int]]:
        """From when to when after its start its processes work, if nobody ends it earlier."""
        begin, end = self.launch_ms, self.lasts_ms - self.teardown_ms
        pause, again = self.pause_ms
        pieces = ((begin, min(end, pause)), (max(begin, again), end))
        return [(from_ms, to_ms) for from_ms, to_ms in pieces if from_ms < to_ms]


class Workloads:
    """An endless stream of jobs for each partition."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"{seed}/workloads")
        self._ids = itertools.count(1001)
        self._array: list[JobPlan] = []
        self._mixes: dict[str, tuple[tuple[float, Callable[[str], JobPlan]], ...]] = {
            "train": (
                (0.53, self._short), (0.22, self._array_task), (0.11, self._training),
                (0.05, self._inference), (0.05, self._multi_node), (0.04, self._forgotten),
            ),
            "batch": (
                (0.57, self._short), (0.23, self._array_task), (0.11, self._training),
                (0.04, self._inference), (0.05, self._forgotten),
            ),
            "shared": ((0.7, self._sharing), (0.3, self._instance)),
            "cpu": ((1.0, self._cpu),),
        }  # fmt: skip

    def next(self, partition: str) -> JobPlan:
        """Return the next job that somebody submits to `partition`."""
        mix = self._mixes[partition]
        weights = [weight for weight, _ in mix]
        return self._random.choices(mix, weights)[0][1](partition)

    def _plan(self, partition: str, kind: str, name: str, lasts_s: float, **more: Any) -> JobPlan:
        user, account = self._random.choice(_PEOPLE)
        plain = JobPlan(
            job_id=str(next(self._ids)),
            kind=kind,
            user=user,
            account=account,
            partition=partition,
            name=name,
            lasts_ms=round(lasts_s * 1000),
            core_mw=CORE_MW * self._random.randint(90, 110) // 100,
            launch_ms=self._random.randint(300, 700),
            teardown_ms=self._random.randint(100, 300),
        )
        return replace(plain, **more)

    def _short(self, partition: str) -> JobPlan:
        watts = self._random.randint(120, 500)
        lasts = math.exp(self._random.uniform(math.log(2), math.log(120)))
        return self._plan(
            partition, "short", "smoke-test", lasts,
            gpu_power=Pattern((1, watts * 1000)), cores=4, memory_bytes=4 << 30,
        )  # fmt: skip

    def _training(self, partition: str, nodes: int = 1, gpus: int = 0) -> JobPlan:
        pick = self._random
        lasts = min(7200.0, max(300.0, pick.lognormvariate(7.4, 0.6)))
        pause = (0, 0)
        if pick.random() < _STALLS:
            begin = pick.uniform(0.05, 0.3) * lasts
            pause = (round(begin * 1000), round((begin + pick.uniform(0.1, 0.5) * lasts) * 1000))
        return self._plan(
            partition, "multi-node" if nodes > 1 else "training",
            pick.choice(("llm-pretrain", "diffusion", "whisper-ft", "esm-fold")), lasts,
            nodes=nodes, gpus=gpus or pick.choice((1, 2, 4, 4, 8)),
            cores=32 if nodes > 1 else 16, gpu_power=self._steps(), memory_bytes=64 << 30,
            pause_ms=pause, qos="high" if nodes > 1 else "normal",
        )  # fmt: skip

    def _multi_node(self, partition: str) -> JobPlan:
        nodes, gpus = self._random.choice(((2, 4), (2, 8), (3, 2), (4, 2)))
        return self._training(partition, nodes=nodes, gpus=gpus)

    def _inference(self, partition: str) -> JobPlan:
        busy = self._random.randint(90, 260) * 1000
        return self._plan(
            partition, "inference", "serve", self._random.uniform(600, 3600),
            gpus=self._random.choice((1, 1, 2)), memory_bytes=40 << 30,
            gpu_power=Pattern((self._random.randint(40, 400), busy), (350, busy // 5)),
        )  # fmt: skip

    def _array_task(self, partition: str) -> JobPlan:
        if not self._array or self._array[-1].partition != partition:
            self._array = self._new_array(partition)
        return self._array.pop()

    def _new_array(self, partition: str) -> list[JobPlan]:
        first = self._plan(partition, "array", "sweep", 1)
        tasks = self._random.randint(4, 10)
        ids = [str(next(self._ids)) for _ in range(tasks - 1)]
        plans = [
            self._plan(
                partition, "array", "sweep", self._random.uniform(40, 300),
                job_id=job_id, user=first.user, account=first.account, array_id=first.job_id,
                array_task=task, gpu_power=self._steps(), cores=6, memory_bytes=16 << 30,
            )
            for task, job_id in enumerate([*ids, first.job_id])
        ]  # fmt: skip
        return plans[::-1]

    def _sharing(self, partition: str) -> JobPlan:
        shard = self._random.choice((125_000, 250_000, 250_000, 500_000))
        watts = self._random.randint(60, 600) * shard // 1_000_000
        return self._plan(
            partition, "shared", "notebook", self._random.uniform(60, 1200), shard_ppm=shard,
            gpu_power=Pattern((1, watts * 1000)), cores=2, memory_bytes=8 << 30,
        )  # fmt: skip

    def _instance(self, partition: str) -> JobPlan:
        """A notebook on a MIG instance: 1g, 2g or 3g."""
        compute, memory = self._random.choice(((1, 1), (1, 1), (2, 2), (3, 4)))
        watts = _SLICE_WATTS * compute * self._random.randint(90, 110) / 100
        return self._plan(
            partition, "mig", "notebook", self._random.uniform(60, 1200),
            shard_ppm=memory * 1_000_000 // 8, compute_ppm=compute * 1_000_000 // 7,
            gpu_power=Pattern((1, round(watts * 1000))), cores=2, memory_bytes=memory * (10 << 30),
        )  # fmt: skip

    def _forgotten(self, partition: str) -> JobPlan:
        """An allocation in which nothing runs: somebody is at lunch."""
        lasts = self._random.uniform(60, 1800)
        return self._plan(
            partition, "forgotten", "interactive", lasts, gpus=self._random.choice((1, 1, 2)),
            pause_ms=(0, round(lasts * 1000)), qos="interactive",
        )  # fmt: skip

    def _cpu(self, partition: str) -> JobPlan:
        return self._plan(
            partition, "cpu", "preprocess", self._random.uniform(30, 1200), gpus=0,
            cores=self._random.choice((1, 1, 2, 4)), launch_ms=50, teardown_ms=20,
        )  # fmt: skip

    def _steps(self) -> Pattern:
        """A training step: compute at full power, then the exchange of gradients."""
        compute = self._random.randint(300, 1800)
        exchange = self._random.randint(60, 400)
        power = self._random.randint(350, 640) * 1000
        return Pattern((compute, power), (exchange, power // self._random.randint(3, 6)))
