"""Evaluates budgets every few seconds, while this aggregator leads, and answers about them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator import budget_answers, budget_scope
from wattkeeper.aggregator.access.roles import USERS
from wattkeeper.aggregator.alerting import Alerting
from wattkeeper.aggregator.budget_config import AlertsSection
from wattkeeper.aggregator.budget_metrics import BudgetFigures
from wattkeeper.aggregator.endpoint import Endpoint, Query
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.live import Live
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.budgets import status
from wattkeeper.budgets.budget import Budget
from wattkeeper.budgets.judging import Judge
from wattkeeper.budgets.readings import Reader, Reading
from wattkeeper.budgets.status import Peak, Status
from wattkeeper.ledger import breaches
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.model.state import Finding, State

_EVERY_S = 5.0
_RESTS = 4
"""Pause after an evaluation, in lengths of it: it takes a fifth of the time at most."""
_TROUBLE = "budgets"


class BudgetsQuery(Query):
    """Which budgets, and how much of their history."""

    name: str | None = Field(None, description="only this one")
    history: int = Field(10, ge=0, le=1000, description="breaches of each at most, the newest")


class Budgeting:
    """The budgets of the configuration. `evaluate`, `stand` and the endpoint's answer block.

    `pool`: one thread, in which they are evaluated.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        ledger: Ledger,
        live: Live,
        fleet: Fleet,
        lease: Lease,
        *,
        alerts: AlertsSection,
        pool: Executor,
        silent_after_ms: int,
        troubles: Troubles,
        now_ms: Callable[[], int],
    ) -> None:
        self.budgets = budgets
        self._kinds = {one.scope.group for one in self.budgets if one.scope.group}
        self._ledger = ledger
        self._live = live
        self._fleet = fleet
        self._lease = lease
        self._troubles = troubles
        self._now_ms = now_ms
        self._reader = Reader(
            ledger, budgets, silent_after_ms=silent_after_ms, clock=time.monotonic
        )
        self.judge = Judge(ledger, budgets)
        self._alerting = Alerting(
            alerts, ledger, lease, pool=pool, troubles=troubles, now_ms=now_ms
        )
        self._term: int | None = None
        self._found: list[Status] = []
        self._kept: dict[str, Peak] | None = None
        self._pool = pool

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the tasks that evaluate and tell; they run until they are cancelled."""
        tasks = [asyncio.create_task(self._run(), name="budgets")]
        return tasks + self._alerting.begin()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            await self.assess()
            await asyncio.sleep(max(_EVERY_S, _RESTS * (loop.time() - began_s)))

    async def assess(self) -> bool:
        """Evaluate once, in the thread that does nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.evaluate)

    def evaluate(self) -> bool:
        """Read and judge, if this aggregator leads; return whether it did."""
        term = self._lease.token
        if term is None:
            self._term = None
            return False
        if term != self._term:
            # Another one may have judged meanwhile.
            self._term = term
            self._kept = None
            self.judge.forget()
        try:
            now_ms = self._now_ms()
            # Without budgets, too: of those that there were, what is reached is left once.
            self._found = self.judge.judge(self._read(now_ms), now_ms)
            if (self._ledger.shared and self.budgets) or self.judge.peaks != self._kept:
                texts = {one.name: status.dump(one) for one in self._found}
                breaches.put_states(self._ledger, texts, now_ms)
                self._kept = dict(self.judge.peaks)
        except LeaseLostError:
            return False
        except (LedgerError, SQLAlchemyError) as error:
            self._troubles.failed(_TROUBLE, error)
            return False
        self._troubles.recovered(_TROUBLE)
        return True

    def _read(self, now_ms: int) -> list[Reading]:
        if not self.budgets:
            return []
        groups = {kind: self._fleet.members(kind) for kind in self._kinds}
        return self._reader.read(self._live.view(), groups, now_ms)

    def stand(self) -> list[Status]:
        """Return how the budgets stood last, here or where the lease is."""
        if self._lease.token is not None or not self._ledger.shared:
            return list(self._found)
        kept = (status.load(text) for text in breaches.states(self._ledger))
        return [one for one in kept if one is not None]

    def figures(self) -> BudgetFigures:
        """Return what is exported: how they stood last, if this aggregator leads."""
        found = list(self._found) if self._lease.token is not None else []
        return BudgetFigures(found, self._alerting.counts, bool(self.budgets))

    def findings(self) -> list[Finding]:
        """Return how it goes with evaluation and alerts."""
        return [*self._evaluating(), *self._alerting.findings()]

    def _evaluating(self) -> list[Finding]:
        if not self.budgets:
            return []
        why = self._troubles.why(_TROUBLE)
        if why:
            fix = "budgets stand as they did last; it is tried again"
            return [Finding("budgets", State.FAILING, why, fix)]
        return [Finding("budgets", State.OK, f"{len(self.budgets)} are watched")]

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return what answers about budgets."""
        return (
            Endpoint(
                "/v1/budgets",
                "Budgets: how they stand, and where they are going",
                BudgetsQuery,
                budget_answers.Budgets,
                self._answer,
                who=USERS,
            ),
        )

    def _answer(self, query: BudgetsQuery, scope: Scope | None) -> budget_answers.Budgets:
        ordered = budget_answers.in_order(self.stand())
        found = budget_scope.seen(ordered, self.budgets, scope)
        if query.name is not None:
            found = [one for one in found if one.name == query.name]
            if not found:
                detail = f"there is no budget {query.name[:80]!r}, or it was not evaluated yet"
                raise ProblemError(404, "unknown-budget", detail, "name")
        names = [one.name for one in found]
        past = breaches.history(self._ledger, names, query.history)
        answers = [budget_answers.budget(one, past.get(one.name, [])) for one in found]
        return budget_answers.Budgets(
            as_of=rfc3339(self._now_ms()),
            budgets=budget_scope.told(answers, self.budgets, scope),
        )
