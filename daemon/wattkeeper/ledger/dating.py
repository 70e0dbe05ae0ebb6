"""A node whose clock is wrong is dated by the aggregator, through the clock that cannot step."""

from wattkeeper.delivery.wire import Batch


class Dating:
    """Dates the records of one delivery. Only those of its own boot can be: `boot`.

    A shift is whole slots, so that points stay on slot lines, and none within half a slot.
    """

    __slots__ = ("_half", "_origin", "_slot_ms", "boot")

    def __init__(self, slot_ms: int, batch: Batch, now_ms: int) -> None:
        self.boot = batch.boot
        self._slot_ms = slot_ms
        self._half = slot_ms // 2
        self._origin = now_ms - batch.boot_ms

    def shift(self, at_ms: int, boot_ms: int) -> int:
        """Return what is added to an instant that the node dated `at_ms` at `boot_ms`."""
        off = self._origin - at_ms + boot_ms
        if -self._half <= off <= self._half:
            return 0
        return (off + self._half) // self._slot_ms * self._slot_ms
