"""An endpoint that asks: its parameters, its answer and its handling, in one place."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from wattkeeper.aggregator.problem import ProblemError


class Query(BaseModel):
    """Parameters of a request, from path and query string."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Q = TypeVar("Q", bound=Query)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q]):
    """`GET path`. `respond` runs in a thread and may take its time.

    `many`: it answers with a list of `answer`. `at_once`: it needs no thread, so that a probe is
    answered also while every thread has a long question.
    """

    path: str
    summary: str
    query: type[Q]
    answer: type[BaseModel]
    respond: Callable[[Q], BaseModel | Sequence[BaseModel]]
    many: bool = False
    at_once: bool = False

    def read(self, request: web.Request) -> Q:
        """Return the parameters of a request.

        Raises:
            ProblemError: a parameter that is unknown, doubled or wrong; names it.

        """
        values: dict[str, str] = dict(request.match_info)
        for name, value in request.query.items():
            if name in values:
                raise ProblemError(400, "bad-parameter", f"{name} is given twice", name[:80])
            values[name] = value
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

        def work(query: Q) -> bytes:
            answer = self.respond(query)
            if isinstance(answer, BaseModel):
                return answer.model_dump_json().encode()
            return b"[" + b",".join(item.model_dump_json().encode() for item in answer) + b"]"

        async def handle(request: web.Request) -> web.Response:
            query = self.read(request)
            if self.at_once:
                body = work(query)
            else:
                body = await asyncio.get_running_loop().run_in_executor(pool, work, query)
            return web.Response(body=body, content_type="application/json")

        return handle
