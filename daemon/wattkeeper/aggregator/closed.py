"""`/v1/statements`: closed periods, listed, shown and checked; and how one is closed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime, tzinfo
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import Field

from wattkeeper.aggregator import closing, periods, statement_answers
from wattkeeper.aggregator.access.roles import OPERATORS
from wattkeeper.aggregator.auditing import DONE
from wattkeeper.aggregator.endpoint import Endpoint, Query, alike
from wattkeeper.aggregator.openapi import problem_response
from wattkeeper.aggregator.posted import posted
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.statement_lines import Lines, total, write
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.budgets.calendar import midnight_ms
from wattkeeper.ledger.statements import (
    ClosedMeanwhileError,
    Statement,
    broken_links,
    statements,
)
from wattkeeper.ledger.store import Ledger
from wattkeeper.model import grid

PATH = "/v1/statements"
_ZONES_APART_MS = 26 * 3_600_000
"""Between the midnights of one date, at most: 12 hours behind UTC to 14 before it."""


class Nothing(Query):
    """No parameters."""


class StatementQuery(Query):
    """One statement."""

    id: str = Field(description="its number, or its period: 3, 2026-03")


class Closed:
    """Closes periods, and answers for those that are closed. All but `handle` blocks."""

    def __init__(
        self,
        ledger: Ledger,
        pricing: Pricing,
        *,
        pool: Executor,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._pricing = pricing
        self._pool = pool
        self._now_ms = now_ms

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return the endpoints that ask."""
        one, answers = f"{PATH}/{{id}}", statement_answers
        endpoint = partial(Endpoint, who=OPERATORS)
        return (
            endpoint(
                PATH,
                "Statements of closed periods",
                Nothing,
                answers.Statements,
                alike(self._all),
            ),
            endpoint(one, "One statement", StatementQuery, answers.Statement, alike(self._show)),
            endpoint(
                f"{one}/check",
                "Do the books still say what was stated?",
                StatementQuery,
                answers.Check,
                alike(self._check),
            ),
        )

    async def handle(self, request: web.Request) -> web.Response:
        """Close a period and answer with its statement."""
        asked = await posted(request, statement_answers.Close)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._pool, self.close, asked)
        request[DONE] = f"{made.period}: statement {made.number}"
        location = {"Location": f"{PATH}/{made.number}"}
        body, kind = made.body.encode(), "application/json"
        return web.Response(status=201, body=body, content_type=kind, headers=location)

    def close(self, asked: statement_answers.Close) -> Statement:
        """Close a period.

        Raises:
            ProblemError: it has not ended, a part of it is closed already, or it would leave a hole
                that no period is of.

        """
        zone = periods.zone(asked.timezone)
        now_ms, slot_ms = self._now_ms(), self._ledger.slot_ms
        since_ms, until_ms = (
            grid.floor(at_ms, slot_ms) for at_ms in periods.calendar(asked.period, now_ms, zone)
        )
        name = periods.resolve(asked.period, now_ms, zone)
        if until_ms > now_ms:
            detail = f"{name} ends at {rfc3339(until_ms)}; close it after that"
            raise ProblemError(409, "not-ended", detail, "period")
        closed = statements(self._ledger)
        if broken := broken_links(closed):
            detail = f"statements {_names(broken)} are not what was closed; restore them first"
            raise ProblemError(409, "broken-statements", detail)
        _check_overlap(closed, since_ms, until_ms)
        _check_holes(closed, since_ms, until_ms, lambda at_ms: self._is_midnight(at_ms, zone))
        period = closing.Period(name, asked.timezone, since_ms, until_ms)
        try:
            return closing.close(self._ledger, self._pricing, period, now_ms)
        except ClosedMeanwhileError as error:
            raise ProblemError(409, "closed", str(error), "period") from error

    def _is_midnight(self, at_ms: int, zone: tzinfo) -> bool:
        """Tell whether days of a zone begin in the slot that begins at an instant."""
        slot_ms = self._ledger.slot_ms
        day = datetime.fromtimestamp((at_ms + slot_ms - 1) / 1000, zone).date()
        return grid.floor(midnight_ms(day, zone), slot_ms) == at_ms

    def _all(self, _: Nothing) -> statement_answers.Statements:
        closed = statements(self._ledger)
        broken = broken_links(closed)
        return statement_answers.Statements(
            intact=not broken,
            statements=[
                statement_answers.StatementRef(
                    number=one.number,
                    period=one.period,
                    since=rfc3339(one.since_ms),
                    until=rfc3339(one.until_ms),
                    closed=rfc3339(one.closed_ms),
                    hash=one.hash,
                    previous=one.previous or None,
                    intact=one.number not in broken,
                )
                for one in closed
            ],
        )

    def _show(self, query: StatementQuery) -> bytes:
        return _find(statements(self._ledger), query.id).body.encode()

    def _check(self, query: StatementQuery) -> statement_answers.Check:
        closed = statements(self._ledger)
        found = _find(closed, query.id)
        broken = broken_links(closed)
        rows: Lines | None = None
        if not broken:
            bodies = [one.told() for one in closed]
            rows = closing.moved(self._ledger, self._pricing, found, bodies)
        return statement_answers.Check.model_validate(
            {
                "number": found.number,
                "period": found.period,
                "hash": found.hash,
                "intact": not broken,
                "broken": sorted(broken),
                "moved": None if rows is None else bool(rows),
                "rows": write(rows or {}),
                "total": total((rows or {}).values()).told(),
            }
        )


def _check_overlap(closed: list[Statement], since_ms: int, until_ms: int) -> None:
    for one in closed:
        if one.since_ms < until_ms and since_ms < one.until_ms:
            detail = (
                f"statement {one.number} ({one.period}) has closed {rfc3339(one.since_ms)} to "
                f"{rfc3339(one.until_ms)}; what came later will be an adjustment in the next"
            )
            raise ProblemError(409, "closed", detail, "period")


def _check_holes(
    closed: list[Statement], since_ms: int, until_ms: int, is_midnight: Callable[[int], bool]
) -> None:
    """Refuse a period by another zone's days than those beside it: nobody would ever be billed."""
    holes = [(one, one.until_ms, since_ms) for one in closed]
    holes += [(one, until_ms, one.since_ms) for one in closed]
    for one, from_ms, to_ms in holes:
        edge_ms = from_ms if to_ms == since_ms else to_ms
        if 0 < to_ms - from_ms <= _ZONES_APART_MS and not is_midnight(edge_ms):
            detail = (
                f"no period would hold {rfc3339(from_ms)} to {rfc3339(to_ms)}, between this one "
                f"and statement {one.number} ({one.period}); close by its timezone, "
                f"{one.told()['timezone']}"
            )
            raise ProblemError(409, "hole", detail, "timezone")


def _names(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _find(closed: list[Statement], wanted: str) -> Statement:
    for one in closed:
        if wanted in (str(one.number), one.period):
            return one
    detail = f"{wanted[:80]} is no statement; {PATH} lists them"
    raise ProblemError(404, "unknown-statement", detail, "id")


def openapi() -> dict[str, Any]:
    """Return what posting does, for the OpenAPI document."""
    made = {"schema": {"$ref": "#/components/schemas/Statement"}}
    schema = statement_answers.Close.model_json_schema()
    return {
        "post": {
            "summary": "Close a period",
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "201": {
                    "description": "its statement",
                    "content": {"application/json": made},
                },
                "default": problem_response(),
            },
        }
    }
