"""The two clocks of a node: boot time, which only goes forward, and UTC, which may step."""

import time
from typing import Protocol

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Time as the node sees it. A simulation gives its own."""

    def boot_ns(self) -> int:
        """Nanoseconds since boot, suspend included; never goes backward."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 in UTC; may step."""
        ...

    async def sleep_until(self, boot_ns: int) -> None:
        """Return once `boot_ns()` has reached the given instant."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def boot_ns(self) -> int:
        """CLOCK_BOOTTIME in nanoseconds."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_ns(self) -> int:
        """CLOCK_REALTIME in nanoseconds."""
        return time.time_ns()

    async def sleep_until(self, boot_ns: int) -> None:
        """Sleep on the event loop until the boot clock reaches `boot_ns`."""
        import asyncio  # noqa: PLC0415 -- a mark looks at the clock, and needs nothing of it

        await asyncio.sleep(max(0, boot_ns - self.boot_ns()) / NS_PER_S)
