"""A read that blocks: the deadline is kept, one thread, no second read behind a hung one."""

import asyncio
import threading

import pytest

from wattkeeper.model.state import State
from wattkeeper.sources.files import UnreadableError
from wattkeeper.sources.slow import SlowReader


class Device:
    """A device whose read waits until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls = 0

    def read(self) -> int:
        """Block until the gate opens."""
        self.calls += 1
        self.gate.wait()
        return self.calls


async def test_a_hung_read_is_stale_and_asked_once() -> None:
    """Two deadlines pass on one read; its late answer is taken by the third call."""
    device = Device()
    reader = SlowReader(device.read, "meter")
    for _ in range(2):
        with pytest.raises(UnreadableError) as caught:
            await reader.read(0.01)
        assert caught.value.state == State.STALE
    device.gate.set()
    assert await reader.read(5.0) == 1
    assert device.calls == 1
    assert await reader.read(5.0) == 2
    reader.close()


async def test_a_failing_read_raises_and_the_next_one_is_fresh() -> None:
    """What the read raised comes out in the caller."""
    answers = iter(["torn", "5"])

    def read() -> int:
        answer = next(answers)
        if not answer.isdigit():
            raise UnreadableError(State.FAILING, answer)
        return int(answer)

    reader = SlowReader(read, "meter")
    with pytest.raises(UnreadableError, match="torn"):
        await reader.read(5.0)
    assert await reader.read(5.0) == 5
    reader.close()


async def test_close_leaves_a_hung_thread_behind() -> None:
    """Closing does not wait; the thread is a daemon and ends by itself once let go."""
    device = Device()
    reader = SlowReader(device.read, "hung")
    with pytest.raises(UnreadableError):
        await reader.read(0.01)
    reader.close()
    thread = next(t for t in threading.enumerate() if t.name == "read hung")
    assert thread.daemon
    device.gate.set()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
