"""What the history costs, beside Prometheus and VictoriaMetrics: intake, disk, questions."""

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.engines import KINDS, Engine, Lines, chill
from benchmarks.feeding import Cost, Load, feed_embedded, feed_engines
from benchmarks.fleet_day import METERS, START_MS, FleetDay
from benchmarks.processes import installed, machine
from benchmarks.questions import (
    Asked,
    Times,
    ask_embedded,
    by_account,
    differ,
    in_process,
    of_a_day,
)
from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.duck import DuckStore

_WINDOW_MS, _MONTH_WINDOW_MS, _MONTH_DAYS = 10_000, 300_000, 30
_MONTH_REQUEST = 6
"""Half an hour: of requests of 2.5 hours Prometheus lost samples twice in four runs, silently."""


def main(args: list[str]) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100, help="of 8 GPUs and 4 CPU meters")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--month-nodes", type=int, default=10, help="of the month; 0 leaves it out")
    parser.add_argument("--batch", type=int, default=10, help="windows of all meters in a write")
    parser.add_argument("--request", type=int, default=30, help="the same, of the peers' requests")
    parser.add_argument("--cold", type=int, default=3, help="times that a question is asked cold")
    parser.add_argument("--warm", type=int, default=5, help="times that it is repeated after that")
    given = parser.parse_args(args)
    print(f"## History: {given.nodes} nodes, {given.nodes * METERS} meters, {given.hours} h of "
          f"windows of 10 s\n\n{machine()}\n")  # fmt: skip
    until_ms = START_MS + given.hours * 3_600_000
    with tempfile.TemporaryDirectory(prefix="wattkeeper-history-") as name:
        load = Load(given.nodes, _WINDOW_MS, until_ms, given.batch, given.request)
        histories = Histories(Path(name), load)
        histories.print_costs()
        meter = FleetDay(given.nodes, _WINDOW_MS).windows(1)[0].place.meter
        with contextlib.closing(DuckStore(histories.folder)) as store:
            asked = of_a_day(store, until_ms, meter)
        histories.print_answers(asked, given.cold, given.warm)
    if given.month_nodes:
        with tempfile.TemporaryDirectory(prefix="wattkeeper-history-") as name:
            until_ms = START_MS + _MONTH_DAYS * DAY_MS
            load = Load(
                given.month_nodes, _MONTH_WINDOW_MS, until_ms, 10 * given.batch, _MONTH_REQUEST
            )
            histories = Histories(Path(name), load)
            print(f"A month of windows of 5 min, {given.month_nodes} nodes, "
                  f"{histories.cost.values:,} values:\n")  # fmt: skip
            asked = [by_account(START_MS, until_ms, DAY_MS, "energy by account and day, 30 days")]
            histories.print_answers(asked, given.cold, given.warm)
    return 0


class Histories:
    """The same values in the embedded store and in each engine that is installed.

    Raises:
        SystemExit: an engine has not taken what was sent.

    """

    def __init__(self, folder: Path, load: Load) -> None:
        self.folder = folder / "wattkeeper"
        self.cost = in_process(feed_embedded, self.folder, load)
        kinds = [kind for kind in KINDS if installed(kind.name)]
        self._engines = [Engine(kind, folder / kind.name) for kind in kinds]
        self._costs = feed_engines(self._engines, load)
        for engine, cost in zip(self._engines, self._costs, strict=True):
            if cost.values != self.cost.values:
                raise SystemExit(
                    f"{engine.kind.name} has taken {cost.values} values, not {self.cost.values}"
                )

    def print_costs(self) -> None:
        """Print what it cost to take and keep the values."""
        print(f"{self.cost.values:,} values, taken by all; of CPU seconds, bytes and memory:\n")
        print("| | CPU taking | laying down | values per CPU-second | bytes per value | "
              "besides | peak memory |")  # fmt: skip
        print("|---|---|---|---|---|---|---|")
        print(_line("wattkeeper", self.cost))
        for engine, cost in zip(self._engines, self._costs, strict=True):
            print(_line(f"{engine.kind.name} {engine.version}", cost))
        print(flush=True)

    def print_answers(self, asked: Sequence[Asked], cold: int, warm: int) -> None:
        """Put questions to each of them, and print how long the answers took.

        Raises:
            SystemExit: two answers differ.

        """
        names = ["wattkeeper", *(engine.kind.name for engine in self._engines)]
        print(f"| cold, warm, CPU of a warm one (ms) | {' | '.join(names)} |")
        print(f"|---|{'---|' * len(names)}")
        for one in asked:
            answers = [self._ask_embedded(one, cold, warm)]
            answers += [_ask_engine(engine, one, cold, warm) for engine in self._engines]
            for name, (_, lines) in zip(names, answers, strict=True):
                difference = differ(answers[0][1], lines)
                if difference:
                    raise SystemExit(f"{one.name}: {name} answers otherwise: {difference}")
            print(
                f"| {one.name} | {' | '.join(_times(times) for times, _ in answers)} |", flush=True
            )
        print()

    def _ask_embedded(self, asked: Asked, cold: int, warm: int) -> tuple[Times, Lines]:
        found = []
        for again in range(cold):
            chill(self.folder)
            found.append(
                in_process(ask_embedded, self.folder, asked.question, 0 if again else warm)
            )
        return _join(found)


def _ask_engine(engine: Engine, asked: Asked, cold: int, warm: int) -> tuple[Times, Lines]:
    question, found = asked.question, []
    span = question.since_ms, question.until_ms, question.step_ms
    for again in range(cold):
        chill(engine.folder)
        engine.start()
        first_s, lines = engine.ask(asked.promql, *span)
        cpu_s = engine.program.use().cpu_s
        rest = [engine.ask(asked.promql, *span)[0] for _ in range(0 if again else warm)]
        cpu_s = engine.program.use().cpu_s - cpu_s
        engine.stop()
        found.append((Times([first_s], rest, cpu_s), lines))
    return _join(found)


def _join(found: Sequence[tuple[Times, Lines]]) -> tuple[Times, Lines]:
    """Return the first of several rounds with the cold times of all."""
    (first, lines), *_ = found
    return Times([times.cold[0] for times, _ in found], first.warm, first.cpu_s), lines


def _times(times: Times) -> str:
    cpu_s = times.cpu_s / max(1, len(times.warm))
    return f"{1000 * median(times.cold):.0f}, {1000 * median(times.warm):.1f}, {1000 * cpu_s:.0f}"


def _line(name: str, cost: Cost) -> str:
    taking, laying = cost.cpu_s
    more = ", ".join(f"{what} {size / cost.values:.2f}" for what, size in cost.more.items())
    return (
        f"| {name} | {taking:.1f} | {laying:.1f} | {cost.values / (taking + laying) / 1e6:.2f} M | "
        f"{cost.kept / cost.values:.2f} | {more} | {cost.memory / 1e6:.0f} MB |"
    )
