"""Power over time whose integral is exact: milliwatts for whole milliseconds are microjoules."""

from bisect import bisect_right
from collections.abc import Callable


class Pattern:
    """Power that repeats without end: pieces of (milliseconds, milliwatts).

    A training job's step is one pattern: a long piece of compute and a short one of exchange.
    """

    __slots__ = ("cycle_uj", "mean_mw", "period_ms", "pieces")

    def __init__(self, *pieces: tuple[int, int]) -> None:
        if not pieces or min(ms for ms, _ in pieces) <= 0 or min(mw for _, mw in pieces) < 0:
            raise ValueError(f"pieces must be (milliseconds > 0, milliwatts >= 0), got {pieces}")
        self.pieces = pieces
        self.period_ms = sum(ms for ms, _ in pieces)
        self.cycle_uj = sum(ms * mw for ms, mw in pieces)
        self.mean_mw = self.cycle_uj // self.period_ms

    def energy_uj(self, elapsed_ms: int) -> int:
        """Exact energy of the first `elapsed_ms` milliseconds, in microjoules."""
        pieces = self.pieces
        if len(pieces) == 1:
            return elapsed_ms * pieces[0][1]
        cycles, left = divmod(elapsed_ms, self.period_ms)
        energy = cycles * self.cycle_uj
        for ms, mw in pieces:
            if left <= ms:
                return energy + left * mw
            energy += ms * mw
            left -= ms
        return energy

    def power_mw(self, elapsed_ms: int) -> int:
        """Power `elapsed_ms` milliseconds after the pattern began, in milliwatts."""
        pieces = self.pieces
        if len(pieces) > 1:
            left = elapsed_ms % self.period_ms
            for ms, mw in pieces:
                if left < ms:
                    return mw
                left -= ms
        return pieces[0][1]

    def map(self, change: Callable[[int], int]) -> "Pattern":
        """Return the pattern with `change` applied to each piece's milliwatts."""
        return Pattern(*((ms, change(mw)) for ms, mw in self.pieces))


class Waveform:
    """Patterns one after the other; knows the integral from its start to any instant.

    Instants are whole UTC milliseconds. Before its start the power is 0.
    """

    __slots__ = ("_bases", "_patterns", "_starts")

    def __init__(self, start_ms: int, pattern: Pattern) -> None:
        self._starts = [start_ms]
        self._patterns = [pattern]
        self._bases = [0]

    def change(self, at_ms: int, pattern: Pattern) -> None:
        """Let `pattern` rule from `at_ms` on; what was planned from there on is dropped.

        Raises:
            ValueError: `at_ms` lies before the waveform's start.

        """
        if at_ms < self._starts[0]:
            raise ValueError(f"the waveform starts at {self._starts[0]} ms, after {at_ms} ms")
        energy = self.energy_uj(at_ms)
        while self._starts and self._starts[-1] >= at_ms:
            self._starts.pop()
            self._patterns.pop()
            self._bases.pop()
        self._starts.append(at_ms)
        self._patterns.append(pattern)
        self._bases.append(energy)

    def energy_uj(self, at_ms: int) -> int:
        """Exact integral from the start to `at_ms`, in microjoules."""
        i = self._at(at_ms)
        if i < 0:
            return 0
        return self._bases[i] + self._patterns[i].energy_uj(at_ms - self._starts[i])

    def power_mw(self, at_ms: int) -> int:
        """Power at the instant `at_ms`, in milliwatts."""
        i = self._at(at_ms)
        return 0 if i < 0 else self._patterns[i].power_mw(at_ms - self._starts[i])

    def forget_before(self, at_ms: int) -> None:
        """Free the memory of patterns that ended before `at_ms`; integrals after it stay exact."""
        keep = max(0, self._at(at_ms))
        del self._starts[:keep]
        del self._patterns[:keep]
        del self._bases[:keep]

    def _at(self, at_ms: int) -> int:
        if at_ms >= self._starts[-1]:
            return len(self._starts) - 1
        return bisect_right(self._starts, at_ms) - 1
