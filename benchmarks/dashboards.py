"""What rules and dashboards cost a Prometheus that holds a large fleet."""

import argparse
import json
import random
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.grafana.boards import Asked, filled, queries

from benchmarks.processes import ROOT, await_page, fetch, free_port, machine, running, version

_GPUS, _SOURCES, _JOBS, _NODES_A_RACK = 8, 12, 2000, 18
_REASONS = ("sw_thermal", "hw_thermal", "sw_power_cap", "hw_power_brake", "sync_boost")
_STATES = ("ok", "absent", "denied", "failing", "stale", "quarantined", "released")
_LASTS_S, _STEP_S = 600, 60
_EVALUATES_S, _FRESH_S = 60, 150
_SHOWN = 10
_VALUES = {
    "cluster": ".*", "kind": "rack", "group": ".*", "node": "node00001", "account": ".*",
    "budget": ".*", "job": "7", "workload": "7", "place": "node0000[0-9]",
    "__rate_interval": "2m", "__range": f"{_LASTS_S}s",
}  # fmt: skip


class Series(NamedTuple):
    """A series: its labels, its first value, and what is added at each sample."""

    metric: str
    labels: str
    value: float = 1
    grows: float = 0


class Cost(NamedTuple):
    """What a query cost."""

    cpu_s: float
    lasted_s: float
    series: int
    asked: Asked


def main(args: Sequence[str]) -> int:
    """Run the benchmark and print its results as tables."""
    parser = argparse.ArgumentParser(prog="bench dashboards", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1250)
    options = parser.parse_args(args)
    print(f"{machine()}, Prometheus {version('prometheus', '--version')}\n")
    with tempfile.TemporaryDirectory(prefix="wattkeeper-dashboards-") as folder:
        series = _fill(Path(folder), options.nodes)
        _measure(Path(folder), options.nodes, series)
    return 0


def _fleet(nodes: int) -> Iterator[Series]:
    """Yield a fleet's series, those of one metric not together."""
    draw = random.Random(1)
    for number in range(nodes):
        node = f'cluster="c",node="node{number:05}"'
        yield Series("wattkeeper_node_info", f'{node},rack="r{number // _NODES_A_RACK:03}"')
        yield Series("wattkeeper_agent_info", f'{node},version="1"')
        yield Series("wattkeeper_host_power_watts", f'{node},meter="dcmi"', 6000)
        yield Series("up", f'{node},job="wattkeeper",instance="node{number:05}:9745"')
        yield Series("wattkeeper_journal_oldest_pending_seconds", node, 5)
        yield Series("wattkeeper_tick_seconds", node, 0.02)
        for socket in range(2):
            for domain in ("package", "dram"):
                labels = f'{node},socket="{socket}",domain="{domain}"'
                yield Series("wattkeeper_cpu_power_watts", labels, 150)
        for source in range(_SOURCES):
            for state in _STATES:
                labels = f'{node},source="s{source}",state="{state}"'
                yield Series("wattkeeper_source_state", labels, float(state == "ok"))
        for gpu in range(_GPUS):
            yield from _gpu(f'{node},uuid="GPU-{number:05}-{gpu}"', gpu, number, nodes, draw)
    for job in range(_JOBS):
        yield from _job(f'cluster="c",manager="slurm",workload="{job}"', job)


def _gpu(gpu: str, number: int, node: int, nodes: int, draw: random.Random) -> Iterator[Series]:
    yield Series("wattkeeper_gpu_info", f'{gpu},gpu="{number}",model="H100"')
    yield Series("wattkeeper_gpu_power_watts", gpu, draw.randint(90, 700))
    heat = draw.randint(30, 84)
    yield Series("wattkeeper_gpu_temperature_celsius", f'{gpu},sensor="gpu"', heat)
    held = f'{gpu},meter="gpu",manager="slurm",workload="{node * _JOBS // nodes}"'
    yield Series("wattkeeper_holder_ratio", held)
    for reason in _REASONS:
        yield Series("wattkeeper_gpu_throttle_seconds_total", f'{gpu},reason="{reason}"', grows=1)


def _job(job: str, number: int) -> Iterator[Series]:
    names = f'job_id="{number}",account="a{number % 200}",partition="p",user="u{number % 500}"'
    yield Series("wattkeeper_workload_info", f"{job},{names}")
    yield Series("wattkeeper_job_allocated_idle_joules_total", job, grows=10)
    for component in ("gpu", "cpu", "dram"):
        labels = f'{job},component="{component}"'
        yield Series("wattkeeper_job_power_watts", labels, 1000)
        yield Series("wattkeeper_job_energy_joules_total", labels, grows=60_000)


def _fill(folder: Path, nodes: int) -> int:
    """Write the last ten minutes of the fleet as blocks of a Prometheus; return its series."""
    found = sorted(_fleet(nodes), key=lambda one: one.metric)
    now_s = int(time.time())
    instants = range(now_s - _LASTS_S, now_s, _STEP_S)
    text, metric = folder / "fleet.txt", ""
    with text.open("w") as out:
        for one in found:
            if one.metric != metric:
                metric = one.metric
                kind = "counter" if metric.endswith("_total") else "gauge"
                out.write(f"# TYPE {metric.removesuffix('_total')} {kind}\n")
            for count, at_s in enumerate(instants):
                value = one.value + one.grows * count
                out.write(f"{metric}{{{one.labels}}} {value} {at_s}\n")
        out.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text)]
    subprocess.run([*command, str(folder / "data")], check=True, capture_output=True)
    text.unlink()
    if time.time() - now_s > _FRESH_S:
        raise SystemExit(
            "the samples are too old by now; choose fewer --nodes, or a faster machine"
        )
    return len(found)


def _measure(folder: Path, nodes: int, series: int) -> None:
    rules = ROOT / "deploy/prometheus/rules"
    config = folder / "prometheus.yml"
    config.write_text(f'rule_files: ["{rules}/*.yml"]\n')
    url = f"http://127.0.0.1:{free_port()}"
    log = folder / "log"
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error",
    ]  # fmt: skip
    with running("prometheus", command, log) as program:
        await_page(program, f"{url}/-/ready", log)
        began = program.use().cpu_s
        time.sleep(_EVALUATES_S)
        used = program.use()
        print(f"{nodes} nodes of {_GPUS} GPUs, {_JOBS} jobs: {series} series")
        print(f"all rules: {(used.cpu_s - began) / _EVALUATES_S:.3f} of a core")
        costs = []
        for asked in queries():
            before_s, at_s = program.use().cpu_s, time.monotonic()
            answer = _ask(url, asked)
            lasted_s = time.monotonic() - at_s
            costs.append(Cost(program.use().cpu_s - before_s, lasted_s, len(answer), asked))
    print(f"all {len(costs)} queries: {sum(cost.cpu_s for cost in costs):.1f} s of CPU\n")
    print("| dashboard | panel | | CPU | lasted | series |\n|---|---|---|---|---|---|")
    for cost in sorted(costs, reverse=True)[:_SHOWN]:
        board = cost.asked.board.removeprefix("wattkeeper-")
        figures = f"{cost.cpu_s:.2f} s | {cost.lasted_s:.2f} s | {cost.series}"
        print(f"| {board} | {cost.asked.panel} | {cost.asked.ref} | {figures} |")


def _ask(url: str, asked: Asked) -> Any:
    """Put a query as Grafana does: now, or over the last ten minutes in steps of 15 s."""
    params = {"query": filled(asked.expr, _VALUES)}
    path = "query"
    if not asked.instant:
        path, now_s = "query_range", time.time()
        params |= {"start": str(now_s - _LASTS_S), "end": str(now_s), "step": "15"}
    answer = json.loads(fetch(f"{url}/api/v1/{path}?{urllib.parse.urlencode(params)}"))
    return answer["data"]["result"]
