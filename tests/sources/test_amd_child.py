"""The AMD child is small, and never outlives its agent."""

import json
import socket
from pathlib import Path

import pytest

from tests.fake_amd.bench import AmdBench
from tests.fake_amd.library import ENERGY
from tests.sources.bench import child_pids
from tests.sources.test_nvml_child import proportional_kb
from wattkeeper.sources.amd import AMD, binding
from wattkeeper.sources.driver_process import start_process

pytestmark = pytest.mark.compiler


async def test_memory(amd_bench: AmdBench) -> None:
    """A child with eight GPUs stays under 25 MB of its own; the binding is 9,000 lines."""
    amd_bench.fake.set_count(8)
    await amd_bench.source.start()
    for _ in range(50):
        await amd_bench.read()
    (pid,) = child_pids()
    assert proportional_kb(pid) < 25_000


@pytest.mark.parametrize("hang", [False, True])
def test_leaves_with_its_agent(amd_bench: AmdBench, tmp_path: Path, *, hang: bool) -> None:
    """Once the agent's end is closed the child ends, also while a thread hangs."""
    ours, theirs = socket.socketpair()
    folder = binding(amd_bench.library)
    options = [str(tmp_path), str(amd_bench.library)]
    process = start_process(theirs, AMD.child, options, [str(folder)])
    theirs.close()
    with ours, ours.makefile("rb") as lines:
        assert json.loads(lines.readline()) == {"hello": {"driver": "6.12.12", "gpus": 4}}
        amd_bench.fake.gpu(0).hang[ENERGY] = int(hang)
        ours.sendall(b'{"seq": 1, "deadline_s": 0.1}\n')
        answer = json.loads(lines.readline())
        assert len(answer["gpus"]) == 4
        assert ("stuck_s" in answer["gpus"][0]) == hang
    assert process.wait(5) == 0
