"""The agent's end of a driver's child: asked under a deadline, let go, never waited for."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from wattkeeper.sources.driver_wire import Failed, GpuAnswer, Hello, Line

_DECODER = msgspec.json.Decoder(Line)
_ENCODER = msgspec.json.Encoder()
_CHILD_SHARE = 0.8
"""Part of a deadline that the child may use up, the rest is for the way back."""
MAX_ABANDONED = 3
"""Children that may hang in the driver at a time; then no new one is started."""
_POLL_S = 0.01
_MAX_LINE = 4 << 20


class Child(asyncio.Protocol):
    """One child process. All methods belong to the event loop; none waits for the driver.

    `module`, `options`, `folders`: as `start_process` takes them.
    """

    def __init__(self, module: str, options: Sequence[str], folders: Sequence[str]) -> None:
        self.greeting: asyncio.Future[Hello | Failed] = asyncio.get_running_loop().create_future()
        self._module, self._options, self._folders = module, options, folders
        self._starting: asyncio.Future[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: asyncio.Future[list[GpuAnswer]] | None = None
        self._transport: asyncio.Transport | None = None
        self._one_at_a_time = asyncio.Lock()
        self._rest = b""
        self._seq = 0

    async def start(self) -> None:
        """Start the process.

        Raises:
            OSError: the process could not be started.

        """
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self._starting = loop.run_in_executor(None, self._start_in_thread, theirs)
        await loop.create_connection(lambda: self, sock=ours)
        # Whoever cancels us must not lose the process: it is still to be reaped.
        await asyncio.shield(self._starting)

    def _start_in_thread(self, stdin: socket.socket) -> None:
        with stdin:
            self._process = start_process(stdin, self._module, self._options, self._folders)

    @property
    def alive(self) -> bool:
        """Whether the child's end is open, however stuck it may be."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def gone(self) -> bool:
        """Whether the process has ended. One that is stuck in the driver has not."""
        if self._process is None:
            return self._starting is None or self._starting.done()
        return self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        """The process id, None before there is one."""
        return self._process.pid if self._process is not None else None

    async def ask(self, deadline_s: float, *, hurry: bool = False) -> list[GpuAnswer] | None:
        """Return what every GPU answers, None if the child as a whole gave none in time.

        `hurry`: read slow values such as process lists more often for the next ten seconds. May
        be called again meanwhile (a mark reads between two ticks): that one waits its turn.
        """
        async with self._one_at_a_time:
            return await self._exchange(deadline_s, hurry=hurry)

    async def _exchange(self, deadline_s: float, *, hurry: bool) -> list[GpuAnswer] | None:
        if not self.alive or self._transport is None:
            return None
        self._seq += 1
        self._answer = asyncio.get_running_loop().create_future()
        ask = {"seq": self._seq, "deadline_s": deadline_s * _CHILD_SHARE, "hurry": hurry}
        if not self._transport.get_write_buffer_size():  # else it reads nothing: do not pile up
            self._transport.write(_ENCODER.encode(ask) + b"\n")
        try:
            async with asyncio.timeout(deadline_s):
                return await self._answer
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._answer = None

    def leave(self) -> None:
        """Close our end: a child that can still do anything ends itself."""
        if self._transport is not None:
            self._transport.abort()

    async def ended(self, within_s: float) -> bool:
        """Return whether the process ends by itself in time."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not self.gone:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole lines out of what came in."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            try:
                self._take(_DECODER.decode(line))
            except msgspec.DecodeError:
                self.leave()
        if len(self._rest) > _MAX_LINE:
            self.leave()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell whoever waits that the child is no more."""
        if not self.greeting.done():
            self.greeting.set_result(Failed(999, "start", "the process ended without a word"))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the driver's process ended"))

    def _take(self, line: Line) -> None:
        greeting = line.hello or line.failed
        if greeting is not None and not self.greeting.done():
            self.greeting.set_result(greeting)
        answer = self._answer
        if line.gpus is not None and line.seq == self._seq and answer and not answer.done():
            answer.set_result(line.gpus)


class Leaving:
    """The children that were let go, or were never taken on, until they end."""

    behind: ClassVar[list[Child]] = []
    """Hung ones of closed sources: kept, for a process object may not be dropped unreaped."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    def add(self, child: Child) -> None:
        """Let a child go, or have it at hand before it is taken on."""
        self._children.append(child)

    def remove(self, child: Child) -> None:
        """Take a child on."""
        self._children.remove(child)

    def pids(self) -> list[int | None]:
        """Return the processes that have not ended."""
        self._children = [child for child in self._children if not child.gone]
        return [child.pid for child in self._children]

    async def ended(self, within_s: float) -> None:
        """Wait until those that were let go have ended.

        Raises:
            TimeoutError: one hangs in the driver and still has the device open.

        """
        for child in [child for child in self._children if not child.alive]:
            if not await child.ended(within_s):
                raise TimeoutError(f"process {child.pid} hangs in the driver and keeps it open")

    async def abandon(self, within_s: float) -> None:
        """Wait for all to end, and leave behind those that do not."""
        await asyncio.gather(*(child.ended(within_s) for child in self._children))
        self.behind[:] = [child for child in (*self.behind, *self._children) if not child.gone]
        self._children = []


def start_process(
    stdin: socket.socket, module: str, options: Sequence[str], folders: Sequence[str]
) -> "subprocess.Popen[bytes]":
    """Start the interpreter without `site`: a fifth of its memory and start-up time.

    `options` are what the `main` of `module` takes; it imports from `folders` and this package.
    """
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-S", "-m", module, *options],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *folders]),
            "MALLOC_ARENA_MAX": "2",  # a thread per GPU must not mean an arena per GPU
        },
        start_new_session=True,  # Ctrl-C is for the agent, which lets the child go in order
    )
