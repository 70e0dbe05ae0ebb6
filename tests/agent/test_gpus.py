"""Which GPUs a node asks for, and what it makes of several makers' at once."""

import shutil
from pathlib import Path

import pytest

from tests.fake_amd import library as amd
from wattkeeper.agent.config import AgentSettings
from wattkeeper.agent.gpus import NodeGpus
from wattkeeper.settings import load


def settings(sysfs: Path) -> AgentSettings:
    """Return the settings of an agent on a fixture tree."""
    environ = {
        "WATTKEEPER_AGENT_PATH__SYSFS": str(sysfs),
        "WATTKEEPER_AGENT_PATH__PROCFS": str(sysfs),
    }
    return load(AgentSettings, program="agent", environ=environ)


def test_without_an_amd_gpu_none_is_asked_for(tmp_path: Path) -> None:
    """A node of NVIDIA's says nothing of AMD."""
    assert [source.name for source in NodeGpus(settings(tmp_path)).sources] == ["nvml"]


@pytest.mark.compiler
async def test_with_amd_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are metered, listed with their processes, and hold up nobody."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler (cc) for the fake of AMD's library")
    monkeypatch.setenv(amd.ENVIRONMENT, str(tmp_path / "state"))
    monkeypatch.setenv("ROCM_PATH", str(amd.compile_library(tmp_path / "rocm")))
    fake = amd.FakeAmd(tmp_path / "state", tmp_path / "sys", 2)
    fake.apu(0)
    fake.gpu(1).processes([7])
    gpus = NodeGpus(settings(tmp_path / "sys"))
    assert [source.name for source in gpus.sources] == ["nvml", "amdsmi", "amdgpu"]
    try:
        await gpus.sources[1].start()
        gpus.hurry()
        assert [spec.info.name for spec in gpus.meters()] == [fake.meter(0), fake.meter(1)]
        assert [process.pid for process in gpus.processes()[fake.meter(1)]] == [7]
        assert gpus.partitions() == {}
        assert gpus.module_metered()
    finally:
        await gpus.sources[1].close()
