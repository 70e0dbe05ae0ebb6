"""Wattkeeper on the cluster: an agent per slurmd, one aggregator that asks Slurm, the commands."""

import csv
import json
import os
import subprocess
import sys
import urllib.error
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.programs import ROOT, Program, fetch, free_port, until
from tests.slurm.cluster import Cluster
from tests.slurm.files import CLUSTER
from tests.slurm.gpus import Gpus


class Metering:
    """The programs, each with its data below the cluster's folder."""

    def __init__(self, cluster: Cluster, gpus: Gpus, library: Path) -> None:
        self._cluster, self._gpus = cluster, gpus
        self._folder = cluster.folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("WATTKEEPER", "SLURM"))}
        self._environ = {
            **clean,
            "PYTHONPATH": str(ROOT / "daemon"),
            "LD_LIBRARY_PATH": str(library.parent),
        }
        self._sysfs = self._folder / "sys"
        (self._sysfs / "module/nvidia").mkdir(parents=True)
        self._ports = {node.name: free_port() for node in cluster.nodes}
        self.url = f"http://127.0.0.1:{free_port()}"
        self._programs: dict[str, Program] = {}

    def start(self) -> None:
        """Start everything, and wait until every node is metered."""
        self.start_aggregator()
        for node in self._ports:
            self.start_agent(node)
        for node in self._ports:
            until(f"{node} is metered", partial(self.ready, node))

    def start_aggregator(self, *more: str) -> None:
        """Start the aggregator: it asks Slurm every second and commits twice a second."""
        self._start("aggregator", [
            "aggregator", "--listen", self.url.removeprefix("http://"),
            "--data-dir", str(self._folder / "aggregator"), "--commit-interval", "500ms",
            "--metrics.identity", "user", "--slurm.cluster", CLUSTER, "--slurm.interval", "1s",
            "--slurm.bin", str(self._folder / "commands"),
            "--slurm.conf", self._cluster.environ["SLURM_CONF"], *more,
        ])  # fmt: skip

    def start_agent(self, node: str) -> None:
        """Start a node's agent, as it is configured by default but for shorter windows."""
        self._start(node, [
            "agent", "--cluster", CLUSTER, "--node", node,
            "--listen", f"127.0.0.1:{self._ports[node]}",
            "--data-dir", str(self._folder / "agents" / node),
            "--path.sysfs", str(self._sysfs), "--slurm.nodename", node,
            "--window", "1s", "--aggregator.url", self.url,
        ], FAKE_NVML_STATE=str(self._gpus.state(node)))  # fmt: skip

    def start_bystander(self, name: str) -> Program:
        """Start an agent that meters for nobody: only marks reach it."""
        return self._start(name, [
            "agent", "--node", name, "--listen", f"127.0.0.1:{free_port()}",
            "--data-dir", str(self._folder / "agents" / name),
            "--path.sysfs", str(self._sysfs), "--path.cgroupfs", str(self._sysfs),
        ])  # fmt: skip

    def kill(self, name: str) -> None:
        """End an agent (by its node) or the `aggregator` in the middle of whatever it does."""
        self._programs[name].kill()

    def ready(self, node: str) -> bool:
        """Tell whether a node's agent has journaled its first window: now it loses nothing."""
        program = self._programs[node]
        if program.process.poll() is not None:
            raise AssertionError(f"the agent of {node} has ended: {program.log.read_text()}")
        try:
            text = fetch(f"http://127.0.0.1:{self._ports[node]}/metrics")
        except (urllib.error.URLError, OSError):
            return False
        counted = 0.0
        for line in text.splitlines():
            if line.startswith(
                ("wattkeeper_journal_pending_windows", "wattkeeper_delivered_records_total")
            ):
                counted += float(line.rpartition(" ")[2])
        return counted >= 8

    def cli(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run a command against the aggregator to its end."""
        return subprocess.run(
            [sys.executable, "-m", "wattkeeper", *args, "--url", self.url],
            env=self._environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def ask(self, path: str) -> Any:
        """Return the aggregator's answer, None while there is none."""
        try:
            return json.loads(fetch(f"{self.url}{path}"))
        except (urllib.error.URLError, OSError):
            return None

    def metrics(self) -> str:
        """Return the aggregator's metrics page."""
        return fetch(f"{self.url}/metrics")

    def rows(self, *args: str) -> list[dict[str, str]]:
        """Return what a command prints as CSV, by column."""
        done = self.cli(*args, "--format", "csv")
        assert (done.returncode, done.stderr) == (0, "")
        return list(csv.DictReader(done.stdout.splitlines()))

    def close(self) -> None:
        """End whatever still runs."""
        for program in self._programs.values():
            if program.process.poll() is None:
                program.kill()

    def _start(self, name: str, args: Sequence[str], **environ: str) -> Program:
        log = self._folder / "log" / f"wattkeeper-{name}"
        program = self._programs[name] = Program(args, {**self._environ, **environ}, log)
        return program
