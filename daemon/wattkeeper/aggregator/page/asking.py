"""What the page shows is what the endpoints answer: asked once for all who look at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator.access.caller import Caller
from wattkeeper.aggregator.access.gate import check
from wattkeeper.aggregator.access.roles import Audience
from wattkeeper.aggregator.endpoint import Endpoint
from wattkeeper.aggregator.problem import ProblemError, ledger_unavailable
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import LedgerError

_KEPT = 64
"""Answers that are kept; the one that was asked for least lately leaves first."""
_REST = 4
"""How long an answer is kept at least, in lengths of what it took."""


@dataclass(frozen=True, slots=True)
class Part:
    """An answer that a page can do without: None where there is none, and why."""

    answer: Any
    problem: str = ""


@dataclass(slots=True)
class _Kept:
    task: asyncio.Task["_Outcome"]
    until_s: float = 0.0


_Outcome = tuple[Any, ProblemError | None]


class Answers:
    """What the endpoints answered lately, to whom they would answer the same.

    For the event loop alone: answers are found in the endpoints' threads.
    """

    def __init__(self, endpoints: Iterable[Endpoint[Any]], pool: Executor) -> None:
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._pool = pool
        self._kept: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()

    def who(self, path: str) -> Audience:
        """Return who may ask an endpoint."""
        return self._endpoints[path].who

    async def get(
        self, caller: Caller, path: str, asked: Mapping[str, Any], fresh_s: float, patience_s: float
    ) -> Any:
        """Return what the endpoint answers a caller.

        Raises:
            ProblemError: what the endpoint would say, or no answer within `patience_s`.

        """
        check(caller, self.who(path), path)
        kept = self._get(path, asked, caller.scope, fresh_s)
        try:
            async with asyncio.timeout(patience_s):
                answer, problem = await asyncio.shield(kept.task)
        except TimeoutError:
            detail = "this takes longer than a page should; look again in a moment"
            raise ProblemError(503, "too-slow", detail) from None
        if problem is not None:
            raise ProblemError(problem.status, problem.kind, problem.detail, problem.field)
        return answer

    async def close(self) -> None:
        """Wait for nothing any more."""
        tasks = [kept.task for kept in self._kept.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept.clear()

    def _get(
        self, path: str, asked: Mapping[str, Any], scope: Scope | None, fresh_s: float
    ) -> _Kept:
        key = (path, scope, *sorted(asked.items()))
        now_s = asyncio.get_running_loop().time()
        kept = self._kept.get(key)
        if kept is None or (kept.task.done() and now_s >= kept.until_s):
            kept = _Kept(asyncio.create_task(self._answer(path, asked, scope), name=f"page {path}"))
            kept.task.add_done_callback(lambda _: self._done(kept, now_s, fresh_s))
            self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept

    @staticmethod
    def _done(kept: _Kept, began_s: float, fresh_s: float) -> None:
        now_s = kept.task.get_loop().time()
        kept.until_s = now_s + max(fresh_s, _REST * (now_s - began_s))

    async def _answer(self, path: str, asked: Mapping[str, Any], scope: Scope | None) -> _Outcome:
        endpoint = self._endpoints[path]
        try:
            query = endpoint.parse(asked)
            return await endpoint.in_time(self._pool, endpoint.respond, query, scope), None
        except ProblemError as problem:
            return None, problem
        except (SQLAlchemyError, LedgerError) as error:
            return None, ledger_unavailable(path, error)


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks the endpoints for somebody who looks at a page."""

    answers: Answers
    caller: Caller

    def may(self, path: str) -> bool:
        """Tell whether they may be told what an endpoint answers."""
        return self.caller.role in self.answers.who(path)

    async def ask(self, path: str, fresh_s: float, patience_s: float = 60, **query: Any) -> Any:
        """Return what the endpoint answers; parameters that are None are left out.

        It is at most `fresh_s` old, or a few times as old as it takes to find.

        Raises:
            ProblemError: what the endpoint would say, or no answer within `patience_s`.

        """
        asked = {name: value for name, value in query.items() if value is not None}
        return await self.answers.get(self.caller, path, asked, fresh_s, patience_s)

    async def part(self, path: str, fresh_s: float, patience_s: float = 3, **query: Any) -> Part:
        """Return the answer, or why there is none: the rest of the page does not wait for it."""
        try:
            return Part(await self.ask(path, fresh_s, patience_s, **query))
        except ProblemError as problem:
            return Part(None, problem.detail)
