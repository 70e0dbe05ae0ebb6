"""What a Slurm of 100,000 running jobs costs the centre: the process that asks, and the loop."""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wattkeeper.schedulers.slurm import Slurm, SlurmOptions

_CAPTURE = Path(__file__).parents[1] / "tests/fixtures/slurm/26.05/squeue_v0.0.44.json"
_GPUS = 8
_CORES = 128
_HEADS = (
    "round",
    "wall",
    "CPU of the child and squeue",
    "CPU of the parent",
    "child's peak RSS",
    "parent's RSS",
    "longest stall of the loop (its own CPU)",
)


def main(args: Sequence[str]) -> int:
    """Run the benchmark and print its results as a table."""
    parser = argparse.ArgumentParser(prog="bench squeue", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="wattkeeper-squeue-") as folder:
        size = _install(Path(folder), options.jobs)
        print(f"{options.jobs} running jobs on nodes of {_CORES} cores: {size / 1e6:.0f} MB")
        gc.set_threshold(100_000, 50, 100)  # as the aggregator does
        asyncio.run(_measure(folder, options.jobs, options.rounds))
    return 0


def _install(folder: Path, jobs: int) -> int:
    """Write a squeue that says so many jobs, in the shape of a capture; return the bytes."""
    job = json.loads(_CAPTURE.read_text())["jobs"][0]
    _widen(job)
    answer = folder / "squeue.json"
    with answer.open("w") as file:
        file.write('{"jobs": [')
        for number in range(jobs):
            node = f"gpu{number // _GPUS:05}"
            job |= {
                "job_id": number + 1,
                "nodes": node,
                "gres_detail": [f"gpu:h100:1(IDX:{number % _GPUS})"],
                "user_name": f"user{number % 500}",
                "name": f"train-{number}",
            }
            job["step_id"]["sluid"] = f"s1G5{number:010}"
            file.write((", " if number else "") + json.dumps(job))
        file.write('], "errors": []}')
    _command(folder, "squeue", f"cat '{answer}'")
    _command(folder, "scontrol", 'echo \'{"nodes": [], "errors": []}\'')
    _command(folder, "sacct", 'echo \'{"jobs": [], "errors": []}\'')
    return answer.stat().st_size


def _widen(job: dict[str, Any]) -> None:
    """Let the job's node have as many cores as one of a real fleet: each is listed."""
    (node,) = job["job_resources"]["nodes"]["allocation"][:1]
    core = node["sockets"][0]["cores"][0]
    half = _CORES // 2
    node["sockets"] = [
        {"index": socket, "cores": [core | {"index": index} for index in range(half)]}
        for socket in range(2)
    ]


def _command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\nexec {script}\n")
    path.chmod(0o755)


async def _measure(folder: str, jobs: int, rounds: int) -> None:
    slurm = Slurm(SlurmOptions("bench", bin=folder, timeout_s=600.0))
    watch = Watch()
    watching = asyncio.create_task(watch.run())
    print(f"| {' | '.join(_HEADS)} |\n|{'---|' * len(_HEADS)}")
    for number in range(rounds):
        watch.clear()
        before = _usage()
        found = await slurm.ask(0)
        after = _usage()
        if len(found.workloads) != jobs or found.granted_ms is None:
            raise RuntimeError(f"{len(found.workloads)} of {jobs} jobs came back")
        wall, parent, child = (now - then for now, then in zip(after, before, strict=True))
        row = [
            str(number + 1),
            f"{wall:.1f} s",
            f"{child:.1f} s",
            f"{parent:.1f} s",
            f"{watch.child_mb:.0f} MB",
            f"{_rss_mb():.0f} MB",
            f"{watch.stall_s * 1000:.0f} ms ({watch.busy_s * 1000:.0f} ms)",
        ]
        print(f"| {' | '.join(row)} |")
        del found
    watching.cancel()
    await slurm.close()


class Watch:
    """Looks every 5 ms how long the loop was held up, and how large the child is."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.stall_s = self.busy_s = self.child_mb = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            began_s, busy_s = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.005)
            self.busy_s = max(self.busy_s, time.thread_time() - busy_s)
            self.stall_s = max(self.stall_s, time.monotonic() - began_s - 0.005)
            self.child_mb = max(self.child_mb, _child_mb())


def _child_mb() -> float:
    """Return the peak memory of our child; its resource usage begins with ours, as a copy of us."""
    for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
        with contextlib.suppress(OSError):
            if b"slurm_fetch" not in Path("/proc", pid, "cmdline").read_bytes():
                continue  # still the copy, before it is executed
            for line in Path("/proc", pid, "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    return 0.0


def _usage() -> tuple[float, float, float]:
    """Return wall time and the CPU seconds of this process and of its ended children."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = [each.ru_utime + each.ru_stime for each in (own, children)]
    return time.monotonic(), cpu[0], cpu[1]


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)
