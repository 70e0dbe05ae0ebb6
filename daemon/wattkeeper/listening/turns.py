"""So many questions of one caller at a time, so that nobody keeps others out."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """Lets `at_once` of each key in; more wait for their turn."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._turns: dict[Hashable, asyncio.Semaphore] = {}
        self._there: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and have it until the end of the block."""
        turns = self._turns.setdefault(key, asyncio.Semaphore(self._at_once))
        self._there[key] += 1
        try:
            async with turns:
                yield
        finally:
            self._there[key] -= 1
            if not self._there[key]:
                del self._there[key], self._turns[key]
