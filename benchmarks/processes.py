"""Programs under measurement: what they use, as the kernel counts it."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(url: str, timeout_s: float = 30) -> bytes:
    """Return the body of a page."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
    return body


def machine() -> str:
    """Say on what this ran: class, load and versions, no name."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"load average at the start {load}"
    )


def version(*command: str) -> str:
    """Return the first number with dots in what a program says of its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (
        (said.stdout + said.stderr).replace(",", " ").replace("+", " ").replace("-", " ").split()
    )
    return next((w.lstrip("v") for w in words if w.lstrip("v")[:1].isdigit() and "." in w), "?")


@dataclass(slots=True)
class Use:
    """What a program has used up to an instant: CPU seconds, and bytes of memory now."""

    cpu_s: float
    pss: int
    rss: int


class Program:
    """A running program with all the processes that it started."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.process = process

    def use(self) -> Use:
        """Read CPU time and memory of all its processes from /proc."""
        cpu_s, pss, rss = 0.0, 0, 0
        for pid in self._pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # utime, stime, and those of children that ended: fields 14 to 17 of stat
                cpu_s += sum(map(int, fields[11:15])) * _TICK_S
                rss += int(fields[21]) * _PAGE
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
        return Use(cpu_s, pss, rss)

    def _pids(self) -> list[int]:
        found, new = [], [self.process.pid]
        while new:
            found += new
            new = [child for pid in new for child in _children(pid)]
        return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += map(int, task.read_text().split())
    return children


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a program until the block ends; its output goes to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(command), stdout=out, stderr=out, env={**os.environ, **(environ or {})}, cwd=ROOT
        )
    try:
        yield Program(name, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wattkeeper(*args: str) -> list[str]:
    """Return the command line of a `wattkeeper` command of this checkout."""
    return [sys.executable, "-m", "wattkeeper", *args]


def await_page(program: Program, url: str, log: Path, deadline_s: float = 60) -> None:
    """Wait until a program answers.

    Raises:
        SystemExit: it ended, or does not answer in time; says where its output is.

    """
    end = time.monotonic() + deadline_s
    while time.monotonic() < end and program.process.poll() is None:
        try:
            fetch(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{program.name} does not answer at {url}; its output:\n{log.read_text()}")


def installed(program: str) -> bool:
    """Tell whether a peer is here; say so if it is not, so that a missing row is no surprise."""
    if shutil.which(program):
        return True
    print(f"{program}: not installed, left out (apt-get install {program})")
    return False
