"""What a fleet costs the aggregator, beside Prometheus and VictoriaMetrics."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import scrapers
from benchmarks.asking import Asker
from benchmarks.fleet import METERS, WINDOW_MS, Fleet
from benchmarks.processes import ROOT, Program, Use, await_page, fetch, free_port, machine, running


@dataclass(slots=True)
class Load:
    """One run of the aggregator: what was delivered, and what it used meanwhile."""

    nodes: int
    holders: int
    outcome: dict[str, Any]
    cpu_s: float
    seconds: float
    memory: list[Use] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    collections: list[float] = field(default_factory=list)
    disk: int = 0
    refused_records: int = 0
    asker: Asker | None = None

    @property
    def sustained(self) -> bool:
        """Whether every delivery was taken before the node's next was due."""
        done = self.outcome
        taken = done["accepted"] == done["sent"] and not done["late"] and not done["refused"]
        return taken and not self.refused_records

    @property
    def windows(self) -> int:
        """Windows of meters that were booked."""
        return int(self.outcome["accepted"]) * METERS


def main(args: list[str]) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks intake", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--holders", type=int, nargs="*", default=[2, 50], help="per CPU meter")
    parser.add_argument("--seconds", type=int, default=60, help="of load, per run")
    parser.add_argument("--peer-nodes", type=int, default=1000, help="nodes that peers scrape")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--ask", action="store_true", help="put questions to it under the load")
    given = parser.parse_args(args)
    print(
        f"## Cost of the intake: {given.nodes} agents, {METERS} meters each, a window per "
        f"{WINDOW_MS // 1000} s, {given.seconds} s\n\n{machine()}\n"
    )
    for holders in given.holders:
        load = _load(given.nodes, holders, given.seconds, asking=given.ask)
        values = Fleet(1, holders, 0).values
        _print(load, values)
        if not given.no_peers:
            for peer in scrapers.PEERS:
                _compare(load, values, scrapers.measure(peer, given.peer_nodes, values))
        print()
    return 0


def _load(nodes: int, holders: int, seconds: int, *, asking: bool) -> Load:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port, log, noted = free_port(), folder / "log", folder / "noted"
        command = [
            sys.executable, "-m", "benchmarks.timed_aggregator", str(noted), "aggregator",
            "--listen", f"127.0.0.1:{port}", "--data-dir", str(folder / "ledger"),
        ]  # fmt: skip
        environ = {"PYTHONPATH": f"{ROOT / 'daemon'}:{ROOT}"}
        aggregator = stack.enter_context(running("aggregator", command, log, environ))
        await_page(aggregator, f"http://127.0.0.1:{port}/v1/fleet", log)
        generator = [
            sys.executable, "-m", "benchmarks.generator", "--port", str(port),
            "--nodes", str(nodes), "--holders", str(holders), "--seconds", str(seconds),
        ]  # fmt: skip
        source = subprocess.Popen(
            generator, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True,
            env={**os.environ, **environ},
        )  # fmt: skip
        asker = Asker(f"http://127.0.0.1:{port}") if asking else None
        load = _watch(aggregator, source, Load(nodes, holders, {}, 0, 0, asker=asker))
        load.refused_records = _refused_records(
            fetch(f"http://127.0.0.1:{port}/metrics", timeout_s=600)
        )
        load.disk = sum(file.stat().st_size for file in (folder / "ledger").iterdir())
        for line in noted.read_text().splitlines():
            kind, at, took = line.split()
            if float(at) > time.time() - load.seconds:
                (load.commits if kind == "commit" else load.collections).append(float(took))
    return load


def _refused_records(metrics: bytes) -> int:
    """Read how many records were taken only to be refused: the load must be beyond reproach."""
    for line in metrics.decode().splitlines():
        if line.startswith("wattkeeper_ledger_refused_records_total "):
            return int(float(line.split()[1]))
    raise SystemExit("the aggregator shows no wattkeeper_ledger_refused_records_total")


def _watch(aggregator: Program, source: "subprocess.Popen[str]", load: Load) -> Load:
    """Sample the aggregator while the load runs, from the end of the registration on."""
    assert source.stdout is not None
    assert source.stderr is not None
    try:
        said = source.stderr.readline()
        if said.strip() != "registered":
            raise SystemExit(f"the generator failed:\n{said}{source.stderr.read()}")
        first, began = aggregator.use(), time.monotonic()
        load.memory.append(first)
        with load.asker or contextlib.nullcontext():
            while source.poll() is None:
                time.sleep(5)
                load.memory.append(aggregator.use())
        load.seconds = time.monotonic() - began
        load.cpu_s = load.memory[-1].cpu_s - first.cpu_s
        printed = source.stdout.read()
        if source.returncode:
            raise SystemExit(f"the generator failed:\n{source.stderr.read()}")
        load.outcome = json.loads(printed)
    finally:
        source.kill()
        source.wait()
        source.stdout.close()
        source.stderr.close()
    return load


def _print(load: Load, values: int) -> None:
    done = load.outcome
    per_second = load.windows / load.seconds
    memory = [use.rss / 1e6 for use in load.memory]
    took = sorted(load.commits) or [0.0]
    print(f"### {load.holders} holders on each CPU meter, {values} values per node and window\n")
    print("| | |")
    print("|---|---|")
    print(f"| sustained | {'yes' if load.sustained else 'NO'}: {done['sent']} deliveries sent, "
          f"{done['accepted']} accepted, {done['refused']} refused, {done['late']} late, "
          f"{load.refused_records} records refused |")  # fmt: skip
    print(f"| windows | {per_second:,.0f}/s, {done['bytes'] / done['sent']:,.0f} bytes/delivery |")
    print(f"| CPU | {load.cpu_s / load.seconds:.2f} cores, "
          f"{load.cpu_s / load.windows * 1e6:.1f} µs per window |")  # fmt: skip
    print(f"| answer | p50 {done['latency_ms'][0]:.1f} ms, p99 {done['latency_ms'][1]:.0f} ms, "
          f"longest {done['latency_ms'][2]:.0f} ms |")  # fmt: skip
    print(f"| commits | {len(load.commits)}, median {took[len(took) // 2]:.2f} s, "
          f"longest {took[-1]:.2f} s |")  # fmt: skip
    print(f"| RSS | {memory[0]:.0f} MB at first, {memory[len(memory) // 2]:.0f} MB half way, "
          f"{memory[-1]:.0f} MB at the end |")  # fmt: skip
    print(f"| garbage collections | {len(load.collections)} over 50 ms, longest "
          f"{max(load.collections, default=0):.2f} s |")  # fmt: skip
    print(f"| ledger on disk | {load.disk / 1e6:.0f} MB |")
    print(f"| registration | {done['registered_s']:.1f} s for the dictionaries of all nodes |")
    print(f"| generator | {done['cpu_s'] / (done['seconds'] + done['registered_s']):.2f} cores, "
          f"sends p99 {done['lag_ms'][1]:.0f} ms after they were due |\n")  # fmt: skip
    if load.asker is not None:
        load.asker.print()


def _compare(load: Load, values: int, peer: scrapers.Scrape | None) -> None:
    if peer is None:
        return
    own = load.cpu_s / (load.outcome["accepted"] * values) * 1e6
    theirs = peer.cpu_s / peer.values * 1e6
    memory = load.memory[-1].rss / (load.nodes * values)
    print(
        f"{peer.name} {peer.version}: {peer.values / peer.seconds:,.0f} values/s with "
        f"{peer.cpu_s / peer.seconds:.2f} cores: {theirs:.2f} µs of CPU a value and "
        f"{peer.rss / peer.series:.0f} bytes of memory a series. Aggregator: {own:.2f} µs and "
        f"{memory:.0f} bytes; ratio CPU {own / theirs:.2f}, memory "
        f"{memory / (peer.rss / peer.series):.2f}."
    )
