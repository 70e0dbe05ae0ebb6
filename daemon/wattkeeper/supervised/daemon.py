"""A daemon on an event loop: ready, alive, reloaded and ended as its service manager wants it."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from wattkeeper.supervised.notify import ALIVE, READY, STOPPING, notify, reloading, watchdog_s

_SIGNS = 4
"""Looks at the daemon in one watchdog interval."""


class Daemon:
    """What a daemon has to do with whoever started it. `stop` is set when it shall end."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def ready(self, progress: Callable[[], object]) -> None:
        """Say that the daemon serves; from now on it is alive as long as `progress` changes."""
        notify(READY)
        interval_s = watchdog_s()
        if interval_s is not None:
            self._start(_give_signs(progress, interval_s / _SIGNS))

    def on_reload(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Call `reload` on SIGHUP, without which that signal ends the process."""

        async def reload_and_say() -> None:
            notify(reloading())
            try:
                await reload()
            finally:
                notify(READY)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start(reload_and_say()))

    def end(self) -> None:
        """Say that the daemon ends, and let it."""
        notify(STOPPING)
        self.stop.set()

    async def close(self) -> None:
        """End what goes on beside the daemon."""
        for task in self._tasks:
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="supervised")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def run_until_signal(serve: Callable[[Daemon], Awaitable[None]]) -> None:
    """Run `serve` on a new event loop; SIGINT and SIGTERM set its `stop`."""

    async def main() -> None:
        daemon = Daemon()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, daemon.end)
        try:
            await serve(daemon)
        finally:
            await daemon.close()

    asyncio.run(main())


async def _give_signs(progress: Callable[[], object], every_s: float) -> None:
    seen: object = None
    while True:
        now = progress()
        if now != seen:
            notify(ALIVE)
            seen = now
        await asyncio.sleep(every_s)
