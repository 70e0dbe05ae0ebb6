"""Prometheus and VictoriaMetrics with data folders of their own: fed, flushed, weighed, asked."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from benchmarks.processes import Program, await_page, fetch, free_port, running, version
from wattkeeper.telemetry.remote_wire import HEADERS

Lines = Sequence[Sequence[float]]
"""Values of series, each oldest first."""
_PATIENCE_S = 300
_QUERY = "/api/v1/query"
_FED = "fed"


@dataclass(frozen=True, slots=True)
class Kind:
    """A program, and how it is started in a folder on a port.

    `counter`: how its `/metrics` count the values that it has taken. `kept`: where below its folder
    they end up. `settle`: makes it write all it has.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    counter: str
    kept: Sequence[str]
    settle: Callable[["Engine"], None]


class Engine:
    """A kind of program in a folder; stopped and started as often as needed."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.version = version("dpkg-query", "-W", "-f", "${Version}", kind.name)
        folder.mkdir(exist_ok=True)
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        """Start it and wait until it answers."""
        port = free_port()
        log = self.folder.with_suffix(".log")
        command = self.kind.command(self.folder, port)
        self.url = f"http://127.0.0.1:{port}"
        self.program: Program = self._stack.enter_context(running(self.kind.name, command, log))
        await_page(self.program, f"{self.url}{_QUERY}?query=1", log)

    def stop(self) -> None:
        """Let it end as systemd does."""
        self._stack.close()

    def take(self, body: bytes) -> None:
        """Give it a remote write request.

        Raises:
            SystemExit: it refused.

        """
        request = Request(f"{self.url}/api/v1/write", body, HEADERS)
        try:
            with urlopen(request, timeout=_PATIENCE_S):
                pass
        except HTTPError as error:
            raise SystemExit(f"{self.kind.name}: {error}: {error.read()[:500]!r}") from error

    def settle(self) -> None:
        """Have everything written as it stays."""
        self.kind.settle(self)

    def taken(self) -> int:
        """Return how many values it says it has taken."""
        return int(self.counted(self.kind.counter))

    def counted(self, *begins: str) -> float:
        """Return the sum of those of its own metrics that begin so."""
        lines = fetch(f"{self.url}/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(begins))

    def size(self) -> int:
        """Return what it takes up on disk, in bytes."""
        return sum(size_of(self.folder / name) for name in self.kind.kept)

    def peak(self) -> int:
        """Return the most memory it has had since its start, in bytes."""
        status = Path(f"/proc/{self.program.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def ask(self, text: str, since_ms: int, until_ms: int, step_ms: int) -> tuple[float, Lines]:
        """Return the seconds until the answer was here, and the answer: steps that end then.

        Raises:
            SystemExit: there was none.

        """
        form = {
            "query": text,
            "start": (since_ms + step_ms) / 1000,
            "end": until_ms / 1000,
            "step": f"{step_ms}ms",
            "nocache": 1,
        }
        began = time.perf_counter()
        try:
            with urlopen(
                f"{self.url}{_QUERY}_range?{urlencode(form)}", timeout=_PATIENCE_S
            ) as page:
                body = page.read()
        except HTTPError as error:
            raise SystemExit(f"{self.kind.name}: {error}: {error.read()[:500]!r}") from error
        took = time.perf_counter() - began
        result = json.loads(body)["data"]["result"]
        return took, [[float(value) for _, value in one["values"]] for one in result]


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def chill(folder: Path) -> None:
    """Drop a folder's files from the page cache; nobody may have them open."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _merge(engine: Engine) -> None:
    """Flush what VictoriaMetrics has in memory, and merge its parts into one."""
    fetch(f"{engine.url}/internal/force_flush", _PATIENCE_S)
    fetch(f"{engine.url}/internal/force_merge", _PATIENCE_S)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        time.sleep(1)
        if not engine.counted("vm_active_force_merges", "vm_active_merges"):
            return
    raise SystemExit("VictoriaMetrics does not come to an end with merging")


def _snapshot(engine: Engine) -> None:
    """Have Prometheus write its head as a block, and go on with the blocks alone."""
    url = f"{engine.url}/api/v1/admin/tsdb/snapshot"
    with urlopen(Request(url, method="POST"), timeout=_PATIENCE_S) as answer:
        name = json.loads(answer.read())["data"]["name"]
    (engine.folder / _FED / "snapshots" / name).rename(engine.folder / "blocks")


def _prometheus(folder: Path, port: int) -> list[str]:
    config = folder / "prometheus.yml"
    config.touch()
    blocks = folder / "blocks"
    return [
        "prometheus", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={blocks if blocks.exists() else folder / _FED}",
        "--storage.tsdb.retention.time=100y", "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
    ]  # fmt: skip


KINDS = (
    Kind(
        "victoria-metrics",
        lambda folder, port: [
            "victoria-metrics", f"-storageDataPath={folder}", "-retentionPeriod=100y",
            f"-httpListenAddr=127.0.0.1:{port}",
        ],
        'vm_rows_inserted_total{type="promremotewrite"}', ("data", "indexdb"), _merge,
    ),
    Kind(
        "prometheus", _prometheus, "prometheus_tsdb_head_samples_appended_total", ("blocks",),
        _snapshot,
    ),
)  # fmt: skip
