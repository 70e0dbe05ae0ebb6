"""A site with four GPUs at rest, and everything ended after the test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Site
from tests.fake_nvml.library import FakeNvml, compile_library

GPUS = 4


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the fake NVML library."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler (cc) for the fake NVML library")
    return compile_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    """Lay out the hardware."""
    return FakeNvml(tmp_path / "nvml.state", GPUS)


@pytest.fixture
def crank(fake: FakeNvml) -> Iterator[Crank]:
    """Take the hardware's time in hand."""
    crank = Crank(fake, GPUS)
    yield crank
    crank.finish()


@pytest.fixture
def site(tmp_path: Path, library: Path, fake: FakeNvml) -> Iterator[Site]:
    """Prepare folders and ports; end every program afterwards."""
    site = Site(tmp_path, library, fake.path)
    yield site
    site.close()


@pytest.fixture
def uuids(fake: FakeNvml) -> list[str]:
    """Name the GPUs."""
    return [fake.gpu(i).uuid.decode() for i in range(GPUS)]
