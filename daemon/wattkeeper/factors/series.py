"""A factor over time: which value is in force when, and where it is only estimated."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Value(NamedTuple):
    """A rate that is in force from an instant on (UTC milliseconds); `estimated` by its source."""

    at_ms: int
    rate: int
    estimated: bool = False


class Piece(NamedTuple):
    """A stretch with one rate."""

    from_ms: int
    to_ms: int
    rate: int
    estimated: bool


ALWAYS_MS = 0
"""From when a constant is in force: 1970, before any meter."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values in the order of their time, no two at one instant.

    A value is in force until the next one, but for `holds_ms` at most (None: without end). What
    lies beyond, or before the first one, is a gap: there `fallback` counts, else the value before
    it, else the first one; all of it estimated.
    """

    values: tuple[Value, ...]
    holds_ms: int | None = None
    fallback: int | None = None

    @classmethod
    def of(
        cls, values: Iterable[Value], *, holds_ms: int | None = None, fallback: int | None = None
    ) -> "Series":
        """Return the series of values in any order; of two at one instant the last one counts."""
        by_time = {value.at_ms: value for value in values}
        return cls(tuple(by_time[at_ms] for at_ms in sorted(by_time)), holds_ms, fallback)

    def pieces(self, since_ms: int, until_ms: int) -> list[Piece]:
        """Cut [since, until) into stretches with one rate; none where no rate is known at all."""
        found: list[Piece] = []
        if self.values or self.fallback is not None:
            for piece in self._stretches(since_ms, until_ms):
                last = found[-1] if found else None
                if last is not None and last[2:] == piece[2:]:
                    found[-1] = last._replace(to_ms=piece.to_ms)
                else:
                    found.append(piece)
        return found

    def _stretches(self, since_ms: int, until_ms: int) -> Iterator[Piece]:
        number = bisect_right(self.values, since_ms, key=lambda value: value.at_ms) - 1
        at_ms = since_ms
        while at_ms < until_ms:
            following = self.values[number + 1].at_ms if number + 1 < len(self.values) else until_ms
            end_ms = min(until_ms, following)
            if number >= 0:
                value = self.values[number]
                lapsed = end_ms if self.holds_ms is None else value.at_ms + self.holds_ms
                if at_ms < (held_ms := min(end_ms, lapsed)):
                    yield Piece(at_ms, held_ms, value.rate, value.estimated)
                    at_ms = held_ms
            if at_ms < end_ms:
                yield Piece(at_ms, end_ms, self._guess(number), estimated=True)
                at_ms = end_ms
            number += 1

    def _guess(self, number: int) -> int:
        if self.fallback is not None:
            return self.fallback
        return self.values[max(0, number)].rate


def constant(rate: int) -> Series:
    """Return the series of one rate at all times."""
    return Series((Value(ALWAYS_MS, rate),))
