"""When a level is reached, and when it is left: not at every flicker around a line."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """What a budget can have reached, the least first."""

    WARN = "warn"
    FORECAST = "forecast"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """A level is reached when its line is, for `raise_after_ms`; it is left below `clear_at` of it.

    That has to last for `clear_after_ms`.
    """

    raise_after_ms: int = 0
    clear_after_ms: int = 300_000
    clear_at: float = 0.95


STEADY = Hysteresis()


@dataclass(slots=True)
class Latch:
    """One level of one budget. `since_ms`: when it was reached, None while it is not.

    What is not known changes nothing: a reading that is missing is no reason to give the all-clear.
    """

    line: float
    hysteresis: Hysteresis
    since_ms: int | None = None
    turning_ms: int | None = None

    def see(self, rising: float | None, falling: float | None, now_ms: int) -> bool:
        """Take a reading; return whether the level was reached or left.

        `rising` is compared with the line, and once it is reached `falling` with the lower one.
        """
        if self.since_ms is None:
            turns = rising is not None and rising >= self.line
            return self._turn(turns, self.hysteresis.raise_after_ms, now_ms)
        turns = falling is not None and falling < self.line * self.hysteresis.clear_at
        return self._turn(turns, self.hysteresis.clear_after_ms, now_ms)

    def drop(self) -> bool:
        """Leave the level at once, where nothing is limited; return whether it was reached."""
        reached, self.since_ms, self.turning_ms = self.since_ms is not None, None, None
        return reached

    def _turn(self, turns: bool, after_ms: int, now_ms: int) -> bool:
        if not turns:
            self.turning_ms = None
            return False
        if self.turning_ms is None:
            self.turning_ms = now_ms
        if now_ms - self.turning_ms < after_ms:
            return False
        self.since_ms = now_ms if self.since_ms is None else None
        self.turning_ms = None
        return True
