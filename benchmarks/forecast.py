"""How far off the forecasts of budgets are, on fleets that are simulated.

Jobs as the simulation makes them, and one in seven trains for an hour to three days; people submit
more on working days. What is forecast is where an interval will end, at a quarter, half and three
quarters of it, by the method that the aggregator has and by others.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

from wattkeeper.budgets.forecast import Forecast, Trail, errors_of, forecast
from wattkeeper.simulation.workloads import Workloads

STEP_S = 10
HOUR, DAY = 3600 // STEP_S, 86_400 // STEP_S
FRACTIONS = (0.25, 0.5, 0.75)
_HOST_MW = 60_000
_IDLE_MW = 70_000


def power(seed: int, gpus: int, days: int) -> list[float]:
    """Return the watts of a fleet in steps of 10 s."""
    steps = days * DAY
    changes = [0.0] * (steps + 1)
    workloads, random = Workloads(seed), Random(seed)
    for _ in range(gpus):
        at_s = random.uniform(0, 3600)
        while at_s < steps * STEP_S:
            plan = workloads.next("train")
            lasts_s = plan.lasts_ms / 1000
            if random.random() < 1 / 7:
                lasts_s = math.exp(random.uniform(math.log(3600), math.log(3 * 86_400)))
            mw = plan.gpu_power.mean_mw + _HOST_MW + plan.core_mw * plan.cores
            begin, end = int(at_s / STEP_S), int((at_s + lasts_s) / STEP_S)
            changes[min(begin, steps)] += mw
            changes[min(end, steps)] -= mw
            at_s += lasts_s
            hour, day = at_s / 3600 % 24, int(at_s // 86_400) % 7
            at_s += random.expovariate(1 / (120 if 8 <= hour < 20 and day < 5 else 900))
    return [(gpus * _IDLE_MW + mw) / 1000 for mw in accumulate(changes[:steps])]


@dataclass
class Errors:
    """Errors relative to the energy of the interval, and how often the band held it."""

    relative: list[float] = field(default_factory=list)
    banded: int = 0
    held: int = 0

    def add(self, expected: Forecast, truth_uj: float) -> None:
        """Take one forecast."""
        self.relative.append(abs(expected.uj / truth_uj - 1))
        if expected.low_uj is not None and expected.high_uj is not None:
            self.banded += 1
            self.held += expected.low_uj <= truth_uj <= expected.high_uj

    def quantile(self, part: float) -> float:
        """Return the error that so many are not above."""
        ordered = sorted(self.relative)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    @property
    def holds(self) -> float | None:
        """How often the band held the truth, where there was one."""
        return self.held / self.banded if self.banded else None


def demand(watts: Sequence[float], minutes: int) -> dict[float, Errors]:
    """Return the errors for billed intervals, by how much of them had passed."""
    length = minutes * 60 // STEP_S
    found = {fraction: Errors() for fraction in FRACTIONS}
    due = {int(fraction * length): fraction for fraction in FRACTIONS}
    trail = Trail()
    for at, value in enumerate(watts):
        into = at % length
        begin = at - into
        if into in due and begin >= 2 * HOUR and begin + length <= len(watts):
            used = sum(watts[begin:at]) * STEP_S * 1e6
            rest_ms = (length - into) * STEP_S * 1000
            lately = trail.lately()
            assert lately is not None
            expected = forecast(used, rest_ms, lately, trail.errors(rest_ms), "")
            found[due[into]].add(expected, sum(watts[begin : begin + length]) * STEP_S * 1e6)
        trail.add(at * STEP_S * 1000, value)
    return found


def period(
    watts: Sequence[float], days: int, window_days: int, first_day: int
) -> dict[float, Errors]:
    """Return the errors for periods of `days`, by the mean of the `window_days` before."""
    found = {fraction: Errors() for fraction in FRACTIONS}
    sums = [0.0, *accumulate(watts)]
    for begin in range(first_day * DAY, len(watts) - days * DAY + 1, DAY):
        whole = (sums[begin + days * DAY] - sums[begin]) * STEP_S * 1e6
        for fraction in FRACTIONS:
            at = begin + int(fraction * days * DAY)
            used = (sums[at] - sums[begin]) * STEP_S * 1e6
            window = window_days * DAY
            mean = (sums[at] - sums[at - window]) / window
            rest = begin + days * DAY - at
            daily = [
                (sums[one + DAY] - sums[one]) / DAY
                for one in range(max(at % DAY, at - 56 * DAY), at - DAY + 1, DAY)
            ]
            horizon = 1 if days == 1 else max(1, -(-rest // DAY))
            errors = errors_of(daily, window_days, horizon)
            found[fraction].add(forecast(used, rest * STEP_S * 1000, mean, errors, ""), whole)
    return found


def _table(seeds: Sequence[int], gpus: int, days: int) -> Iterator[str]:
    fleets = [power(seed, gpus, days) for seed in seeds]
    month = 28
    kinds: list[tuple[str, Callable[[Sequence[float]], dict[float, Errors]]]] = [
        ("demand, 15 min", lambda watts: demand(watts[: 14 * DAY], 15)),
        ("demand, 30 min", lambda watts: demand(watts[: 14 * DAY], 30)),
        ("day", lambda watts: period(watts, 1, 1, 28)),
        ("month", lambda watts: period(watts, month, 7, 28)),
    ]
    for name, run in kinds:
        merged = {fraction: Errors() for fraction in FRACTIONS}
        for watts in fleets:
            for fraction, errors in run(watts).items():
                one = merged[fraction]
                one.relative += errors.relative
                one.banded += errors.banded
                one.held += errors.held
        for fraction, errors in merged.items():
            holds = "-" if errors.holds is None else f"{errors.holds:.0%}"
            yield (
                f"| {gpus} | {name} | {fraction:.0%} | {errors.quantile(0.5):.2%} "
                f"| {errors.quantile(0.95):.2%} | {holds} |"
            )


def main(args: list[str]) -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks forecast")
    parser.add_argument("--gpus", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--days", type=int, default=112)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args(args)
    print("| GPUs | what | passed | median error | p95 | band holds |\n|---|---|---|---|---|---|")
    for gpus in asked.gpus:
        for line in _table(range(asked.seeds), gpus, asked.days):
            print(line, flush=True)
    return 0
