"""Real engines on free loopback ports, with data folders of their own."""

import contextlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_READY_S = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine that takes remote write."""

    url: str
    write_url: str
    flush_url: str | None = None

    def flush(self) -> None:
        """Let questions see what was written."""
        if self.flush_url is not None:
            _fetch(self.flush_url)


@contextlib.contextmanager
def victoria_metrics(folder: Path, *args: str) -> Iterator[Engine]:
    """Run VictoriaMetrics that keeps samples of any age, each once."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        _found("victoria-metrics"), f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder / 'data'}", "-retentionPeriod=100y", "-memory.allowedBytes=64MB",
        *(args or ("-dedup.minScrapeInterval=1ms",)),
    ]  # fmt: skip
    with _running(command, f"{url}/health", folder / "engine.log"):
        yield Engine(url, f"{url}/api/v1/write", f"{url}/internal/force_flush")


@contextlib.contextmanager
def prometheus(folder: Path, out_of_order: str = "") -> Iterator[Engine]:
    """Run Prometheus with its receiver; it takes no old samples unless told how old ones."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    window = f"\nstorage: {{tsdb: {{out_of_order_time_window: {out_of_order}}}}}"
    (folder / "prometheus.yml").write_text(f"global: {{}}{window if out_of_order else ''}\n")
    command = [
        _found("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver", "--log.level=error",
    ]  # fmt: skip
    with _running(command, f"{url}/-/ready", folder / "engine.log"):
        yield Engine(url, f"{url}/api/v1/write")


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(command: Sequence[str], ready_url: str, log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _await(ready_url, lambda: process.poll() is None, log)
        yield
    finally:
        process.kill()
        process.wait()


def _await(url: str, alive: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end and alive():
        try:
            _fetch(url)
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the engine does not answer; its log:\n{log.read_text()}")


def _fetch(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()
