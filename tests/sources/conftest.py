"""Fixtures of the source tests: GPU drivers whose joules are known."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fake_amd import library as amd
from tests.fake_amd.bench import AmdBench
from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENVIRONMENT, FakeNvml, compile_library
from tests.sources.bench import AnyBench


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled fake of libnvidia-ml.so.1."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the fake NVML library with")
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Four GPUs under a fake driver."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "state"))
    return FakeNvml(tmp_path / "state", 4)


@pytest.fixture
async def bench(fake: FakeNvml, nvml_library: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    """A source on the four GPUs, not started yet, closed at the end."""
    bench = Bench(fake, nvml_library, tmp_path)
    yield bench
    await bench.source.close()


@pytest.fixture(scope="session")
def rocm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ROCm's with the compiled fake of libamd_smi.so."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the fake libamd_smi.so with")
    return amd.compile_library(tmp_path_factory.mktemp("amd") / "rocm")


@pytest.fixture
def fake_amd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> amd.FakeAmd:
    """Four AMD GPUs under a fake driver."""
    monkeypatch.setenv(amd.ENVIRONMENT, str(tmp_path / "state"))
    return amd.FakeAmd(tmp_path / "state", tmp_path, 4)


@pytest.fixture
async def amd_bench(fake_amd: amd.FakeAmd, rocm: Path, tmp_path: Path) -> AsyncIterator[AmdBench]:
    """A source on the four AMD GPUs, not started yet, closed at the end."""
    bench = AmdBench(fake_amd, rocm, tmp_path)
    yield bench
    await bench.source.close()


@pytest.fixture(params=["bench", "amd_bench"], ids=["nvml", "amdsmi"])
def either(request: pytest.FixtureRequest) -> AnyBench:
    """Four GPUs of each maker in turn: what every driver's source has to do."""
    bench: AnyBench = request.getfixturevalue(request.param)
    return bench
