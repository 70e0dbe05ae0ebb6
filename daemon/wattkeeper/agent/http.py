"""The agent's HTTP side: `/metrics`, rendered once per sample however often it is scraped."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from wattkeeper.agent.exposition import CONTENT_TYPE, Exposition
from wattkeeper.agent.runtime import Agent


class MetricsCache:
    """The rendered exposition, renewed after each tick on the first request."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._exposition = Exposition(agent)
        self._text = b""
        self._tick = -1
        self._lock = asyncio.Lock()

    async def text(self) -> bytes:
        """Return the exposition as of the last tick."""
        async with self._lock:
            if self._tick != self._agent.ticks:
                self._tick = self._agent.ticks
                # A few milliseconds for a node's few hundred series: cheaper than a thread.
                self._text = self._exposition.render()
            return self._text


def application(agent: Agent, middlewares: Sequence[Middleware] = ()) -> web.Application:
    """Return the agent's web application."""
    cache = MetricsCache(agent)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await cache.text(), headers={"Content-Type": CONTENT_TYPE})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "node": agent.settings.node})

    async def root(_: web.Request) -> web.Response:
        text = f"Wattkeeper agent on {agent.settings.node}: see /metrics\n"
        return web.Response(text=text)

    app = web.Application(middlewares=middlewares, client_max_size=1024)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", health)
    app.router.add_get("/", root)
    return app
