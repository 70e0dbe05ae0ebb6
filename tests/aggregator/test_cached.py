"""What is costly is computed rarely, and an older answer stands in meanwhile."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from wattkeeper.aggregator.cached import Cached


class Slow:
    """Something that takes `seconds` of a clock of its own, and counts how often it was done."""

    def __init__(self, seconds: float) -> None:
        self.now_s = 0.0
        self.seconds = seconds
        self.times = 0

    def __call__(self) -> int:
        """Do it."""
        self.now_s += self.seconds
        self.times += 1
        return self.times

    def clock(self) -> float:
        """Return the time."""
        return self.now_s


def test_what_took_long_rests_long() -> None:
    """At most every `least_s` seconds, and not for `rests` times as long as it took."""
    cases: tuple[tuple[float, float, float], ...] = ((0.1, 5.0, 5.0), (4.0, 5.0, 12.0))
    for seconds, least_s, rest_s in cases:
        slow = Slow(seconds)
        cached = Cached(slow, least_s, slow.clock, rests=3)
        assert cached.get() == 1
        slow.now_s += rest_s - 0.01
        assert cached.get() == 1
        slow.now_s += 0.02
        assert cached.get() == 2


def test_nobody_waits_for_more_than_patience() -> None:
    """Where there is an older value, that is given; what is under way comes with a later call."""
    released = threading.Event()
    numbers = itertools.count(1)

    def compute() -> int:
        number = next(numbers)
        assert number == 1 or released.wait(10)
        return number

    with ThreadPoolExecutor(1) as pool:
        cached = Cached(compute, 0, rests=0, pool=pool, patience_s=0.01)
        assert cached.get() == 1
        assert cached.get() == 1
        released.set()
        pool.submit(lambda: None).result(10)  # what was under way has ended
        assert cached.get() >= 2
