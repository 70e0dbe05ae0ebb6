"""A device whose reads can block: one owned thread each, asked with a deadline, never joined."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from wattkeeper.model.state import State
from wattkeeper.sources.files import UnreadableError

T = TypeVar("T")


class SlowReader(Generic[T]):
    """Runs one blocking read at a time in a daemon thread of its own.

    ACPI power meters evaluate firmware code at each read, which takes milliseconds on a good day
    and forever on a bad one. A read that misses its deadline goes on in its thread; the next call
    waits for that same read instead of queueing another. A daemon thread, not an executor's: an
    executor joins its threads at exit and a hung one would hold the process.
    """

    def __init__(self, read: Callable[[], T], subject: str) -> None:
        self._read = read
        self._subject = subject
        self._requests: queue.SimpleQueue[asyncio.Future[T | UnreadableError] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._pending: asyncio.Future[T | UnreadableError] | None = None

    async def read(self, deadline_s: float) -> T:
        """Return what the read gives.

        Raises:
            UnreadableError: STALE when the deadline passed, else what the read raised.

        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._serve, name=f"read {self._subject}", daemon=True
            )
            self._thread.start()
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_future()
            self._requests.put(self._pending)
        done, _ = await asyncio.wait({self._pending}, timeout=deadline_s)
        if not done:
            raise UnreadableError(
                State.STALE, f"{self._subject}: no answer within {deadline_s:g} s"
            )
        answer = self._pending.result()
        self._pending = None
        if isinstance(answer, UnreadableError):
            raise answer
        return answer

    def close(self) -> None:
        """Tell the thread to end after its read; it is not waited for."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
        self._requests.put(None)

    def _serve(self) -> None:
        while (answer := self._requests.get()) is not None:
            value: T | UnreadableError
            try:
                value = self._read()
            except UnreadableError as error:
                value = error
            try:
                answer.get_loop().call_soon_threadsafe(_settle, answer, value)
            except RuntimeError:  # the loop closed while the device kept us waiting
                return


def _settle(answer: "asyncio.Future[T | UnreadableError]", value: T | UnreadableError) -> None:
    if not answer.done():
        answer.set_result(value)
