"""A value that is costly to get and may be a little old."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Computed at most every `least_s` seconds, and never for more than 1/20 of the time.

    `get` blocks and may be called from any thread; one computes, the others wait for it.
    """

    def __init__(
        self,
        compute: Callable[[], T],
        least_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._least_s = least_s
        self._clock = clock
        self._lock = threading.Lock()
        self._value: T | None = None
        self._next_s = float("-inf")

    def get(self) -> T:
        """Return the value, computed anew if it is time."""
        with self._lock:
            began = self._clock()
            if self._value is None or began >= self._next_s:
                self._value = self._compute()
                ended = self._clock()
                self._next_s = ended + max(self._least_s, 20 * (ended - began))
            return self._value

    def expire(self) -> None:
        """Have it computed anew at the next `get`."""
        with self._lock:
            self._next_s = float("-inf")
