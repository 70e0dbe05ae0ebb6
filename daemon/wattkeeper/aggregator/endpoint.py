"""An endpoint that asks: its parameters, its answer and its handling, in one place."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_origin

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from wattkeeper.aggregator.access.gate import caller_of
from wattkeeper.aggregator.access.roles import Audience
from wattkeeper.aggregator.problem import ProblemError, too_slow
from wattkeeper.ledger.queries.scope import Scope


class Query(BaseModel):
    """Parameters of a request, from path and query string."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def lists(cls) -> set[str]:
        """Return the parameters that may be given several times."""
        fields = cls.model_fields.items()
        return {name for name, field in fields if get_origin(field.annotation) is tuple}


Q = TypeVar("Q", bound=Query)
T = TypeVar("T")
Answered = BaseModel | Sequence[BaseModel] | bytes


def alike(respond: Callable[[Q], Answered]) -> Callable[[Q, Scope | None], Answered]:
    """Return what answers everybody alike who may ask."""
    return lambda query, _: respond(query)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q]):
    """`GET path`. `respond` runs in a thread and may take its time.

    `who` may ask. `respond` is told whose jobs the answer may be about, None for everybody's.

    Bytes are JSON that is answered as it stands, of the form of `answer`.
    `many`: it answers with a list of `answer`. `at_once`: it needs no thread, so that a probe is
    answered also while every thread has a long question. `pool`: threads of its own; `limit_s`: how
    long its answer may take.
    """

    path: str
    summary: str
    query: type[Q]
    answer: type[BaseModel]
    respond: Callable[[Q, Scope | None], Answered]
    who: Audience = field(kw_only=True)
    many: bool = False
    at_once: bool = False
    pool: Executor | None = None
    limit_s: float | None = None

    def read(self, request: web.Request) -> Q:
        """Return the parameters of a request.

        Raises:
            ProblemError: a parameter that is unknown, doubled or wrong; names it.

        """
        values: dict[str, Any] = dict(request.match_info)
        for name in dict.fromkeys(request.query):
            given = request.query.getall(name)
            several = name in self.query.lists()
            if name in values or (len(given) > 1 and not several):
                raise ProblemError(400, "bad-parameter", f"{name[:80]} is given twice", name[:80])
            values[name] = given if several else given[0]
        return self.parse(values)

    def parse(self, values: Mapping[str, Any]) -> Q:
        """Return the parameters by their names.

        Raises:
            ProblemError: a parameter that is unknown or wrong; names it.

        """
        try:
            return self.query(**values)
        except ValidationError as error:
            raise self._explain(error.errors()[0]) from error

    def _explain(self, item: Mapping[str, Any]) -> ProblemError:
        name = str(item["loc"][0])[:80] if item["loc"] else ""
        if item["type"] == "extra_forbidden":
            known = ", ".join(sorted(self.query.model_fields)) or "none"
            detail = f"{name} is not a parameter of {self.path}; known: {known}"
            return ProblemError(400, "unknown-parameter", detail, name)
        if item["type"] == "missing":
            return ProblemError(400, "missing-parameter", f"{name} is missing", name)
        shown = str(item["input"])[:80]
        message = str(item["msg"]).removeprefix("Value error, ")
        return ProblemError(400, "bad-parameter", f"{name}={shown}: {message}", name)

    def handler(self, pool: Executor) -> Callable[[web.Request], Any]:
        """Return the aiohttp handler that answers in `pool`."""

        def work(query: Q, scope: Scope | None) -> bytes:
            answer = self.respond(query, scope)
            if isinstance(answer, bytes):
                return answer
            if isinstance(answer, BaseModel):
                return answer.model_dump_json().encode()
            return b"[" + b",".join(item.model_dump_json().encode() for item in answer) + b"]"

        async def handle(request: web.Request) -> web.Response:
            query, scope = self.read(request), caller_of(request).scope
            if self.at_once:
                body = work(query, scope)
            else:
                body = await self.in_time(pool, work, query, scope)
            return web.Response(body=body, content_type="application/json")

        return handle

    async def in_time(
        self, pool: Executor, work: Callable[[Q, Scope | None], T], query: Q, scope: Scope | None
    ) -> T:
        """Return what `work` finds in the endpoint's own threads, else in those of `pool`.

        Raises:
            ProblemError: it took too long.

        """
        answer = asyncio.get_running_loop().run_in_executor(self.pool or pool, work, query, scope)
        try:
            async with asyncio.timeout(self.limit_s):
                return await answer
        except TimeoutError as error:
            raise too_slow(self.limit_s or 0) from error
