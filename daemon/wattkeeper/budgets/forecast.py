"""Where a running interval will end: by a plain method, with the errors that it made before.

The rest of the interval is taken to draw what was drawn lately: the mean of the last minute for
billed intervals, of the last 24 hours for a day, of the last 7 days for a month. On simulated
fleets no other length of looking back does better at all of them (`python -m benchmarks forecast`).

The band is what the same method got wrong over what is remembered: it holds nine of ten of its
errors at the same distance. Where too little is remembered there is none.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

LEAST_ERRORS = 20
"""Errors that a band is made of, at least."""
_OUTSIDE = 0.05
MINUTE_MS = 60_000
_KEPT_MS = 28_800_000
_STEP_MS = 10_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Energy at the end of an interval, in microjoules, and the band around it (None: unknown)."""

    uj: float
    low_uj: float | None
    high_uj: float | None
    method: str


def forecast(
    used_uj: float, rest_ms: int, watts: float, errors: Sequence[float], method: str
) -> Forecast:
    """Return where it ends if `watts` are drawn for the rest; `errors` are earlier ones, in watts.

    An error is what was drawn less what had been expected. What is used stays used: the band
    begins there.
    """
    uj = used_uj + watts * rest_ms * 1000
    if len(errors) < LEAST_ERRORS:
        return Forecast(uj, None, None, method)
    ordered = sorted(errors)
    cut = int(len(ordered) * _OUTSIDE)
    low, high = ordered[cut], ordered[-1 - cut]
    floor = max(used_uj, uj + min(low, 0.0) * rest_ms * 1000)
    return Forecast(uj, min(uj, floor), max(uj, uj + high * rest_ms * 1000), method)


def errors_of(values: Sequence[float], window: int, horizon: int) -> list[float]:
    """Return what the mean of `window` values missed of the mean of the `horizon` that followed."""
    if window < 1 or horizon < 1 or len(values) < window + horizon:
        return []
    sums = [0.0, *accumulate(values)]
    return [
        (sums[at + horizon] - sums[at]) / horizon - (sums[at] - sums[at - window]) / window
        for at in range(window, len(values) - horizon + 1)
    ]


class Trail:
    """Power over the last eight hours in steps of 10 s, each the mean of its readings."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float, int]] = deque(maxlen=_KEPT_MS // _STEP_MS)

    def add(self, at_ms: int, watts: float) -> None:
        """Take a reading. Steps that were missed are not there: a gap begins anew."""
        step = at_ms // _STEP_MS
        if self._steps:
            last, total, count = self._steps[-1]
            if step == last:
                self._steps[-1] = (last, total + watts, count + 1)
                return
            if not last < step <= last + MINUTE_MS // _STEP_MS:
                self._steps.clear()
            else:
                # Between two readings of a busy centre it is taken to have gone on.
                self._steps.extend((one, watts, 1) for one in range(last + 1, step))
        self._steps.append((step, watts, 1))

    def lately(self) -> float | None:
        """Return the mean power of the last minute, None before there is any."""
        values = self.values()[-(MINUTE_MS // _STEP_MS) :]
        return sum(values) / len(values) if values else None

    def values(self) -> list[float]:
        """Return the power of each step, the newest last."""
        return [total / count for _, total, count in self._steps]

    def errors(self, rest_ms: int) -> list[float]:
        """Return what the mean of a minute missed of as long a time as is left."""
        horizon = max(1, rest_ms // _STEP_MS)
        return errors_of(self.values(), MINUTE_MS // _STEP_MS, horizon)
