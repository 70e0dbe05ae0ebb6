"""One site for all tests of this folder: it takes half a minute to live."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.programs import free_port, until
from tests.grafana.engines import Prometheus, alertmanager, prometheus
from tests.grafana.site import Site

_RECORDED = "min(count_over_time(account:wattkeeper_account_energy_joules_total:max[1h])) >= 3"


@dataclass(slots=True)
class Pager:
    """Somebody who is called: what Alertmanager posted, by path."""

    port: int = field(default_factory=free_port)
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def alerts(self, path: str) -> dict[str, Any]:
        """Return the alerts that came there, by name."""
        return {
            alert["labels"]["alertname"]: alert
            for called, body in list(self.calls)
            if called == path
            for alert in body["alerts"]
        }


@dataclass(frozen=True, slots=True)
class Running:
    """The site when its fleet's time has come to the clock on the wall."""

    site: Site
    prometheus: Prometheus
    alertmanager_url: str
    pager: Pager


@pytest.fixture(scope="package")
def pager() -> Iterator[Pager]:
    """Answer webhooks."""
    pager = Pager()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            pager.calls.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the library's name
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", pager.port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield pager
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory, pager: Pager) -> Iterator[Running]:
    """Let a fleet live under a Prometheus, and keep all of it up."""
    folder = tmp_path_factory.mktemp("site")
    alerts_port = free_port()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def make() -> Site:
        return Site(folder)

    site = asyncio.run_coroutine_threadsafe(make(), loop).result(30)
    up = site.running()
    try:
        asyncio.run_coroutine_threadsafe(up.__aenter__(), loop).result(60)
        try:
            hook = f"http://127.0.0.1:{pager.port}"
            with (
                alertmanager(folder / "alertmanager", alerts_port, hook) as alertmanager_url,
                prometheus(folder / "prometheus", site.metrics_port, alerts_port) as engine,
            ):
                asyncio.run_coroutine_threadsafe(site.live(), loop).result(240)
                until("rules are recorded", lambda: engine.instant(_RECORDED) or None)
                yield Running(site, engine, alertmanager_url, pager)
        finally:
            asyncio.run_coroutine_threadsafe(up.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
