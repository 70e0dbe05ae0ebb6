"""A node of AMD GPUs from the driver's library to the ledger."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import Site, until
from tests.fake_amd.library import ENVIRONMENT, FakeAmd, compile_library

pytestmark = pytest.mark.compiler

TURN_S = 2
START_NS = 50_000_000_000_000


@pytest.fixture
def amd(tmp_path: Path) -> FakeAmd:
    """Two MI250X of two dies each, whose time stands still."""
    fake = FakeAmd(tmp_path / "amd.state", tmp_path / "sys", 4)
    for first in (0, 2):
        fake.pair(first)
    for i in range(4):
        gpu = fake.gpu(i)
        # Time stands still between the turns: a power told meanwhile would be a stuck counter's.
        gpu.origin_ns, gpu.powerless = START_NS - 10**12, 1
    fake.set_time(START_NS)
    return fake


@pytest.fixture
def node(tmp_path: Path, amd: FakeAmd) -> Iterator[Site]:
    """The programs on a node that has no NVIDIA driver."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler (cc) for the fake libamd_smi.so")
    site = Site(tmp_path, tmp_path / "nothing/libnvidia-ml.so.1", tmp_path / "nothing")
    rocm = compile_library(tmp_path / "rocm")
    site.environ |= {ENVIRONMENT: str(amd.path), "ROCM_PATH": str(rocm)}
    yield site
    site.close()


def turn(amd: FakeAmd, from_ns: int) -> int:
    """Let the hardware live for `TURN_S` at the speed of the real clock; return its time then."""
    began_ns, now_ns = time.monotonic_ns(), from_ns
    end_ns = from_ns + TURN_S * 10**9
    while now_ns < end_ns:
        time.sleep(0.002)
        now_ns = min(end_ns, from_ns + time.monotonic_ns() - began_ns)
        amd.set_time(now_ns)
    return now_ns


def test_the_books_hold_what_the_dies_counted(node: Site, amd: FakeAmd) -> None:
    """Two meters for four dies, exactly; a job that has a die of each pays of both."""
    node.aggregator()
    node.agent()
    uuids = [amd.uuid(0), amd.uuid(2)]
    node.await_first_window(uuids)
    node.mark("start", "4711", "1,2")
    now_ns = turn(amd, START_NS)
    node.mark("end", "4711", "1,2")
    truth = {
        amd.meter(i): amd.gpu(i).energy_uj(now_ns) - amd.gpu(i).energy_uj(START_NS) for i in (0, 2)
    }
    until("the ledger has it all", lambda: truth == node.measured_uj())
    balance = node.cli("balance", "--url", node.aggregator_url, "--format", "json")
    assert (balance.returncode, balance.stderr) == (0, "")
    assert json.loads(balance.stdout)["residual_uj"] == "0"
    shown = node.cli("job", "4711", "--url", node.aggregator_url, "--format", "json")
    job = json.loads(shown.stdout)
    assert {"gpu"} == {name for name, uj in job["energy_by_component_uj"].items() if uj != "0"}
    assert sum(truth.values()) / 4 < int(job["energy_uj"]) <= sum(truth.values())
    assert node.state("amdsmi") == "ok"
