"""The fake driver library is real enough for the programs that people use."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_nvml.library import ENVIRONMENT, FakeNvml, compile_library

pytestmark = pytest.mark.compiler

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled fake of libnvidia-ml.so.1."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the fake NVML library with")
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def environment(library: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a program on two fake GPUs."""
    FakeNvml(tmp_path / "state", 2).gpu(0).processes([os.getpid()])
    folders = {"LD_LIBRARY_PATH": str(library.parent), ENVIRONMENT: str(tmp_path / "state")}
    return {**os.environ, **folders}


def run(program: str, environment: dict[str, str]) -> str:
    """Run a Python program on the fake library and return what it prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=30
    ).stdout


def test_counter_is_the_integral(environment: dict[str, str], tmp_path: Path) -> None:
    """What NVIDIA's own binding reads is what the test computes, sine or square."""
    program = """
import pynvml as n
n.nvmlInit()
for i in range(2):
    print(n.nvmlDeviceGetTotalEnergyConsumption(n.nvmlDeviceGetHandleByIndex(i)))
"""
    fake = FakeNvml(tmp_path / "state", 2)
    fake.gpu(1).wave(411, 97, 1.3, square=True)
    for i in range(2):
        fake.gpu(i).origin_ns = 0  # however long this machine has been up
    for now in (10**13 + 1, 10**13 + 123_456_789, 2 * 10**13):
        fake.set_time(now)
        expected = [fake.gpu(i).energy_mj(now) for i in range(2)]
        assert [int(line) for line in run(program, environment).split()] == expected


def test_loads_add_to_the_wave(environment: dict[str, str], tmp_path: Path) -> None:
    """Work that begins and ends adds its watts to the wave, before, during and after it."""
    program = """
import pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
print(n.nvmlDeviceGetTotalEnergyConsumption(gpu), n.nvmlDeviceGetPowerUsage(gpu))
"""
    fake = FakeNvml(tmp_path / "state", 1)
    gpu = fake.gpu(0)
    gpu.wave(60)
    gpu.origin_ns, gpu.step_ms = 0, 100
    gpu.load(400, 10_050_000_000)
    gpu.load(0, 12_050_000_000)
    # Joules above the wave, and the mean power of the last second as the driver tells it.
    expected = {100: (0, 60), 101: (20, 80), 120: (780, 460), 121: (800, 440), 200: (800, 60)}
    for tenths, (joules, watts) in expected.items():
        fake.set_time(tenths * 100_000_000)
        energy_mj, power_mw = map(int, run(program, environment).split())
        assert gpu.energy_mj(tenths * 100_000_000) == energy_mj
        assert energy_mj - tenths * 6_000 == pytest.approx(joules * 1000, abs=1)
        assert power_mw == pytest.approx(watts * 1000, abs=1)


def test_integral_matches_power(tmp_path: Path) -> None:
    """The closed integral agrees with a fine sum over the waveform itself."""
    gpu = FakeNvml(tmp_path / "state", 1).gpu(0)
    gpu.origin_ns, gpu.step_ms = 0, 1
    for square in (False, True):
        gpu.wave(300, 200, 2, square=square)
        whole, quarter = gpu.energy_mj(4_000_000_000), gpu.energy_mj(500_000_000)
        assert whole == pytest.approx(1_200_000, abs=1)
        # A quarter period: the base, and the half wave's first half above it.
        above = 100_000 if square else 200_000 * 2 / (2 * 3.141592653589793)
        assert quarter == pytest.approx(150_000 + above, abs=1)


def test_nvitop(environment: dict[str, str]) -> None:
    """The monitor prints both GPUs, their power and the process on the first."""
    pytest.importorskip("nvitop")
    done = subprocess.run(
        [str(BIN / "nvitop"), "--once", "--ascii", "--no-unicode"],
        env={**environment, "TERM": "dumb", "COLUMNS": "120"},
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "610.43.02" in done.stdout
    assert done.stdout.count("H100") == 2
    assert str(os.getpid()) in done.stdout
    assert "FunctionNotFound" not in done.stderr


@pytest.fixture
def exporter(environment: dict[str, str]) -> Iterator[str]:
    """A running nvitop-exporter; gives the address of its metrics."""
    pytest.importorskip("nvitop_exporter")
    program = (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
    )
    port = run(program, environment).strip()
    command = [str(BIN / "nvitop-exporter"), "--bind-address", "127.0.0.1", "--port", port]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        yield f"http://127.0.0.1:{port}/metrics"
        process.kill()


def scrape(address: str, wanted: str) -> str:
    """Return the metrics once they hold `wanted`; fails after 20 seconds."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as response:
                text: str = response.read().decode()
        except OSError:
            text = ""
        if wanted in text:
            return text
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(0.1)


def test_nvitop_exporter(exporter: str) -> None:
    """The exporter serves the power of both GPUs."""
    text = scrape(exporter, "gpu_power_usage_W{")
    assert text.count("\ngpu_power_usage_W{") == 2
