"""GPUs whose time a test turns by hand, so that the joules of a whole run are known exactly."""

import threading
import time
from collections.abc import Callable

from tests.fake_nvml.library import FakeNvml

PERIOD_S = 2
"""Half of it each GPU draws twice its mean power, half of it nothing at all."""
_REST_S = 1.75
_EPOCH_S = 3600


class Crank:
    """Turns the time of the fake's GPUs, in whole periods, at the speed of the real clock.

    Between turns the hardware rests at a phase in which it draws nothing: the counters stand
    still as those of real hardware without power would, and whatever a program reads there is
    exact to the microjoule.
    """

    def __init__(self, fake: FakeNvml, gpus: int) -> None:
        self._fake = fake
        self._now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for i in range(gpus):
            gpu = fake.gpu(i)
            mean_w = 200 + 10 * i
            gpu.wave(mean_w, mean_w, PERIOD_S, square=True)
            gpu.origin_ns = self._now_ns - int((_EPOCH_S + _REST_S) * 1e9)
        fake.set_time(self._now_ns)
        self._first = [self._count_uj(i) for i in range(gpus)]

    def _count_uj(self, i: int) -> int:
        return self._fake.gpu(i).energy_mj(self._now_ns) * 1000

    def drawn_uj(self, i: int) -> int:
        """Return what GPU `i` has drawn since the crank was made, in microjoules."""
        return self._count_uj(i) - self._first[i]

    def reset_counter(self, i: int) -> None:
        """Let the counter of a resting GPU begin at 0, as after a load of the driver."""
        count_uj = self._count_uj(i)
        self._fake.gpu(i).offset_mj -= count_uj // 1000
        self._first[i] -= count_uj

    def turn(self, periods: int) -> None:
        """Let so many periods pass."""
        self._pass(lambda passed: passed < periods)

    def begin(self) -> None:
        """Go on turning in the background."""
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._pass, args=(lambda _: not self._stop.is_set(),), daemon=True
        )
        self._thread.start()

    def finish(self) -> None:
        """Finish the period that has begun, and rest."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _pass(self, more: Callable[[int], bool]) -> None:
        began_ns, from_ns = time.monotonic_ns(), self._now_ns
        passed = 0
        while more(passed):
            passed += 1
            end_ns = from_ns + passed * PERIOD_S * 1_000_000_000
            while self._now_ns < end_ns:
                time.sleep(0.002)
                self._now_ns = min(end_ns, from_ns + time.monotonic_ns() - began_ns)
                self._fake.set_time(self._now_ns)
