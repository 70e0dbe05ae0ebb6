"""Starts the real programs on free ports and asks them questions."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, ask: Callable[[], T | None], deadline_s: float = 40.0) -> T:
    """Ask until the answer is neither None nor False, and return it."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {deadline_s:.0f} s: {what}")


def fetch(url: str, timeout_s: float = 10.0) -> str:
    """Return the body of a page.

    Raises:
        OSError: nobody answers.

    """
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
    return body.decode()


class Program:
    """One `wattkeeper` command that runs until it is stopped; its output goes to `log`."""

    def __init__(
        self,
        args: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        python: Path = Path(sys.executable),
    ) -> None:
        self.log = log
        with log.open("a") as out:
            self.process = subprocess.Popen(
                [python, "-m", "wattkeeper", *args], env=environ, stdout=out, stderr=out
            )

    def stop(self, deadline_s: float = 20.0) -> int:
        """Ask it to end, as systemd does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()
        self.process.wait()


def history(folder: Path) -> list[tuple[str, int, int]]:
    """Return meter, start and energy of every new row of a history that nobody has open."""
    path = folder / "telemetry/telemetry.duckdb"
    with contextlib.closing(duckdb.connect(path, read_only=True)) as connection:
        return connection.execute(
            "SELECT meter, start_ms, energy_uj FROM hot JOIN place USING (place)"
        ).fetchall()


class Site:
    """A node and a centre in one folder: ports, data folders, kernel trees, and the programs.

    The fake's library is found through `LD_LIBRARY_PATH`, so nothing of it is ours.
    """

    def __init__(self, folder: Path, library: Path, state: Path, node: str = "n1") -> None:
        self.folder = folder
        self.node = node
        self.agent_port, self.aggregator_port = free_port(), free_port()
        self.agent_url = f"http://127.0.0.1:{self.agent_port}"
        self.aggregator_url = f"http://127.0.0.1:{self.aggregator_port}"
        self.agent_dir, self.aggregator_dir = folder / "agent", folder / "aggregator"
        self.sysfs, self.cgroupfs = folder / "sys", folder / "cgroup"
        (self.sysfs / "module/nvidia").mkdir(parents=True)
        self.cgroupfs.mkdir()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("WATTKEEPER", "SLURM"))}
        self.environ = {
            **clean,
            "PYTHONPATH": str(ROOT / "daemon"),
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML_STATE": str(state),
        }
        self._started: list[Program] = []

    def agent(self, *more: str, delivers: bool = True) -> Program:
        """Start the agent: samples of 100 ms, windows of 1 s."""
        args = [
            "agent", "--node", self.node, "--listen", f"127.0.0.1:{self.agent_port}",
            "--data-dir", str(self.agent_dir), "--path.sysfs", str(self.sysfs),
            "--path.cgroupfs", str(self.cgroupfs), "--sample-interval", "100ms", "--window", "1s",
        ]  # fmt: skip
        if delivers:
            args += ["--aggregator.url", self.aggregator_url]
        return self.start([*args, *more])

    def aggregator(self, *more: str) -> Program:
        """Start the aggregator, committing twice a second."""
        return self.start([
            "aggregator", "--listen", f"127.0.0.1:{self.aggregator_port}",
            "--data-dir", str(self.aggregator_dir), "--commit-interval", "500ms", *more,
        ])  # fmt: skip

    def start(self, args: Sequence[str]) -> Program:
        """Start a program that is ended with the test if it still runs."""
        program = Program(args, self.environ, self.folder / f"{args[0]}.log")
        self._started.append(program)
        return program

    def cli(self, *args: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "wattkeeper", *args],
            env={**self.environ, **environ},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def mark(self, kind: str, job: str, gpus: str) -> None:
        """Say what Slurm's prolog (`start`) or epilog (`end`) says."""
        done = self.cli(
            "mark", kind, "--data-dir", str(self.agent_dir),
            SLURM_JOB_ID=job, SLURM_JOB_GPUS=gpus, SLURM_JOB_USER="ada", SLURM_JOB_UID="1000",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")

    def samples(self, timeout_s: float = 10.0) -> dict[str, float] | None:
        """Return what the agent exposes, by series; None while it does not answer."""
        try:
            lines = fetch(f"{self.agent_url}/metrics", timeout_s).splitlines()
        except (urllib.error.URLError, OSError):
            return None
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {series: float(value) for series, _, value in pairs}

    def energy_uj(self, uuid: str) -> int | None:
        """Return the microjoules of a GPU that the agent exposes, None if it does not yet."""
        samples = self.samples() or {}
        joules = samples.get(
            f'wattkeeper_gpu_energy_joules_total{{node="{self.node}",uuid="{uuid}"}}'
        )
        return None if joules is None else round(joules * 1e6)

    def state(self, subject: str) -> str | None:
        """Return the state that the agent gives for one of its sources."""
        for series, value in (self.samples() or {}).items():
            if value == 1 and f'source="{subject}",state="' in series:
                return series.partition('state="')[2].rstrip('"}')
        return None

    def ask(self, path: str) -> Any:
        """Return the aggregator's answer, None while there is none."""
        try:
            return json.loads(fetch(f"{self.aggregator_url}{path}"))
        except (urllib.error.URLError, OSError):
            return None

    def measured_uj(self) -> dict[str, int]:
        """Return what the ledger says that each meter counted."""
        answer = self.ask("/v1/balance") or {"meters": []}
        return {meter["meter"]: int(meter["measured_uj"]) for meter in answer["meters"]}

    def await_first_window(self, uuids: Sequence[str]) -> None:
        """Wait until the agent's first window is journaled: from then on nothing may be lost."""

        def journaled() -> bool:
            samples = self.samples() or {}
            done = samples.get(f'wattkeeper_journal_pending_windows{{node="{self.node}"}}', 0)
            done += samples.get(f'wattkeeper_delivered_records_total{{node="{self.node}"}}', 0)
            return done >= 2 * len(uuids)

        until("first windows in the journal", journaled)

    def await_records(self, more: int) -> None:
        """Wait until the aggregator has taken so many more records of the agent."""

        def taken() -> float:
            return (self.samples() or {}).get(
                f'wattkeeper_delivered_records_total{{node="{self.node}"}}', 0
            )

        wanted = taken() + more
        until("more records are taken", lambda: taken() >= wanted)

    def close(self) -> None:
        """End whatever still runs."""
        for program in self._started:
            if program.process.poll() is None:
                program.kill()
