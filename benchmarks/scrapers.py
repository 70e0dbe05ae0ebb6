"""Prometheus and VictoriaMetrics taking in as many values per node by scraping."""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import (
    ROOT,
    await_page,
    fetch,
    free_port,
    installed,
    running,
    version,
)

INTERVAL_S = 10
_WARM_UP_S = 25
_MEASURE_S = 60
_VARIANTS = 8


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that scrapes, its command line for a folder and a port.

    `counter`: how its own `/metrics` counts the values it has taken in.
    """

    name: str
    counter: str
    command: Callable[[Path, int], list[str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a peer used to take in `values` values of `series` series."""

    name: str
    version: str
    values: int
    series: int
    seconds: float
    cpu_s: float
    rss: int


PEERS = (
    Peer(
        "prometheus",
        "prometheus_tsdb_head_samples_appended_total",
        lambda folder, port: [
            "prometheus", f"--config.file={folder / 'scrape.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ],
    ),
    Peer(
        "victoria-metrics",
        'vm_rows_inserted_total{type="promscrape"}',
        lambda folder, port: [
            "victoria-metrics", f"-promscrape.config={folder / 'scrape.yml'}",
            f"-storageDataPath={folder / 'data'}", f"-httpListenAddr=127.0.0.1:{port}",
        ],
    ),
)  # fmt: skip


def measure(peer: Peer, nodes: int, series: int) -> Scrape | None:
    """Let a peer scrape `nodes` targets of `series` series each; None if it is not installed."""
    if not installed(peer.name):
        return None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, targets_port = free_port(), free_port()
        targets = [sys.executable, "-m", "benchmarks.scrapers", str(targets_port), str(series)]
        log = folder / "targets.log"
        environ = {"PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT}"}
        server = stack.enter_context(running("targets", targets, log, environ))
        await_page(server, f"http://127.0.0.1:{targets_port}/n/0", log)
        _configure(folder, targets_port, nodes)
        log = folder / "peer.log"
        program = stack.enter_context(running(peer.name, peer.command(folder, port), log))
        await_page(program, f"http://127.0.0.1:{port}/metrics", log)
        time.sleep(_WARM_UP_S)
        url = f"http://127.0.0.1:{port}/metrics"
        before, began, taken = program.use(), time.monotonic(), _counted(peer, url)
        time.sleep(_MEASURE_S)
        after, seconds, scraped = (
            program.use(),
            time.monotonic() - began,
            _counted(peer, url) - taken,
        )
    found = version("dpkg-query", "-W", "-f", "${Version}", peer.name)
    cpu_s = after.cpu_s - before.cpu_s
    return Scrape(peer.name, found, scraped, nodes * series, seconds, cpu_s, after.rss)


def _counted(peer: Peer, url: str) -> int:
    """Return how many values a peer says that it has taken in."""
    lines = fetch(url).decode().splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith(peer.counter)]
    if not values:
        raise SystemExit(f"{peer.name} shows no {peer.counter} at {url}")
    return int(sum(values))


def _configure(folder: Path, port: int, nodes: int) -> None:
    target = f"127.0.0.1:{port}"
    groups = [
        {"targets": [target], "labels": {"__metrics_path__": f"/n/{i}", "node": f"node{i:05}"}}
        for i in range(nodes)
    ]
    # JSON is YAML.
    config = {
        "global": {"scrape_interval": f"{INTERVAL_S}s", "scrape_timeout": f"{INTERVAL_S}s"},
        "scrape_configs": [{"job_name": "fleet", "static_configs": groups}],
    }
    (folder / "scrape.yml").write_text(json.dumps(config))


def _exposition(series: int, variant: int) -> bytes:
    """Return a node's text with so many series; values change from scrape to scrape."""
    lines = [
        f'wattkeeper_meter_value{{meter="gpu/GPU-{i:08x}-0000-4000-8000-c0ffee000000",'
        f'kind="k{i % 17}"}} {1e6 + i * 37.5 + variant * 1234.625}'
        for i in range(series)
    ]
    return "\n".join(["# TYPE wattkeeper_meter_value gauge", *lines, ""]).encode()


class _Target(asyncio.Protocol):
    """Answers every request with the next variant, whichever node is asked for."""

    answers: tuple[bytes, ...] = ()
    _asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            _Target._asked += 1
            self._transport.write(self.answers[self._asked // 1000 % len(self.answers)])


async def _serve(port: int, series: int) -> None:
    answers = []
    for variant in range(_VARIANTS):
        body = _exposition(series, variant)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        answers.append(head.encode() + body)
    _Target.answers = tuple(answers)
    server = await asyncio.get_running_loop().create_server(_Target, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
