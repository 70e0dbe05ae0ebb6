"""From GPUs that draw too much to a webhook: the aggregator's own budgets, a real Alertmanager."""

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import Program, Site, fetch, free_port, until
from tests.fake_nvml.library import FakeNvml

pytestmark = [pytest.mark.compiler, pytest.mark.engines, pytest.mark.long]

_CONFIG = """
global: {{resolve_timeout: 1m}}
route: {{receiver: test, group_by: [budget], group_wait: 0s, group_interval: 1s}}
receivers:
  - name: test
    webhook_configs: [{{url: "{url}"}}]
"""
_SETTINGS = """
[groups.rack]
r12 = ["n[1-9]"]
[budgets.site]
watts = "5kW"
[budgets.rack12]
watts = "700W"
group = "rack=r12"
inside = "site"
raise_after = "0s"
clear_after = "0s"
[alerts]
via = "alertmanager"
url = "{url}"
"""


class Webhook:
    """A receiver of Alertmanager's notifications."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                webhook.bodies.append(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def alerts(self, status: str) -> list[Any]:
        """Return what it was told of a budget that was exceeded."""
        return [
            alert
            for body in self.bodies
            for alert in body["alerts"]
            if alert["status"] == status
            and alert["labels"]["alertname"] == "WattkeeperPowerBudgetExceeded"
        ]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Run a receiver."""
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def alertmanager(tmp_path: Path, webhook: Webhook) -> Iterator[str]:
    """Run Alertmanager; return its address."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        pytest.skip("needs Alertmanager (the distribution's prometheus-alertmanager package)")
    config, port = tmp_path / "alertmanager.yml", free_port()
    config.write_text(_CONFIG.format(url=webhook.url))
    with (tmp_path / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.path={tmp_path / 'alerts'}",
             f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
            stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until("Alertmanager is ready", lambda: _answers(f"{url}/-/ready"))
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(fetch(url))
    return False


def start(site: Site, url: str) -> Program:
    """Start an aggregator with a budget of 700 W."""
    config = site.folder / "aggregator.toml"
    config.write_text(_SETTINGS.format(url=url))
    return site.aggregator("--config", str(config), "--telemetry.url", "none")


def test_from_a_gpu_to_a_webhook(
    site: Site, fake: FakeNvml, alertmanager: str, webhook: Webhook
) -> None:
    """It fires once, over a restart too, says who draws most, and is resolved when power falls."""
    fake.set_count(2)
    for number in range(2):
        fake.gpu(number).wave(300)
    aggregator = start(site, alertmanager)
    site.agent("--cluster", "test")
    until("the agent is up", site.samples)
    site.mark("start", "4711", "0,1")

    def state() -> Any:
        answer = site.ask("/v1/budgets?name=rack12")
        return answer and answer["budgets"][0]

    until("power is within the budget", lambda: (state() or {}).get("watts") == 600)
    assert state()["state"] == "ok"
    assert site.cli("budgets", "--url", site.aggregator_url).returncode == 0
    fake.gpu(0).load(250, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    (fired,) = until("the webhook hears of it", lambda: webhook.alerts("firing") or None)
    assert fired["labels"] == {
        "alertname": "WattkeeperPowerBudgetExceeded", "budget": "rack12", "kind": "watts",
        "level": "hard", "severity": "page", "part": "power",
    }  # fmt: skip
    assert "Budget rack12 has reached" in fired["annotations"]["summary"]
    assert "job 4711" in fired["annotations"]["description"]
    done = site.cli("budgets", "--url", site.aggregator_url)
    assert (done.returncode, "EXCEEDED" in done.stdout) == (1, True)

    assert aggregator.stop() == 0
    fake.gpu(0).load(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    start(site, alertmanager)
    (resolved, *_) = until("it hears of the end", lambda: webhook.alerts("resolved") or None)
    assert resolved["fingerprint"] == fired["fingerprint"]
    assert resolved["startsAt"] == fired["startsAt"]
    assert {one["startsAt"] for one in webhook.alerts("firing")} == {fired["startsAt"]}
