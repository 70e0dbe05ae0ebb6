"""Reads all budgets: live power, what is booked, what was drawn since, and where it will end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from operator import itemgetter
from typing import TypeVar

from wattkeeper.budgets.books import Books, Closed, lately, look, spender
from wattkeeper.budgets.budget import Budget, Kind
from wattkeeper.budgets.calendar import Interval, Period
from wattkeeper.budgets.collecting import Collector, Seen
from wattkeeper.budgets.forecast import Forecast, Trail, errors_of, forecast
from wattkeeper.budgets.scopes import Scopes
from wattkeeper.budgets.tally import Now
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS, ceil

N = TypeVar("N", int, float)

MOST_NAMED = 5
"""Jobs, accounts and nodes that are named, of each."""
_RESTS = 50
"""Pause after a look at closed slots, in lengths of it."""

_OF_MINUTE = "used so far, and the mean power of the last minute for the rest"
_OF_DAY = "used so far, and the mean power of the last 24 hours for the rest"
_OF_WEEK = "used so far, and the mean power of the last 7 days for the rest"


@dataclass(frozen=True, slots=True)
class Reading:
    """One budget, read. Energies in microjoules; None is not known.

    `used_uj`: of the running interval, of which `live_uj` is not in the books yet; `before_uj`: of
    the billed interval before. `coverage`: how complete it is. `top`: by kind the greatest, with
    their watts. `spent`: kind and name of those who used most of a period's closed slots, and how
    much.
    """

    interval: Interval
    watts: float | None
    coverage: float | None
    silent_nodes: int
    silent_watts: float
    used_uj: int | None = None
    live_uj: int = 0
    before_uj: int | None = None
    forecast: Forecast | None = None
    top: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    spent: Sequence[tuple[str, str, int]] = ()


class Reader:
    """Reads budgets again and again. Blocks: use it in one thread.

    `clock`: monotonic seconds, by which the costly looks at closed slots are paced.
    """

    def __init__(
        self,
        ledger: Ledger,
        budgets: Sequence[Budget],
        *,
        silent_after_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._collector = Collector(ledger, silent_after_ms)
        self._clock = clock
        self._trails = [Trail() for _ in budgets]
        self._books: Books | None = None
        self._look_s = float("-inf")

    def read(
        self, seen: Seen, groups: Mapping[str, Mapping[str, str]], now_ms: int
    ) -> list[Reading]:
        """Return a reading of each budget. `groups`: by kind the group of each node in one."""
        scopes = Scopes(self._budgets, groups)
        intervals = [budget.interval(now_ms) for budget in self._budgets]
        books = self._closed(scopes, intervals, now_ms)
        slots = lately(self._ledger, self._budgets, scopes, books.until_ms, now_ms)
        begins = [interval.start_ms for interval in intervals]
        found = []
        for number, now in enumerate(self._collector.tally(scopes, seen, begins, now_ms)):
            watts = now.watts if now.heard else None
            if watts is not None:
                # What silent nodes drew when they were heard last goes on, as far as is known.
                self._trails[number].add(now_ms, watts + now.silent_watts)
            reading = Reading(
                interval=intervals[number],
                watts=watts,
                coverage=now.coverage,
                silent_nodes=now.silent_nodes,
                silent_watts=now.silent_watts,
                top={
                    kind: nlargest(MOST_NAMED, _named(sums), itemgetter(1))
                    for kind, sums in (
                        ("job", now.jobs),
                        ("account", now.accounts),
                        ("node", now.nodes),
                    )
                },
            )
            if self._budgets[number].kind is not Kind.WATTS:
                reading = self._with_energy(number, reading, now, slots[number], now_ms)
            found.append(reading)
        return found

    def _closed(self, scopes: Scopes, intervals: Sequence[Interval], now_ms: int) -> Books:
        """Return the closed slots, looked at anew if it is time, or if a period has begun."""
        books, began_s = self._books, self._clock()
        same = books is not None and all(
            one.start_ms == interval.start_ms or budget.kind is not Kind.ENERGY
            for budget, one, interval in zip(self._budgets, books.closed, intervals, strict=True)
        )
        if books is None or not same or began_s >= self._look_s:
            books = self._books = look(self._ledger, self._budgets, scopes, now_ms)
            self._look_s = began_s + _RESTS * (self._clock() - began_s)
        return books

    def _with_energy(
        self, number: int, reading: Reading, now: Now, slots: Mapping[int, int], now_ms: int
    ) -> Reading:
        assert self._books is not None
        budget, interval = self._budgets[number], reading.interval
        closed = self._books.closed[number]
        until_ms = self._books.until_ms
        booked_uj = closed.uj + sum(uj for at, uj in slots.items() if at >= interval.start_ms)
        live_uj = round(now.since_booked_uj)
        used_uj = booked_uj + live_uj
        before_uj = None
        if budget.kind is Kind.DEMAND:
            last_ms = interval.start_ms - interval.length_ms
            before = [uj for at, uj in slots.items() if last_ms <= at < interval.start_ms]
            before_uj = sum(before) if before and budget.calendar.counts(last_ms) else None
        coverage = _covered(closed, until_ms, reading.coverage, interval, now_ms)
        known = reading.watts is not None or booked_uj > 0
        return replace(
            reading,
            coverage=coverage,
            used_uj=used_uj if known else None,
            live_uj=live_uj,
            before_uj=before_uj,
            spent=[
                (spender(budget) or "", name, uj)
                for name, uj in nlargest(MOST_NAMED, _named(closed.spent_uj), itemgetter(1))
            ],
            forecast=self._forecast(number, used_uj, closed, interval.end_ms - now_ms)
            if known
            else None,
        )

    def _forecast(
        self, number: int, used_uj: float, closed: Closed, rest_ms: int
    ) -> Forecast | None:
        budget, trail = self._budgets[number], self._trails[number]
        if budget.kind is Kind.DEMAND:
            lately_watts = trail.lately()
            if lately_watts is None:
                return None
            return forecast(used_uj, rest_ms, lately_watts, trail.errors(rest_ms), _OF_MINUTE)
        watts = closed.mean_watts
        if watts is None:
            return None
        if budget.period is Period.DAY:
            errors = errors_of(closed.daily_watts, 1, 1)
            return forecast(used_uj, rest_ms, watts, errors, _OF_DAY)
        days = max(1, ceil(rest_ms, DAY_MS) // DAY_MS)
        errors = errors_of(closed.daily_watts, 7, days)
        return forecast(used_uj, rest_ms, watts, errors, _OF_WEEK)


def _named(sums: Mapping[str, N]) -> list[tuple[str, N]]:
    return [(name, value) for name, value in sums.items() if name and value > 0]


def _covered(
    closed: Closed, until_ms: int, live: float | None, interval: Interval, now_ms: int
) -> float | None:
    """Return how complete an energy is: closed slots as the books say, the rest as nodes do."""
    closed_ms = max(0, until_ms - interval.start_ms)
    parts = [
        (closed.coverage, closed_ms),
        (live, max(1, now_ms - max(interval.start_ms, until_ms))),
    ]
    known = [(part, ms) for part, ms in parts if part is not None]
    if not known:
        return None
    return sum(part * ms for part, ms in known) / sum(ms for _, ms in known)
