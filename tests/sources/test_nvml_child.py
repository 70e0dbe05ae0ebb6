"""The NVML child is small, and never outlives its agent."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENERGY
from tests.sources.bench import child_pids
from wattkeeper.sources.driver_process import start_process
from wattkeeper.sources.nvml import NVIDIA, binding

pytestmark = pytest.mark.compiler

HEAVY = {"aiohttp", "asyncio", "msgspec", "prometheus_client", "pydantic", "rich", "sqlite3"}


def test_imports_are_light() -> None:
    """Importing the child imports none of the agent's libraries."""
    program = "import sys, wattkeeper.sources.nvml_child; print(*sys.modules)"
    source = str(Path(__file__).parents[2] / "daemon")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "pynvml" in loaded
    assert loaded & HEAVY == set()


async def test_memory(bench: Bench) -> None:
    """A child with eight GPUs stays under 20 MB of its own."""
    bench.fake.set_count(8)
    await bench.source.start()
    for _ in range(50):
        await bench.read()
    (pid,) = child_pids()
    assert proportional_kb(pid) < 20_000


def proportional_kb(pid: int) -> int:
    """Return the process's proportional memory in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss in smaps_rollup")


@pytest.mark.parametrize("hang", [False, True])
def test_leaves_with_its_agent(bench: Bench, *, hang: bool) -> None:
    """Once the agent's end is closed the child ends, also while a thread hangs."""
    ours, theirs = socket.socketpair()
    process = start_process(theirs, NVIDIA.child, [str(bench.library), ""], binding())
    theirs.close()
    bench.fake.gpu(0).hang[ENERGY] = int(hang)
    with ours, ours.makefile("rb") as lines:
        assert json.loads(lines.readline()) == {"hello": {"driver": "610.43.02", "gpus": 4}}
        ours.sendall(b'{"seq": 1, "deadline_s": 0.1}\n')
        answer = json.loads(lines.readline())
        assert len(answer["gpus"]) == 4
        assert ("stuck_s" in answer["gpus"][0]) == hang
    assert process.wait(5) == 0


def test_leaves_when_its_agent_is_killed(bench: Bench, tmp_path: Path) -> None:
    """Kill -9 of the agent ends the child, too."""
    program = f"""
import asyncio, pathlib
from wattkeeper.sources.nvml import NvmlSource
async def main():
    folder = pathlib.Path({str(tmp_path)!r})
    source = NvmlSource(folder, folder, {str(bench.library)!r})
    await source.start()
    print(source._child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    source = str(Path(__file__).parents[2] / "daemon")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": source, "FAKE_NVML_STATE": str(bench.fake.path)},
        stdout=subprocess.PIPE,
    ) as agent:
        assert agent.stdout is not None
        child = int(agent.stdout.readline())
        assert bench.fake.holders(0) == [child]
        agent.kill()
    deadline_s = 5
    subprocess.run(
        ["timeout", str(deadline_s), "tail", "--pid", str(child), "-f", "/dev/null"], check=True
    )
    assert bench.fake.holders(0) == []
