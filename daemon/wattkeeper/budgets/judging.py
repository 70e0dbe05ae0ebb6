"""Judges readings: which levels are reached and left, and writes that into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from wattkeeper.budgets.budget import Budget, Kind
from wattkeeper.budgets.levels import Latch, Level
from wattkeeper.budgets.readings import Reading
from wattkeeper.budgets.status import Peak, Status, ahead, before_ratio, load, peak, ratio, status
from wattkeeper.ledger import breaches
from wattkeeper.ledger.breaches import Breach
from wattkeeper.ledger.store import Ledger

_WORSE_MS = 60_000
"""How often at most it is written down that a breach is worse."""
_WORSE = 1.01


@dataclass(frozen=True, slots=True)
class _Signal:
    """What a level is judged by: parts of the limit, None where that is not known."""

    rising: float | None
    falling: float | None


class Judge:
    """Remembers which levels are reached; the ledger does so over restarts. Blocks.

    `peaks`: of the month, by budget; they are kept with how budgets stood last.
    """

    def __init__(self, ledger: Ledger, budgets: Sequence[Budget]) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._latches: dict[tuple[str, Level], Latch] = {}
        self._open: dict[tuple[str, Level], Breach] = {}
        self._written_ms: dict[int, int] = {}
        self.peaks: dict[str, Peak] = {}
        self._restored = False

    def forget(self) -> None:
        """Begin again with what the ledger has: another one may have judged meanwhile."""
        self._restored = False

    def judge(self, readings: Sequence[Reading], now_ms: int) -> list[Status]:
        """Return how each budget stands.

        Raises:
            LedgerError: a change cannot be written down; the next call begins with what is there.

        """
        if not self._restored:
            self._restore(now_ms)
        self._restored = False  # until all that changed is written
        left: list[Breach] = []
        found = []
        for budget, reading in zip(self._budgets, readings, strict=True):
            changed = self._see(budget, reading, now_ms)
            since = {
                level: latch.since_ms
                for level in Level
                if (latch := self._latches[budget.name, level]).since_ms is not None
            }
            stands = self._with_peak(budget, reading, status(budget, reading, since, now_ms))
            found.append(stands)
            for level in changed:
                if level in since:
                    self._reach(budget, level, stands, now_ms)
                else:
                    left.append(self._open.pop((budget.name, level)))
            for level in since:
                self._worsen(budget, level, stands, now_ms)
        if left:
            breaches.leave(self._ledger, [one.id for one in left], now_ms)
        self._restored = True
        return found

    def _restore(self, now_ms: int) -> None:
        self._latches = {
            (budget.name, level): _latch(budget, level)
            for budget in self._budgets
            for level in Level
        }
        self._open = {}
        kept = filter(None, map(load, breaches.states(self._ledger)))
        self.peaks = {one.name: one.peak for one in kept if one.peak is not None}
        kinds = {budget.name: budget.kind.value for budget in self._budgets}
        gone = []  # of budgets that are no more, or that limit something else now
        for breach in breaches.reached_now(self._ledger):
            key = (breach.budget, Level(breach.level))
            if kinds.get(breach.budget) == _kind(breach) and key not in self._open:
                self._latches[key].since_ms = breach.from_ms
                self._open[key] = breach
            else:
                gone.append(breach.id)
        if gone:
            breaches.leave(self._ledger, gone, now_ms)

    def _with_peak(self, budget: Budget, reading: Reading, stands: Status) -> Status:
        highest = peak(budget, reading, self.peaks.get(budget.name))
        if highest is None:
            return stands
        self.peaks[budget.name] = highest
        return msgspec.structs.replace(stands, peak=highest)

    def _see(self, budget: Budget, reading: Reading, now_ms: int) -> list[Level]:
        """Return the levels that are reached or left by this reading."""
        changed = []
        for level, signal in _signals(budget, reading).items():
            latch = self._latches[budget.name, level]
            if not reading.interval.counts:
                turned = latch.drop()
            else:
                turned = latch.see(signal.rising, signal.falling, now_ms)
            if turned:
                changed.append(level)
        return changed

    def _reach(self, budget: Budget, level: Level, stands: Status, now_ms: int) -> None:
        self._open[budget.name, level] = breaches.reach(
            self._ledger, budget.name, level.value, now_ms,
            _seen(level, stands) or 0.0, stands.coverage, _detail(stands),
        )  # fmt: skip
        self._written_ms[self._open[budget.name, level].id] = now_ms

    def _worsen(self, budget: Budget, level: Level, stands: Status, now_ms: int) -> None:
        breach = self._open[budget.name, level]
        worst = _seen(level, stands)
        if worst is None or worst < breach.worst * _WORSE:
            return
        if now_ms - self._written_ms.get(breach.id, 0) < _WORSE_MS:
            return
        detail = _detail(stands)
        breaches.worsen(self._ledger, breach.id, worst, stands.coverage, detail)
        self._written_ms[breach.id] = now_ms
        self._open[budget.name, level] = replace(
            breach, worst=worst, coverage=stands.coverage, detail=detail
        )


def _kind(breach: Breach) -> object:
    """Return what a breach is of: watts, energy or demand."""
    return msgspec.json.decode(breach.detail or "{}").get("kind")


def _latch(budget: Budget, level: Level) -> Latch:
    line = budget.warn_at if level is Level.WARN else 1.0
    hysteresis = budget.hysteresis
    if level is Level.HARD and budget.kind is not Kind.WATTS:
        hysteresis = replace(hysteresis, raise_after_ms=0)  # what is used is used
    return Latch(line, hysteresis)


def _signals(budget: Budget, reading: Reading) -> dict[Level, _Signal]:
    """Return what each level is judged by.

    A billed interval warns by its forecast: what is used of it grows from nothing in each one.
    Over the limit it is once that is a fact, and until an interval and the forecast are below.
    """
    now = ratio(budget, reading)
    if budget.kind is Kind.WATTS:
        falling = None
        if reading.watts is not None:
            falling = (reading.watts + reading.silent_watts) * 1000 / budget.limit
        signal = _Signal(now, falling)
        return {Level.WARN: signal, Level.HARD: signal}
    end = ahead(budget, reading)
    coming = None if end is None else end.ratio
    expected = _Signal(coming, coming)
    if budget.kind is Kind.ENERGY:
        used = _Signal(now, now)
        return {Level.WARN: used, Level.FORECAST: expected, Level.HARD: used}
    before = before_ratio(budget, reading)
    facts = [one for one in (now, before) if one is not None]
    over = _Signal(max(facts, default=None), None if coming is None else max(coming, before or 0.0))
    return {Level.WARN: expected, Level.FORECAST: expected, Level.HARD: over}


def _seen(level: Level, stands: Status) -> float | None:
    """Return the part of the limit by which a breach is told."""
    if stands.kind == Kind.DEMAND and level is Level.HARD:
        facts = (stands.ratio, stands.before_ratio)
        return max((one for one in facts if one is not None), default=None)
    if level is Level.FORECAST or (stands.kind == Kind.DEMAND and level is Level.WARN):
        return None if stands.forecast is None else stands.forecast.ratio
    return stands.ratio


def _detail(stands: Status) -> str:
    """Return what is told of a breach later, as JSON."""
    return msgspec.json.encode({
        "kind": stands.kind,
        "scope": stands.scope,
        "limit": stands.limit,
        "watts": stands.watts,
        "used_uj": None if stands.used_uj is None else str(stands.used_uj),
        "top": stands.top,
    }).decode()  # fmt: skip
