"""`wattkeeper demo`."""

import asyncio
import csv
import logging
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wattkeeper.cli.command import PROGRAM, Command, CommandError
from wattkeeper.cli.output import console, energy, percent, span, table, watts
from wattkeeper.values import Address, Duration, milliseconds

if TYPE_CHECKING:
    from wattkeeper.simulation.demonstration import Demonstration, Glimpse
    from wattkeeper.simulation.figures import JobFigure

_COMPARED = 12
_LINE_EVERY = 5
"""Glimpses between two lines where the output is no terminal."""


class Demo(Command):
    """Run a simulated fleet: real agents and a real aggregator on devices that are computed.

    Its books are its own, in a folder of their own, in cluster `simulated`. While it runs, every
    command answers from another terminal; at its end metered energy stands beside the truth.

    Examples:
      wattkeeper demo
      wattkeeper demo --nodes 64 --speed 20 --duration 1h
      wattkeeper demo --duration 30m --serve     go on answering afterwards
      wattkeeper demo --speed 1 --agents 127.0.0.1:9800     a fleet for Prometheus to scrape
    """

    nodes: int = Field(8, ge=1, le=1024, description="nodes of the fleet")
    gpus: int = Field(8, ge=1, le=16, description="GPUs of each node")
    speed: float = Field(60.0, gt=0, le=10_000, description="how many times as fast as real time")
    seed: int = Field(1, description="everything that happens follows from it")
    duration: Duration | None = Field(None, description="simulated time: 30m, 2h; until Ctrl-C")
    serve: bool = Field(False, description="go on answering after the end, until Ctrl-C")
    listen: Address = Field("127.0.0.1:9746", description="host:port where the aggregator answers")
    agents: Address | None = Field(
        None,
        description="host:port of the first agent's /metrics, the others on the ports after it",
    )
    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/wattkeeper/demo",
        description="a folder of its own; emptied at the start",
    )

    def run(self) -> int:
        """Run the fleet, then compare."""
        from wattkeeper.aggregator.opening import StartError
        from wattkeeper.flags import ConfigError
        from wattkeeper.simulation.demonstration import Demonstration

        logging.basicConfig(level=logging.ERROR)
        try:
            show = Demonstration(
                folder=self.data_dir,
                listen=self.listen,
                nodes=self.nodes,
                gpus=self.gpus,
                seed=self.seed,
                speed=self.speed,
                lasts_ms=None if self.duration is None else milliseconds(self.duration),
                agents=self.agents or "",
            )
        except (ValueError, OSError) as error:
            raise CommandError(f"--data-dir: {error}") from error
        try:
            return asyncio.run(self._run(show))
        except (StartError, ConfigError) as error:
            raise CommandError(str(error)) from error

    async def _run(self, show: "Demonstration") -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        screen = _Screen(self.nodes, self.gpus, show)
        try:
            with screen.live:
                await show.run(stop, screen.show)
            figures = await show.compare()
            _print_figures(_some_of_each(figures))
            print(f"All {len(figures)} jobs: {_write(self.data_dir / 'truth.csv', figures)}")
            await _ask_for_a_job(figures, show.aggregator.url)
            residual_uj = screen.last.residual_uj if screen.last is not None else 0
            if self.serve:
                stop.clear()
                print(f"Still answering at {show.aggregator.url}. Ctrl-C ends it.", flush=True)
                await stop.wait()
            else:
                print(f"That was all. To look around: {PROGRAM} demo --duration 30m --serve")
        finally:
            await show.close()
        return 1 if residual_uj else 0


class _Screen:
    """Live progress on a terminal, a line now and then where there is none."""

    def __init__(self, nodes: int, gpus: int, show: "Demonstration") -> None:
        self._fleet = f"{nodes} nodes of {gpus} GPUs"
        self._demonstration = show
        self._console = Console(highlight=False)
        self._shown = 0
        self.last: Glimpse | None = None
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self.live = self._live if self._console.is_terminal else nullcontext()

    def show(self, glimpse: "Glimpse") -> None:
        """Bring the screen up to date."""
        self.last = glimpse
        if self._console.is_terminal:
            self._live.update(self._draw(glimpse), refresh=True)
        elif self._shown % _LINE_EVERY == 0:
            print(self._line(glimpse), flush=True)
        self._shown += 1

    def _line(self, glimpse: "Glimpse") -> str:
        return (
            f"SIMULATED {_clock(glimpse.now_ms)}  {self._fleet}  {watts(glimpse.watts)}  "
            f"jobs {glimpse.running} running, {glimpse.done} done  "
            f"residual {glimpse.residual_uj} µJ on {glimpse.meters} meters"
        )

    def _draw(self, glimpse: "Glimpse") -> Group:
        grid = Table.grid(padding=(0, 3))
        grid.add_row("time", f"{_clock(glimpse.now_ms)}   {glimpse.speed:.0f} times real time")
        grid.add_row("fleet", f"{self._fleet}   [bold]{watts(glimpse.watts)}[/bold]")
        jobs = f"{glimpse.running} running, {glimpse.waiting} waiting, {glimpse.done} done"
        grid.add_row("jobs", jobs)
        books = f"[bold]residual {glimpse.residual_uj} µJ[/bold] on {glimpse.meters} meters, "
        grid.add_row("books", f"{books}coverage {percent(glimpse.coverage)}")
        title = Text("SIMULATED fleet: nothing here is measured", style="bold yellow")
        url = self._demonstration.aggregator.url
        ask = f"In another terminal:  {PROGRAM} job {glimpse.example} --url {url}"
        return Group(title, grid, Text(ask if glimpse.example else "", style="dim"))


def _clock(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _some_of_each(figures: Sequence["JobFigure"]) -> list["JobFigure"]:
    """Return a handful of jobs, as many of every class, from the longest to the shortest."""
    kinds = sorted({figure.kind for figure in figures})
    each = max(1, _COMPARED // max(1, len(kinds)))
    chosen: list[JobFigure] = []
    for kind in kinds:
        own = [figure for figure in figures if figure.kind == kind]
        chosen += own[:: max(1, len(own) // each)][:each]
    return chosen


def _write(file: Path, figures: Sequence["JobFigure"]) -> Path:
    """Write every job with its metered and true energy as CSV."""
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["job_id", "how_it_was_seen", "seconds", "metered_uj", "true_uj", "error"])
        for f in figures:
            row = [f.job_id, f.kind, f.seconds, f.booked_uj, f.true_uj, f"{f.error:.6f}"]
            writer.writerow(row)
    return file


def _print_figures(figures: Sequence["JobFigure"]) -> None:
    if not figures:
        print("SIMULATED: no job has ended yet; let it run for some minutes of simulated time.")
        return
    rows = [
        [
            figure.job_id,
            figure.kind,
            span(figure.seconds),
            energy(figure.booked_uj),
            energy(figure.true_uj),
            f"{figure.error:.2%}",
        ]
        for figure in figures
    ]
    title = "SIMULATED jobs: metered energy beside the truth"
    headers = ["job", "<how it was seen", "ran", "metered", "true", "error"]
    console().print(table(headers, rows, title=title))


async def _ask_for_a_job(figures: Sequence["JobFigure"], url: str) -> None:
    """End with the answer that a user would get."""
    from wattkeeper.cli.job import Job
    from wattkeeper.cli.trace import Trace

    if figures:
        job = max(figures, key=lambda figure: figure.true_uj).job_id
        print(f"\n$ {PROGRAM} job {job} --url {url}", flush=True)
        await asyncio.to_thread(Job(id=job, url=url).run)
        print(f"\n$ {PROGRAM} trace {job} --url {url}", flush=True)
        await asyncio.to_thread(Trace(id=job, url=url).run)
        print()
