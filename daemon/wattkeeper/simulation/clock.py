"""Time of a simulated fleet: one true time, and a clock per node that may be wrong."""

import asyncio
import heapq
import itertools

from wattkeeper.model.clock import NS_PER_MS


class TrueTime:
    """The instant at which the whole fleet is, in UTC milliseconds. It only goes forward."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.now_ms = start_ms
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def move_to(self, at_ms: int) -> None:
        """Let time pass until `at_ms` and wake whoever slept until then.

        Raises:
            ValueError: `at_ms` is in the past.

        """
        if at_ms < self.now_ms:
            raise ValueError(f"true time is {self.now_ms} ms, it cannot go back to {at_ms} ms")
        self.now_ms = at_ms
        while self._sleepers and self._sleepers[0][0] <= at_ms:
            sleeper = heapq.heappop(self._sleepers)[2]
            if not sleeper.done():
                sleeper.set_result(None)

    async def sleep_until(self, at_ms: int) -> None:
        """Return once true time has reached `at_ms`."""
        if at_ms <= self.now_ms:
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at_ms, next(self._order), sleeper))
        await sleeper


class VirtualClock:
    """The two clocks of one node: boot time follows true time, the wall clock may be off."""

    def __init__(self, time: TrueTime, booted_ms: int) -> None:
        self._time = time
        self.booted_ms = booted_ms
        self.offset_ms = 0
        self._steps: list[tuple[int, int]] = []

    def true_ms(self) -> int:
        """The fleet's true time, for the simulated hardware only."""
        return self._time.now_ms

    def true_of(self, wall_ms: int) -> int:
        """The true instant that this node called `wall_ms`; the later one where there were two."""
        for since_ms, offset_ms in reversed(self._steps):
            if wall_ms - offset_ms >= since_ms:
                return wall_ms - offset_ms
        return wall_ms

    def off_second_ms(self, at_ms: int) -> int:
        """How far from a whole true second this node's whole seconds are at a true instant."""
        offset_ms = next((ms for since_ms, ms in reversed(self._steps) if since_ms <= at_ms), 0)
        return min(offset_ms % 1000, -offset_ms % 1000)

    def boot_ns(self) -> int:
        """Nanoseconds since this node's boot."""
        return (self._time.now_ms - self.booted_ms) * NS_PER_MS

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as this node believes."""
        return (self._time.now_ms + self.offset_ms) * NS_PER_MS

    async def sleep_until(self, boot_ns: int) -> None:
        """Return once the fleet's time has brought `boot_ns()` there."""
        await self._time.sleep_until(self.booted_ms - (-boot_ns // NS_PER_MS))

    def step(self, by_ms: int) -> None:
        """Step the wall clock, as an operator or a wrong time server does."""
        self.offset_ms += by_ms
        self._steps.append((self._time.now_ms, self.offset_ms))

    def reboot(self) -> None:
        """Boot time begins again at the present instant."""
        self.booted_ms = self._time.now_ms
