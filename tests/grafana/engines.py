"""Real Prometheus and Alertmanager with the configuration of `deploy/`, in a hurry."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.e2e.programs import fetch, free_port, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/prometheus"
INTERVAL = "200ms"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that scrapes and evaluates five times a second."""

    url: str

    def ask(self, path: str, **params: str) -> Any:
        """Return the data of an answer.

        Raises:
            AssertionError: Prometheus does not take the question; says why.

        """
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(params)}"
        try:
            return json.loads(fetch(url))["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{params}: {error.read().decode()}") from error

    def instant(self, expr: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return what an expression is now, by labels."""
        answer = self.ask("query", query=expr)
        if answer["resultType"] == "scalar":
            return {(): float(answer["result"][1])}
        return {
            tuple(sorted(row["metric"].items())): float(row["value"][1]) for row in answer["result"]
        }


def _write_rules(folder: Path) -> None:
    """Copy the rules; what they wait for minutes or hours for comes at once."""
    folder.mkdir()
    for file in (DEPLOY / "rules").glob("*.yml"):
        text = re.sub(r"(?m)^(\s+)interval: \w+$", rf"\1interval: {INTERVAL}", file.read_text())
        text = re.sub(r"(?m)^(\s+)for: \w+$", r"\1for: 1s", text)
        (folder / file.name).write_text(text)


@contextlib.contextmanager
def prometheus(folder: Path, aggregator_port: int, alertmanager_port: int) -> Iterator[Prometheus]:
    """Run it with `deploy/prometheus/prometheus.yml`; only addresses and intervals are others."""
    folder.mkdir()
    _write_rules(folder / "rules")
    text = (DEPLOY / "prometheus.yml").read_text()
    text = text.replace("localhost:9746", f"127.0.0.1:{aggregator_port}")
    text = text.replace("localhost:9093", f"127.0.0.1:{alertmanager_port}")
    config = yaml.safe_load(text)
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["scrape_configs"][0]["http_sd_configs"][0]["refresh_interval"] = "1s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        _found("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _running(command, f"{url}/-/ready", folder / "log"):
        yield Prometheus(url)


@contextlib.contextmanager
def alertmanager(folder: Path, port: int, webhook_url: str) -> Iterator[str]:
    """Run it with `deploy/prometheus/alertmanager.yml`; only address and waiting are others."""
    folder.mkdir()
    text = (DEPLOY / "alertmanager.yml").read_text().replace("http://localhost:8080", webhook_url)
    text = re.sub(r"group_wait: \w+", "group_wait: 1s", text)
    text = re.sub(r"group_interval: \w+", "group_interval: 1s", text)
    (folder / "alertmanager.yml").write_text(text)
    command = [
        _found("prometheus-alertmanager"), f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with _running(command, f"{url}/-/ready", folder / "log"):
        yield url


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@contextlib.contextmanager
def _running(command: list[str], ready_url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(fetch(ready_url, 2))
        except OSError:
            return False

    try:
        until(f"{command[0]} answers", ready)
        yield
    finally:
        process.kill()
        process.wait()
