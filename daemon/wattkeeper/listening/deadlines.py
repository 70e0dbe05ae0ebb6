"""Many deadlines of one length, at the cost of a dictionary's entry each."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `expired` with whatever began `seconds` ago and has not ended.

    All take equally long, so the first to begin is the first that is due, and one timer does for
    all. A timer for each would stay in the loop's queue after its end.
    """

    def __init__(self, seconds: float, expired: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._expired = expired
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, one: T) -> None:
        """Let its time begin, anew if it began before."""
        loop = asyncio.get_running_loop()
        self._due.pop(one, None)
        self._due[one] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def end(self, one: T) -> None:
        """Let nothing happen to it."""
        self._due.pop(one, None)

    def __contains__(self, one: T) -> bool:
        """Tell whether its time runs."""
        return one in self._due

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._due:
            one, due = next(iter(self._due.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._look)
                return
            del self._due[one]
            self._expired(one)
