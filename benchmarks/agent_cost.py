"""What the agent costs a node, beside nvitop-exporter and node_exporter on the same hardware."""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tests.fake_nvml.library import FakeNvml, compile_library

from benchmarks.processes import (
    ROOT,
    Program,
    await_page,
    fetch,
    free_port,
    installed,
    machine,
    running,
    version,
    wattkeeper,
)

NODE_EXPORTER = "prometheus-node-exporter"
SELF = "wattkeeper agent"
NVITOP = "nvitop-exporter"
CPU_TARGET, CPU_GOAL = 1.0, 0.5
PSS_TARGET_MB, PSS_GOAL_MB = 80, 60


@dataclass(slots=True)
class Subject:
    """A program and what was seen of it, a value per round (scrapes: per scrape)."""

    program: Program
    url: str
    cpu: list[float] = field(default_factory=list)
    pss_mb: list[float] = field(default_factory=list)
    scrape_ms: list[float] = field(default_factory=list)
    series: int = 0


def main(args: list[str]) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks agent", description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=30, help="length of a round")
    parser.add_argument("--warm-up", type=int, default=20, help="seconds before the first round")
    given = parser.parse_args(args)
    print(f"## Cost of the agent: {given.gpus} GPUs, 1 Hz, one scrape a second\n\n{machine()}\n")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subjects = _start(stack, folder, given.gpus)
        _round(subjects, given.warm_up)
        for subject in subjects:
            subject.cpu, subject.pss_mb, subject.scrape_ms = [], [], []
        for _ in range(given.rounds):
            _round(subjects, given.seconds)
    _print(subjects)
    return 0


def _start(stack: contextlib.ExitStack, folder: Path, gpus: int) -> list[Subject]:
    library = compile_library(folder)
    FakeNvml(folder / "nvml.state", gpus)
    environ = {
        "PYTHONPATH": str(ROOT / "daemon"),
        "LD_LIBRARY_PATH": str(library.parent),
        "FAKE_NVML_STATE": str(folder / "nvml.state"),
    }
    ports = [free_port() for _ in range(4)]
    # Deliveries are part of the agent's work, so there is somebody to take them.
    centre = wattkeeper(
        "aggregator", "--listen", f"127.0.0.1:{ports[0]}", "--data-dir", str(folder / "ledger")
    )
    log = folder / "aggregator.log"
    url = f"http://127.0.0.1:{ports[0]}"
    aggregator = stack.enter_context(running("aggregator", centre, log, environ))
    await_page(aggregator, f"{url}/v1/fleet", log)
    commands = {
        SELF: wattkeeper(
            "agent", "--listen", f"127.0.0.1:{ports[1]}", "--data-dir", str(folder / "agent"),
            "--aggregator.url", url,
        ),
        NVITOP: [
            sys.executable, "-m", "nvitop_exporter", "--bind-address", "127.0.0.1",
            "--port", str(ports[2]), "--interval", "1",
        ],
    }  # fmt: skip
    if installed(NODE_EXPORTER):
        commands[NODE_EXPORTER] = [NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{ports[3]}"]
    subjects = []
    for port, (name, command) in zip(ports[1:], commands.items(), strict=False):
        log = folder / f"{port}.log"
        program = stack.enter_context(running(name, command, log, environ))
        subject = Subject(program, f"http://127.0.0.1:{port}/metrics")
        await_page(program, subject.url, log)
        subjects.append(subject)
    return subjects


def _round(subjects: list[Subject], seconds: int) -> None:
    """Scrape each subject once a second, each second another one first."""
    before = [subject.program.use() for subject in subjects]
    began = time.monotonic()
    for second in range(seconds):
        turn = second % len(subjects)
        for subject in subjects[turn:] + subjects[:turn]:
            sent = time.perf_counter()
            text = fetch(subject.url)
            subject.scrape_ms.append((time.perf_counter() - sent) * 1000)
            subject.series = sum(not line.startswith(b"#") for line in text.splitlines())
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    took = time.monotonic() - began
    for subject, then in zip(subjects, before, strict=True):
        now = subject.program.use()
        subject.cpu.append((now.cpu_s - then.cpu_s) / took)
        subject.pss_mb.append(now.pss / 1e6)


def _print(subjects: list[Subject]) -> None:
    print("| program | version | CPU (cores) | spread | PSS | scrape p50 | p95 | series |")
    print("|---|---|---|---|---|---|---|---|")
    for subject in subjects:
        scrapes = sorted(subject.scrape_ms)
        print(
            f"| {subject.program.name} | {_version(subject.program.name)} "
            f"| {statistics.median(subject.cpu):.4f} "
            f"| {min(subject.cpu):.4f} to {max(subject.cpu):.4f} "
            f"| {statistics.median(subject.pss_mb):.1f} MB "
            f"| {statistics.median(scrapes):.1f} ms | {scrapes[len(scrapes) * 95 // 100]:.1f} ms "
            f"| {subject.series} |"
        )
    own, peer = subjects[0], subjects[1]
    pairs = zip(own.cpu, peer.cpu, strict=True)
    cpu = statistics.median(mine / theirs for mine, theirs in pairs)
    pss = statistics.median(own.pss_mb)
    print(
        f"\nCPU {cpu:.2f} of {NVITOP}'s (median of the rounds): "
        f"{_verdict(cpu, CPU_TARGET, CPU_GOAL)}."
        f"\nPSS {pss:.1f} MB, {pss / statistics.median(peer.pss_mb):.2f} of {NVITOP}'s: "
        f"{_verdict(pss, PSS_TARGET_MB, PSS_GOAL_MB)}.\n"
    )


def _verdict(value: float, target: float, goal: float) -> str:
    if value <= goal:
        return f"target {target:g} and goal {goal:g} reached"
    return f"target {target:g} {'reached' if value <= target else 'NOT REACHED'}, goal {goal:g} not"


def _version(name: str) -> str:
    if name == NODE_EXPORTER:
        return version(NODE_EXPORTER, "--version")
    if name == NVITOP:
        return metadata.version(NVITOP)
    return version(*wattkeeper("--version"))
