"""Slurm's own list of the jobs on this node, asked for rarely and never waited for."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable

from wattkeeper.model.clock import NS_PER_S, Clock

_DEADLINE_S = 10.0
_BETWEEN_NS = 60 * NS_PER_S
"""The controller has better things to do."""

Ask = Callable[[], Awaitable[str | None]]
"""Gives one job id per line, None if Slurm does not answer."""


class SlurmRoll:
    """The job ids that Slurm has on this node.

    `ask` is None where Slurm's commands are not installed. `answer` is the last answer with the
    boot instant before which it was asked, None as long as there is none.
    """

    def __init__(self, ask: Ask | None, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._asked_ns: int | None = None
        self.answer: tuple[int, frozenset[str]] | None = None
        self.silent = ask is None

    def want(self) -> None:
        """Ask, if the last time was a minute ago; the answer is there at a later look."""
        now_ns = self._clock.boot_ns()
        if self._ask is None or (self._task is not None and not self._task.done()):
            return
        if self._asked_ns is None or now_ns - self._asked_ns >= _BETWEEN_NS:
            self._asked_ns = now_ns
            self._task = asyncio.create_task(self._fetch(self._ask, now_ns), name="squeue")

    async def close(self) -> None:
        """Do not wait for an answer any longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _fetch(self, ask: Ask, asked_ns: int) -> None:
        text = await ask()
        self.silent = text is None
        if text is not None:
            self.answer = asked_ns, frozenset(text.split())


def squeue(node: str) -> Ask | None:
    """Return how to ask Slurm for a node's jobs, None where its commands are not installed."""
    program = shutil.which("squeue")
    if program is None:
        return None

    async def ask() -> str | None:
        # %A is the id of each array task's own job.
        try:
            process = await asyncio.create_subprocess_exec(
                program, "--noheader", f"--nodelist={node}", "--format=%A",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError:
            return None  # an upgrade has just taken the command away, or memory is short
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _DEADLINE_S)
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return output.decode(errors="replace") if process.returncode == 0 else None

    return ask
