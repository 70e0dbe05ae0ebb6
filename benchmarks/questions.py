"""The questions to a history, as each engine is asked, and whether all answer the same.

Mean power is asked for as the energy of a step, to be divided by its seconds: the cheapest of all
questions that mean it, for every engine.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from benchmarks.engines import Lines
from benchmarks.fleet_day import START_MS
from wattkeeper.model.grid import floor
from wattkeeper.telemetry.base import Aggregation, Answer, Metric, Question, TelemetryStore
from wattkeeper.telemetry.duck import DuckStore

_MINUTES_MS, _HOUR_MS = 300_000, 3_600_000
_CLOSE = 1e-9

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to Wattkeeper, and in PromQL: the cheapest expression that means the same."""

    name: str
    question: Question
    promql: str


def of_a_day(store: TelemetryStore, until_ms: int, meter: str) -> list[Asked]:
    """Return what is asked of the day: of the whole fleet, a GPU, the greatest job."""
    energy, heat = "wattkeeper_window_energy_joules", "wattkeeper_window_temperature_celsius_max"
    joules, since_ms = Metric.ENERGY, START_MS
    job = _greatest_job(store, until_ms)
    assert job.holders is not None
    ((manager, workload, birth_ms),) = job.holders
    named = f'manager="{manager}",workload="{workload}",birth_ms="{birth_ms}"'
    lasts_ms = until_ms - since_ms
    hottest = Question(
        Metric.TEMPERATURE, since_ms, until_ms, lasts_ms, Aggregation.MAX, ("meter",),
        {"component": ("gpu",)}, most_series=10,
    )  # fmt: skip
    return [
        Asked(
            "fleet power by 5 min",
            Question(joules, since_ms, until_ms, _MINUTES_MS),
            f"sum(sum_over_time({energy}[5m]))",
        ),
        Asked(
            "the same by 10 s",
            Question(joules, since_ms, until_ms, 10_000),
            f"sum(sum_over_time({energy}[10s]))",
        ),
        Asked(
            "power of one GPU by 10 s",
            Question(joules, since_ms, until_ms, 10_000, where={"meter": (meter,)}),
            f'sum_over_time({energy}{{meter="{meter}"}}[10s])',
        ),
        Asked(
            "mean power of a job, from its hours",
            job,
            f"sum(sum_over_time(wattkeeper_window_share_joules{{{named}}}[1h]))",
        ),
        by_account(since_ms, until_ms, lasts_ms, "energy by account, one day"),
        Asked(
            "ten hottest GPUs",
            hottest,
            f'topk(10, max_over_time({heat}{{component="gpu"}}[{lasts_ms}ms]))',
        ),
    ]


def by_account(since_ms: int, until_ms: int, step_ms: int, name: str) -> Asked:
    """Return the question for the energy of every account."""
    return Asked(
        name,
        Question(Metric.ENERGY, since_ms, until_ms, step_ms, by=("account",)),
        f"sum by (account) (sum_over_time(wattkeeper_window_share_joules[{step_ms}ms]))",
    )


def _greatest_job(store: TelemetryStore, until_ms: int) -> Question:
    """Return the question for the job that used most in an hour, from its first to its last."""
    names = ("manager", "workload", "birth_ms")
    asked = Question(
        Metric.ENERGY, START_MS, until_ms, _HOUR_MS, by=names,
        where={"account": ("workload",)}, most_series=1,
    )  # fmt: skip
    (found,) = store.ask(asked).series
    hours = [hour for hour, value in enumerate(found.values) if value is not None]
    manager, workload, birth_ms = (found.labels[name] for name in names)
    return Question(
        Metric.ENERGY,
        max(START_MS, floor(int(birth_ms), _HOUR_MS)),
        START_MS + (hours[-1] + 1) * _HOUR_MS,
        _HOUR_MS,
        holders=frozenset([(manager, workload, int(birth_ms))]),
    )


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that answers took: the first in a process, those after it, and CPU of the latter."""

    cold: Sequence[float]
    warm: Sequence[float]
    cpu_s: float


def in_process(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Return what a function of a module returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *args, **kwargs).result()


def ask_embedded(folder: Path, question: Question, repeats: int) -> tuple[Times, Lines]:
    """Ask the store in a folder, which this process has not opened yet."""
    store = DuckStore(folder)
    cold_s, answer = _timed(store, question)
    cpu_s = time.process_time()
    warm = [_timed(store, question)[0] for _ in range(repeats)]
    cpu_s = time.process_time() - cpu_s
    store.close()
    lines = [[value for value in one.values if value is not None] for one in answer.series]
    return Times([cold_s], warm, cpu_s), lines


def _timed(store: TelemetryStore, question: Question) -> tuple[float, Answer]:
    began = time.perf_counter()
    answer = store.ask(question)
    return time.perf_counter() - began, answer


def differ(one: Lines, other: Lines) -> str:
    """Say how two answers differ, in nothing if they do not."""
    ours, theirs = sorted(map(tuple, one)), sorted(map(tuple, other))
    shapes = [len(line) for line in ours], [len(line) for line in theirs]
    if shapes[0] != shapes[1]:
        return f"{len(ours)} series of {shapes[0][:3]} values, {len(theirs)} of {shapes[1][:3]}"
    for mine, yours in zip(ours, theirs, strict=True):
        for x, y in zip(mine, yours, strict=True):
            if abs(x - y) > _CLOSE * max(abs(x), abs(y), 1):
                return f"{x!r} is not {y!r}"
    return ""
