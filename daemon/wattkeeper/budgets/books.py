"""What the books say of each budget: of its running interval, of the last day, week and weeks.

Closed slots change seldom (late deliveries, settlement), and their sums cost the more the longer
they reach back: they are taken less often, and what was booked since is added each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa

from wattkeeper.budgets.budget import Budget, Kind, ScopeKind
from wattkeeper.budgets.calendar import Period
from wattkeeper.budgets.scopes import Scopes
from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.expected import expected_coverage
from wattkeeper.ledger.queries.spent import node_sums, work_sums
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS, floor

DAYS = 56
"""Days of history that bands of days and months are made of."""
_WEEK = 7
_HOUR_MS = 3_600_000


@dataclass(slots=True)
class Closed:
    """One budget in the closed slots: since its interval began, and what it drew before.

    `mean_watts`: over the last day (or week, for months), or over as much of it as there is; None
    where that is less than an hour (a day).
    `daily_watts`: mean power of each whole day (UTC), the newest last. `spent_uj`: who used what of
    `uj`, as far as `spender` tells.
    """

    start_ms: int
    uj: int = 0
    coverage: float | None = None
    mean_watts: float | None = None
    daily_watts: list[float] = field(default_factory=list)
    spent_uj: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Books:
    """All budgets up to `until_ms`, the end of the closed slots."""

    until_ms: int
    closed: Sequence[Closed]


def look(ledger: Ledger, budgets: Sequence[Budget], scopes: Scopes, now_ms: int) -> Books:
    """Add up closed slots. Blocks, on a large fleet for seconds.

    The slots of the running and of the last billed interval are left for `lately`.
    """
    longest_ms = max((one.length_ms for one in budgets), default=0)
    until_ms = floor(now_ms, ledger.slot_ms) - 2 * longest_ms
    with ledger.reading() as connection:
        reader = _Reader(connection, budgets, scopes, until_ms)
        closed = [Closed(budget.interval(now_ms).start_ms) for budget in budgets]
        first_ms = connection.scalar(_FIRST)
        sums: dict[int, list[int]] = {}
        for number, budget in enumerate(budgets):
            one = closed[number]
            if budget.kind is not Kind.ENERGY or first_ms is None:
                continue
            if one.start_ms < until_ms:
                one.uj = reader.between(one.start_ms, sums)[number]
            days, least_ms = (1, _HOUR_MS) if budget.period is Period.DAY else (_WEEK, DAY_MS)
            since_ms = max(until_ms - days * DAY_MS, first_ms)
            if until_ms - since_ms >= least_ms:
                uj = reader.between(since_ms, sums)[number]
                one.mean_watts = uj / (until_ms - since_ms) / 1000
        if first_ms is not None and any(budget.kind is Kind.ENERGY for budget in budgets):
            reader.days(closed, first_ms)
        books = Books(until_ms, closed)
        _cover(connection, budgets, scopes, books)
        reader.spenders(closed)
    return books


def lately(
    ledger: Ledger, budgets: Sequence[Budget], scopes: Scopes, since_ms: int, now_ms: int
) -> list[dict[int, int]]:
    """Return by budget what was booked in each slot since the closed ones."""
    with ledger.reading() as connection:
        reader = _Reader(connection, budgets, scopes, floor(now_ms, ledger.slot_ms) + DAY_MS)
        return reader.by("slot", since_ms)


def spender(budget: Budget) -> str | None:
    """Return what is told of who used the energy of a period: accounts, of an account its users.

    None where there is no more to tell than who draws power now.
    """
    if budget.kind is not Kind.ENERGY or budget.scope.kind in _LONE:
        return None
    return "user" if budget.scope.kind is ScopeKind.ACCOUNT else "account"


_LONE = (ScopeKind.GROUP, ScopeKind.NODE, ScopeKind.JOB)
_FIRST = sa.select(sa.func.min(schema.posting.c.slot))


class _Reader:
    """Reads sums of nodes and of workloads, as far as a budget wants them."""

    def __init__(
        self,
        connection: sa.Connection,
        budgets: Sequence[Budget],
        scopes: Scopes,
        until_ms: int,
    ) -> None:
        self._connection = connection
        self._scopes = scopes
        self._budgets = budgets
        self._until_ms = until_ms
        self._of_nodes = any(budget.scope.kind.of_nodes for budget in budgets)

    def between(self, since_ms: int, known: dict[int, list[int]]) -> list[int]:
        """Return by budget the energy since an instant; asked once for all that ask the same."""
        if since_ms not in known:
            by_time = self.by("", since_ms)
            known[since_ms] = [sum(one.values()) for one in by_time]
        return known[since_ms]

    def days(self, closed: Sequence[Closed], first_ms: int) -> None:
        """Enter the mean power of whole days."""
        end = floor(self._until_ms, DAY_MS)
        begin = max(end - DAYS * DAY_MS, floor(first_ms, DAY_MS) + DAY_MS)
        if begin >= end:
            return
        by_day = self.by("day", begin)
        for one, found in zip(closed, by_day, strict=True):
            days = range(begin // DAY_MS, end // DAY_MS)
            one.daily_watts = [found.get(day, 0) / DAY_MS / 1000 for day in days]

    def spenders(self, closed: Sequence[Closed]) -> None:
        """Enter who used what of the energy of a period."""
        wanted = [
            (number, one)
            for number, one in enumerate(closed)
            if one.start_ms < self._until_ms and spender(self._budgets[number]) is not None
        ]
        for since_ms in {one.start_ms for _, one in wanted}:
            for _, whose, uj in work_sums(self._connection, since_ms, self._until_ms):
                own = set(self._scopes.of_workload(whose))
                for number, one in wanted:
                    scope = self._budgets[number].scope
                    of_all = scope.kind is ScopeKind.FLEET and scope.cluster in ("", whose.cluster)
                    if one.start_ms == since_ms and (number in own or of_all):
                        by_user = spender(self._budgets[number]) == "user"
                        name = whose.user if by_user else whose.account
                        one.spent_uj[name] = one.spent_uj.get(name, 0) + uj

    def by(self, each: str, since_ms: int) -> list[dict[int, int]]:
        """Return by budget its energy, by slot, by day, or in one."""
        found: list[dict[int, int]] = [{} for _ in self._budgets]
        scopes, until_ms = self._scopes, self._until_ms
        if self._of_nodes:
            for at, cluster, node, uj in node_sums(self._connection, since_ms, until_ms, each):
                for number in scopes.of_node(cluster, node):
                    found[number][at] = found[number].get(at, 0) + uj
        if scopes.any_workload:
            jobs = scopes.jobs
            for at, whose, uj in work_sums(self._connection, since_ms, until_ms, jobs, each):
                for number in scopes.of_workload(whose):
                    found[number][at] = found[number].get(at, 0) + uj
        return found


def _cover(
    connection: sa.Connection,
    budgets: Sequence[Budget],
    scopes: Scopes,
    books: Books,
) -> None:
    """Enter how complete the books are: of workloads that of all nodes, as a gap is nobody's."""
    known: dict[tuple[object, int], float | None] = {}
    for number, (budget, one) in enumerate(zip(budgets, books.closed, strict=True)):
        if budget.kind is Kind.WATTS or one.start_ms >= books.until_ms:
            continue
        by_node = budget.scope.kind.of_nodes
        key = (budget.scope if by_node else None, one.start_ms)
        if key not in known:
            of = partial(_counts_in, scopes, number) if by_node else _any
            known[key] = expected_coverage(connection, one.start_ms, books.until_ms, of)
        one.coverage = known[key]


def _counts_in(scopes: Scopes, number: int, cluster: str, node: str) -> bool:
    return number in scopes.of_node(cluster, node)


def _any(_cluster: str, _node: str) -> bool:
    return True
