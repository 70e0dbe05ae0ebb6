"""`wattkeeper top`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field
from rich.console import Group
from rich.live import Live
from rich.text import Text

from wattkeeper.cli.client import NO_ANSWER, asked, find
from wattkeeper.cli.command import Command, CommandError
from wattkeeper.cli.keys import Keys
from wattkeeper.cli.output import Format, console, emit_csv, emit_json, table
from wattkeeper.cli.top_rows import COLUMNS, Answers, View
from wattkeeper.cli.top_screen import Screen
from wattkeeper.flags import ConfigError
from wattkeeper.values import Duration

_PATIENCE_S = 20.0
_REST = 4
"""Pause after an answer, in lengths of it: a large fleet is asked less often."""
_TICK_S = 1.0


class Top(Command):
    """Show nodes, GPUs and jobs now: power, temperature, utilization, and who has them.

    `tab` turns from nodes to GPUs to jobs, arrows sort and move, `/` filters, `?` tells more,
    `q` ends. It goes on when the aggregator goes away, and says so. Where the output is no
    terminal, or with --once or another --format, it prints one list and ends.

    Examples:
      wattkeeper top
      wattkeeper top --view jobs --filter physics
      wattkeeper top --view gpus --sort celsius --once | head
      wattkeeper top --view gpus --format csv > gpus.csv
    """

    view: View = Field("nodes", description="what to show first: nodes, gpus, jobs")
    sort: str | None = Field(None, description="by this column: node, watts, celsius, user, …")
    filter: str = Field("", description="only rows with these words")
    every: Duration = Field("2s", validate_default=True, description="ask so often: 2s, 10s")
    once: bool = Field(False, description="print one list and end")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print the list")

    def run(self) -> int:
        """Show, until it is enough."""
        screen = Screen(view=self.view, words=self.filter)
        if self.sort is not None:
            keys = [column.key for column in COLUMNS[self.view]]
            if self.sort not in keys:
                raise ConfigError(f"--sort: {self.sort!r} is none of {', '.join(keys)}")
            screen.sorts[self.view] = self.sort
        live = not self.once and self.format == "table"
        if live and sys.stdin.isatty() and sys.stdout.isatty():
            return asyncio.run(_Watch(find(self.url), screen, self.every.total_seconds()).run())
        return self._print(screen, asyncio.run(answers_of(find(self.url), self.view)))

    def _print(self, screen: Screen, answers: Answers) -> int:
        listed = screen.listed(answers)
        columns = COLUMNS[self.view]
        if self.format == "json":
            emit_json({"view": self.view, "fleet": answers.fleet, "rows": listed})
        elif self.format == "csv":
            keys = dict.fromkeys(("cluster", *(column.key for column in columns)))
            emit_csv(listed, list(keys))
        else:
            headers = [f"{'<' if column.left else ''}{column.header}" for column in columns]
            cells = [[column.say(row[column.key]) for column in columns] for row in listed]
            console().print(table(headers, cells))
        return 0


async def answers_of(base: str, view: View) -> Answers:
    """Ask for what a view shows.

    Raises:
        CommandError: nobody answers, or not in time.

    """

    async def get(path: str, query: Mapping[str, str | None] | None = None) -> Any:
        return await asked(base, path, query, patience_s=_PATIENCE_S)

    async def some(wanted: Literal["nodes", "jobs"], path: str) -> Any:
        query = {"state": "running", "limit": "10000"} if wanted == "jobs" else None
        return (await get(path, query))[wanted] if view == wanted else ()

    fleet, devices, nodes, jobs = await asyncio.gather(
        get("/v1/fleet"),
        get("/v1/devices", {"component": "gpu"}),
        some("nodes", "/v1/nodes"),
        some("jobs", "/v1/jobs"),
    )
    return Answers(fleet, devices["devices"], nodes, jobs)


class _Watch:
    """The screen, kept current until `q` or a signal."""

    def __init__(self, base: str, screen: Screen, every_s: float) -> None:
        self._base = base
        self._screen = screen
        self._every_s = every_s
        self._answers: dict[View, Answers] = {}
        self._answered: datetime | None = None
        self._trouble = ""
        self._suspended = False
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        asking = asyncio.create_task(self._ask())
        try:
            while not self._screen.ended:
                await self._show()
                if self._suspended:
                    self._suspended = False
                    os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if not self._answers and self._trouble:
            raise CommandError(self._trouble, NO_ANSWER)
        return 0

    async def _show(self) -> None:
        """Have the terminal until the end, or until it is wanted back for a while."""
        out = console()
        with (
            Keys(sys.stdin.fileno(), self._press),
            Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            while not (self._screen.ended or self._suspended):
                self._changed.clear()
                live.update(Group(*self._lines(out.width, out.height)), refresh=True)
                await self._wait()

    def _lines(self, width: int, height: int) -> list[Text]:
        trouble = self._trouble
        if trouble and self._answered is not None:
            trouble = f"no answer since {self._answered:%H:%M:%S}Z; {self._base} is asked again"
        answers = self._answers.get(self._screen.view)
        return self._screen.frame(answers, trouble, width, height)

    def _press(self, key: str) -> None:
        before = self._screen.view, self._screen.paused
        self._screen.press(key)
        if before != (self._screen.view, self._screen.paused):
            self._wanted.set()
        self._changed.set()

    def _suspend(self) -> None:
        self._suspended = True
        self._changed.set()

    def _end(self) -> None:
        self._screen.ended = True
        self._changed.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_TICK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _ask(self) -> None:
        while True:
            self._wanted.clear()
            began_s = time.monotonic()
            if not self._screen.paused:
                await self._ask_once()
            lasted_s = time.monotonic() - began_s
            try:
                async with asyncio.timeout(max(self._every_s, _REST * lasted_s)):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _ask_once(self) -> None:
        view = self._screen.view
        try:
            self._answers[view] = await answers_of(self._base, view)
        except CommandError as error:
            self._trouble = str(error)
        else:
            self._trouble = ""
            self._answered = datetime.now(UTC)
        self._changed.set()
