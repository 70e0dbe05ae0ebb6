"""Watching the cgroup trees by inotify, so that a job's birth or death is known within ms."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from asyncinotify import Inotify, Mask

_EDGES = Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.ONLYDIR


class TreeWatch:
    """Calls `on_edge` with the folder in which a folder came or went, None if events were lost.

    `failure` says why watching does not work, empty while it does; then somebody has to look.
    """

    def __init__(self, on_edge: Callable[[Path | None], Awaitable[None]]) -> None:
        self._on_edge = on_edge
        self._inotify: Inotify | None = None
        self._task: asyncio.Task[None] | None = None
        self.failure = ""

    def start(self) -> None:
        """Open inotify and follow its events in a task of the running loop."""
        if self._task is not None:
            return
        try:
            self._inotify = Inotify()
        except OSError as error:
            self.failure = f"inotify: {error.strerror}"
            return
        self._task = asyncio.create_task(self._follow(self._inotify), name="cgroup watch")
        self._task.add_done_callback(self._ended)

    def add(self, folder: Path) -> None:
        """Watch one folder; again is harmless. Safe from another thread than the loop's.

        Raises:
            FileNotFoundError: it is gone.

        """
        if self._inotify is None or self.failure:
            return
        try:
            self._inotify.add_watch(folder, _EDGES)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            self.failure = f"inotify watch on {folder}: {error.strerror}"

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.failure = f"following inotify: {task.exception()!r}"

    async def _follow(self, inotify: Inotify) -> None:
        while True:
            event = await inotify.get()
            if Mask.Q_OVERFLOW in event.mask:
                await self._on_edge(None)
            elif Mask.ISDIR in event.mask:
                # An event can come before its watch is entered in the library's table.
                await self._on_edge(event.watch.path if event.watch else None)
