"""How long the source of a driver waits for what, and what it leaves closed until when."""

import math
import time
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in seconds.

    `start_s`: for the first child before the agent goes on without it; `hello_s`: for the library
    to initialise, which takes seconds where nothing keeps the GPUs awake; `attach_s`: for the
    first answer; `silent_s`: for any answer before a child is given up; `end_s`: for a child to
    end; `retry_s`, `last_retry_s`: between attempts, doubling; `steady_s`: of health after which
    the attempts begin anew.
    """

    start_s: float = 15
    hello_s: float = 60
    attach_s: float = 3
    silent_s: float = 30
    end_s: float = 5
    retry_s: float = 1
    last_retry_s: float = 600
    steady_s: float = 60


class Retries:
    """When the next attempt is due: the time between two doubles until all is well for a while."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._due_at = -math.inf
        self._delay = 0.0

    def due(self) -> bool:
        """Tell whether an attempt may be made now; then the next is due after a longer time."""
        now = time.monotonic()
        if now < self._due_at:
            return False
        least, most = self._patience.retry_s, self._patience.last_retry_s
        self._delay = min(most, max(least, 2 * self._delay))
        self._due_at = now + self._delay
        return True

    def at_once(self) -> None:
        """Let the next attempt be due now."""
        self._due_at = -math.inf

    def begin_anew(self) -> None:
        """Let the time between two attempts be short again."""
        self._delay = 0.0


class Releases:
    """The GPUs that are left closed, by UUID, None for all; each until its time is over."""

    def __init__(self) -> None:
        self._until: dict[str | None, float] = {}

    def add(self, uuid: str | None, for_s: float) -> None:
        """Leave a GPU, or all, closed for so many seconds."""
        self._until[uuid] = time.monotonic() + for_s

    def still(self) -> set[str | None]:
        """Return what is to be closed now."""
        now = time.monotonic()
        return {uuid for uuid, until in self._until.items() if until > now}

    def asked_for(self) -> Collection[str | None]:
        """Return what was released and is not open again yet, though its time may be over."""
        return self._until.keys()

    def over(self) -> bool:
        """Tell whether something may be opened again."""
        return len(self.still()) < len(self._until)

    def forget_over(self) -> None:
        """Forget what is open again."""
        still = self.still()
        self._until = {uuid: until for uuid, until in self._until.items() if uuid in still}

    def all_of(self, gpus: int) -> bool:
        """Tell whether nothing is open, of so many GPUs."""
        still = self.still()
        return None in still or 0 < gpus <= len(still)

    def left_s(self) -> float:
        """Return for how many seconds something is closed yet."""
        return max(self._until.values()) - time.monotonic()
