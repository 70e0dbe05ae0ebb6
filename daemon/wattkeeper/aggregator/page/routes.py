"""The page over HTTP: routes, headers, and errors as people read them."""

import asyncio
import functools
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from jinja2 import Environment
from pydantic import Field

from wattkeeper.aggregator.access.gate import Gate, Handler, caller_of
from wattkeeper.aggregator.access.roles import ANYONE, OPERATORS, PUBLIC, USERS, Role
from wattkeeper.aggregator.api import Nothing
from wattkeeper.aggregator.endpoint import Endpoint, Query, alike
from wattkeeper.aggregator.openapi import page_item
from wattkeeper.aggregator.page.asking import Answers, Asker
from wattkeeper.aggregator.page.assets import Asset, read_all
from wattkeeper.aggregator.page.budgets_page import BudgetsQuery, see_budgets
from wattkeeper.aggregator.page.fleet_page import FleetQuery, NodeQuery, see_fleet, see_node
from wattkeeper.aggregator.page.health_page import HealthQuery, see_health
from wattkeeper.aggregator.page.jobs_page import JobPageQuery, JobsPageQuery, see_job, see_jobs
from wattkeeper.aggregator.page.report_page import see_file, see_report
from wattkeeper.aggregator.page.view import Page, View
from wattkeeper.aggregator.page.words import environment
from wattkeeper.aggregator.problem import CONTENT_TYPE, PRIVATE, ProblemError
from wattkeeper.aggregator.reporting import ReportQuery

STATIC = "/static/{name}"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FILE_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "script-src {scripts}; style-src {styles}"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ZIPPED_FROM = 1_000
"""Bytes from which on a page is compressed."""

PAGES: tuple[Page[Any], ...] = (
    Page("/", "The fleet at a glance", PUBLIC, FleetQuery, see_fleet),
    Page("/nodes/{cluster}/{node}", "One node", OPERATORS, NodeQuery, see_node),
    Page("/jobs", "Jobs, sorted and searched", USERS, JobsPageQuery, see_jobs),
    Page("/jobs/{cluster}/{id}", "One job with its trace", USERS, JobPageQuery, see_job),
    Page("/report", "Energy by group", USERS, ReportQuery, see_report),
    Page("/report.html", "The same as one file", USERS, ReportQuery, see_file),
    Page("/budgets", "How the budgets stand", USERS, BudgetsQuery, see_budgets),
    Page("/health", "How the metering is", OPERATORS, HealthQuery, see_health),
)

_PATHS = {page.path for page in PAGES}


@dataclass(frozen=True, slots=True)
class _Rendered:
    body: bytes
    zipped: bool
    etag: str
    policy: str


class _File(Query):
    """One file."""

    name: str = Field(description="its name")


class Pages:
    """The page of an aggregator with these endpoints. `pool` finds answers, `renderer` renders."""

    def __init__(
        self, endpoints: Iterable[Endpoint[Any]], pool: Executor, renderer: Executor
    ) -> None:
        self._answers = Answers(endpoints, pool)
        self._renderer = renderer

    def add_to(self, app: web.Application, gate: Gate) -> None:
        """Serve the page."""
        for page in PAGES:
            gate.add(app, "GET", page.path, self._handler(page), page.who)
        gate.add(app, "GET", STATIC, self._static, ANYONE)
        app.on_cleanup.append(self._close)

    @web.middleware
    async def problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell what is wrong with a page as people read it."""
        try:
            return await handler(request)
        except ProblemError as problem:
            resource = request.match_info.route.resource
            of_page = resource is not None and resource.canonical in _PATHS
            if not of_page or CONTENT_TYPE in request.headers.get("Accept", ""):
                raise
            return await self._answer(request, _told(problem), problem.status)

    @staticmethod
    def documented() -> dict[str, dict[str, Any]]:
        """Return what the OpenAPI document says of the page, by path."""
        described = {page.path: page_item(page.path, page.summary, page.query) for page in PAGES}
        return described | {STATIC: page_item(STATIC, "A file of the page", _File)}

    async def _close(self, _: web.Application) -> None:
        await self._answers.close()

    def _handler(self, page: Page[Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        said = alike(lambda _: Nothing())
        read = Endpoint(page.path, page.summary, page.query, Nothing, said, who=page.who).read

        async def handle(request: web.Request) -> web.Response:
            asker = Asker(self._answers, caller_of(request))
            return await self._answer(request, await page.see(asker, read(request)), 200)

        return handle

    async def _answer(self, request: web.Request, view: View, status: int) -> web.Response:
        zips = "gzip" in request.headers.get("Accept-Encoding", "")
        role = caller_of(request).role
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._renderer, _render, view, role, zips)
        headers = {
            **_HEADERS,
            "Content-Security-Policy": made.policy,
            "Cache-Control": PRIVATE,
            "ETag": made.etag,
            "Vary": "Accept-Encoding",
        }
        if status == 200 and request.headers.get("If-None-Match") == made.etag:
            return web.Response(status=304, headers=headers)
        if made.zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            body=made.body, status=status, headers=headers,
            content_type="text/html", charset="utf-8",
        )  # fmt: skip

    async def _static(self, request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        assets = await loop.run_in_executor(self._renderer, _assets)
        asset = assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound
        # A page names the version that it wants: that one never changes.
        named = request.query.get("v") == asset.mark
        etag = f'"{asset.mark}"'
        headers = {
            **_HEADERS,
            "Cache-Control": "public, max-age=31536000, immutable" if named else "no-cache",
            "ETag": etag,
            "Vary": "Accept-Encoding",
        }
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        body = asset.body
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"], body = "gzip", asset.zipped
        return web.Response(
            body=body, headers=headers, content_type=asset.content_type, charset="utf-8"
        )


def _told(problem: ProblemError) -> View:
    return View("problem.html", lambda: {"here": "", "problem": problem})


@functools.cache
def _assets() -> Mapping[str, Asset]:
    return read_all()


@functools.cache
def _templates() -> Environment:
    made = environment()
    made.globals["assets"] = _assets()
    made.globals["file_policy"] = _file_policy()
    return made


def _file_policy() -> str:
    """Return the policy of a page in one file: nothing but what is written into it."""
    by_kind = {
        kind: " ".join(asset.digest for name, asset in _assets().items() if name.endswith(kind))
        for kind in (".js", ".css")
    }
    return _FILE_POLICY.format(scripts=by_kind[".js"], styles=by_kind[".css"])


def _render(view: View, role: Role, zips: bool) -> _Rendered:
    """Return a page as it is sent to somebody who is led to no page that is closed. Blocks."""
    templates = _templates()
    may = {page.path for page in PAGES if role in page.who}
    text = templates.get_template(view.template).render({**view.values(), "may": may})
    body = text.encode("utf-8", "replace")
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'
    policy = _file_policy() if view.template == "report_file.html" else POLICY
    if zips and len(body) >= _ZIPPED_FROM:
        return _Rendered(gzip.compress(body, 5, mtime=0), True, etag, policy)
    return _Rendered(body, False, etag, policy)
