"""The HTTP side of the aggregator: routes, and errors as problem+json."""

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator import closed, identities, windows
from wattkeeper.aggregator.access.gate import Gate
from wattkeeper.aggregator.access.roles import AGENTS, CLOSERS, OPERATORS, PUBLIC, SCRAPERS
from wattkeeper.aggregator.auditing import Auditing
from wattkeeper.aggregator.endpoint import Endpoint
from wattkeeper.aggregator.limiting import Limiting
from wattkeeper.aggregator.metrics import Exporter
from wattkeeper.aggregator.openapi import document
from wattkeeper.aggregator.page.routes import Pages
from wattkeeper.aggregator.problem import ProblemError, ledger_unavailable, respond
from wattkeeper.aggregator.threads import Threads
from wattkeeper.delivery.wire import MAX_BODY
from wattkeeper.ledger.store import LedgerError
from wattkeeper.listening.connection import SlowBodyError
from wattkeeper.listening.keeper import Keeper

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as problem+json."""
    try:
        if "\0" in request.path or "\0" in "".join(request.query.values()):
            raise ProblemError(400, "bad-parameter", "a NUL is in the question")
        return await handler(request)
    except ProblemError as problem:
        return respond(problem)
    except web.HTTPRequestEntityTooLarge:
        detail = f"a delivery has at most {MAX_BODY} bytes; send fewer records at once"
        return respond(ProblemError(413, "too-large", detail, "body"))
    except SlowBodyError as error:
        return respond(ProblemError(408, "too-slow", str(error), "body"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return respond(ProblemError(405, "method-not-allowed", f"use {allowed} {request.path}"))
    except web.HTTPNotFound:
        detail = f"{request.path[:80]} is not here; /openapi.json lists what is"
        return respond(ProblemError(404, "not-found", detail))
    except (SQLAlchemyError, LedgerError) as error:
        return respond(ledger_unavailable(request.path, error))


def build(
    endpoints: Sequence[Endpoint[Any]],
    deliveries: windows.Deliveries,
    statements: closed.Closed,
    people: identities.Identities,
    auditing: Auditing,
    exporter: Exporter,
    gate: Gate,
    threads: Threads,
    keeper: Keeper,
    limiting: Limiting,
) -> web.Application:
    """Return the application. `keeper` gives its requests their time, `limiting` their number.

    `gate` decides who may ask.
    """
    pages = Pages(endpoints, threads.ask, threads.page)
    middlewares = [
        keeper.hurry,
        problems,
        deliveries.counted,
        auditing.watch,
        pages.problems,
        gate.decide,
        limiting.questions,
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    for endpoint in endpoints:
        gate.add(app, "GET", endpoint.path, endpoint.handler(threads.ask), endpoint.who)
    gate.add(app, "POST", windows.PATH, deliveries.handle, AGENTS)
    gate.add(app, "POST", closed.PATH, statements.handle, CLOSERS)
    gate.add(app, "POST", identities.PATH, people.handle, OPERATORS)
    pages.add_to(app, gate)

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        loop = asyncio.get_running_loop()
        body, content_type = await loop.run_in_executor(threads.scrape, exporter.render, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    gate.add(app, "GET", "/metrics", metrics, SCRAPERS)
    gate.add(app, "GET", "/openapi.json", _openapi(endpoints, threads.page), PUBLIC)
    return app


def _openapi(endpoints: Sequence[Endpoint[Any]], renderer: Executor) -> Handler:
    """Return the handler of the document: it is made for the first who asks, in 0.1 s and more."""

    @functools.cache
    def described() -> bytes:
        found = document(
            endpoints,
            {
                windows.PATH: windows.openapi(),
                closed.PATH: closed.openapi(),
                identities.PATH: identities.openapi(),
                "/metrics": _plain("Metrics for Prometheus", "text/plain"),
                "/openapi.json": _plain("This document", "application/json"),
                **Pages.documented(),
            },
        )
        return json.dumps(found).encode()

    async def handle(_: web.Request) -> web.Response:
        body = await asyncio.get_running_loop().run_in_executor(renderer, described)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    return handle


def _plain(summary: str, content_type: str) -> dict[str, Any]:
    content: dict[str, Any] = {content_type: {"schema": {}}}
    return {
        "get": {
            "summary": summary,
            "responses": {"200": {"description": summary, "content": content}},
        }
    }
