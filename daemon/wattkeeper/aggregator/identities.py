"""How long names of people are kept, and `POST /v1/forget`, which forgets one person at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from wattkeeper.aggregator.answers import Answer
from wattkeeper.aggregator.auditing import DONE
from wattkeeper.aggregator.openapi import problem_response
from wattkeeper.aggregator.posted import posted
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.ledger.identities import Expiry, Forgotten, forget
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.model.state import Finding, State

PATH = "/v1/forget"
_TROUBLE = "identities"
_ROUND_S = 24 * 3600.0
"""Pause after all runs were looked at."""
_AGAIN_S = 60.0
"""Pause after a failure, and until it is looked again who leads."""
_NOT_REACHED = (
    "copies of the ledger and its backups",
    "what was exported, printed or sent: CSV, pages, alerts",
    "the tokens file, access.operators and access.managers; logs",
    "Prometheus and its remote storage, where metrics.identity is user",
    "the scheduler's own accounting; nodes, until they have delivered",
)


class Forget(BaseModel):
    """Who is to be forgotten: a user, in one cluster or (none given) in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1, max_length=MAX_LABEL)
    cluster: str = Field("", max_length=MAX_LABEL)


class ForgottenAnswer(Answer):
    """What was done. `pseudonym` is what the person's runs are called by from now on."""

    pseudonym: str
    runs: int
    breaches: int = Field(description="breaches of budgets that named the person")
    remaining: dict[str, int] = Field(
        description="words of jobs that have the name in it still, and of how many"
    )
    on_disk: str | None = Field(description="why files may still hold the name")
    not_reached: list[str] = Field(description="where to look yourself")


class Identities:
    """Pseudonymises old runs while this aggregator leads; forgets who is to be forgotten.

    `writer` runs what writes into the ledger, `keep_ms` is how long names are kept.
    """

    def __init__(
        self,
        ledger: Ledger,
        keep_ms: int,
        *,
        leads: Callable[[], bool],
        troubles: Troubles,
        writer: Executor,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._keep_ms = keep_ms
        self._leads = leads
        self._troubles = troubles
        self._writer = writer
        self._now_ms = now_ms
        self._expiry = Expiry(ledger)

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the task that does it; it runs until it is cancelled."""
        return [asyncio.create_task(self._run(), name="identities")]

    def findings(self) -> list[Finding]:
        """Tell where names are kept longer than they should be."""
        if why := self._troubles.why(_TROUBLE):
            fix = "names are kept longer than retention.identities; it is tried again"
            return [Finding("identities", State.FAILING, why, fix)]
        return []

    async def _run(self) -> None:
        while True:
            done = self._leads() and await self.expire()
            await asyncio.sleep(_ROUND_S if done else _AGAIN_S)

    async def expire(self) -> bool:
        """Go through all runs once; False if it could not be done."""
        loop = asyncio.get_running_loop()
        before_ms = self._now_ms() - self._keep_ms
        try:
            # Each piece waits its turn among commits.
            while await loop.run_in_executor(self._writer, self._expiry.piece, before_ms):
                pass
        except LeaseLostError:
            return False
        except LedgerError as error:
            self._troubles.failed(_TROUBLE, error)
            return False
        self._troubles.recovered(_TROUBLE)
        return True

    async def handle(self, request: web.Request) -> web.Response:
        """Forget a person and tell what was done."""
        asked = await posted(request, Forget)
        loop = asyncio.get_running_loop()
        work = partial(forget, self._ledger, asked.user, self._now_ms(), asked.cluster)
        done = await loop.run_in_executor(self._writer, work)
        request[DONE] = f"{done.runs} runs are of {done.pseudonym} now"
        return web.Response(
            body=_told(done).model_dump_json().encode(), content_type="application/json"
        )


def _told(done: Forgotten) -> ForgottenAnswer:
    return ForgottenAnswer(
        pseudonym=done.pseudonym,
        runs=done.runs,
        breaches=done.breaches,
        remaining=done.remaining,
        on_disk=done.on_disk or None,
        not_reached=list(_NOT_REACHED),
    )


def openapi() -> dict[str, Any]:
    """Return what posting does, for the OpenAPI document."""
    made = {"schema": ForgottenAnswer.model_json_schema(mode="serialization")}
    return {
        "post": {
            "summary": "Forget a person",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": Forget.model_json_schema()}},
            },
            "responses": {
                "200": {"description": "what was done", "content": {"application/json": made}},
                "default": problem_response(),
            },
        }
    }
