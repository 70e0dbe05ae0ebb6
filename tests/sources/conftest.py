"""Fixtures of the source tests: an NVIDIA driver whose joules are known."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENVIRONMENT, FakeNvml, compile_library


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
