"""A value that is costly to get and may be a little old."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Computed at most every `least_s` seconds, and then not for `rests` times as long as it took.

    `get` blocks and may be called from any thread; one computes, the others wait for it. With a
    `pool` it waits for `patience_s` seconds at most where there is an older value, and gives that:
    who scrapes has a deadline, and the new one will be there the next time. `parts`: what it is
    made of, and expires with it.
    """

    def __init__(
        self,
        compute: Callable[[], T],
        least_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        rests: float = 20,
        pool: Executor | None = None,
        patience_s: float = 0.0,
        parts: Sequence["Cached[Any]"] = (),
    ) -> None:
        self._compute = compute
        self._least_s = least_s
        self._clock = clock
        self._rests = rests
        self._pool = pool
        self._patience_s = patience_s
        self._parts = parts
        self._lock = threading.Lock()
        self._value: T | None = None
        self._coming: Future[T] | None = None
        self._next_s = float("-inf")

    def get(self) -> T:
        """Return the value, computed anew if it is time."""
        if self._pool is None:
            with self._lock:
                return self._current()
        with self._lock:
            if self._coming is None or self._coming.done():
                self._coming = self._pool.submit(self._current)
            coming, older = self._coming, self._value
        if older is None:
            return coming.result()
        try:
            return coming.result(self._patience_s)
        except TimeoutError:
            return older

    def expire(self) -> None:
        """Have it computed anew at the next `get`."""
        for part in self._parts:
            part.expire()
        with self._lock:
            self._next_s = float("-inf")

    def _current(self) -> T:
        began = self._clock()
        if self._value is None or began >= self._next_s:
            self._value = self._compute()
            ended = self._clock()
            self._next_s = ended + max(self._least_s, self._rests * (ended - began))
        return self._value
