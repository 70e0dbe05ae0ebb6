"""What NVML says when it does not work, and what is made of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import HANDLE
from tests.sources.bench import QUICK
from wattkeeper.model.state import State

pytestmark = pytest.mark.compiler


async def test_hang_while_attaching(bench: Bench) -> None:
    """A GPU that hangs when its handle is looked up holds up no other."""
    bench.fake.gpu(3).hang[HANDLE] = 1
    await bench.source.start()
    assert set(await bench.read()) == {0, 1, 2}
    bench.fake.gpu(3).hang[HANDLE] = 0
    await bench.read_until(lambda found: 3 in found)


async def test_init_hangs_then_attaches_each(bench: Bench) -> None:
    """When nvmlInit hangs, the next child opens each GPU by its PCI address in its own thread."""
    folder = bench.folder / "bus/pci/drivers/nvidia"
    for i in range(4):
        (folder / bench.fake.gpu(i).bus_id.decode()).mkdir(parents=True)
    bench.fake.set_init(hang=True)
    bench.source = bench.build(replace(QUICK, start_s=1, hello_s=0.2))
    await bench.source.start()
    assert bench.finding().state == State.STALE
    assert "nvmlInit" in bench.finding().detail
    bench.fake.set_init(hang=False)
    bench.fake.gpu(0).hang[HANDLE] = 1
    assert set(await bench.read_until(lambda found: len(found) > 0)) == {1, 2, 3}
    bench.fake.gpu(0).hang[HANDLE] = 0
    await bench.read_until(lambda found: 0 in found)


@pytest.mark.parametrize("code", [1, 9, 15, 16, 18])
async def test_driver_reload(bench: Bench, code: int) -> None:
    """A reload invalidates all handles: the GPUs come back by UUID under another load."""
    (bench.folder / "module/nvidia").mkdir(parents=True)
    await bench.source.start()
    before = {spec.info.name: spec.load for spec in bench.source.meters()}
    (bench.folder / "module/nvidia").rename(bench.folder / "module/old")
    (bench.folder / "module/nvidia").mkdir()
    bench.fake.reload(code, driver="700.10.01")
    for i in range(4):
        bench.fake.gpu(i).offset_mj = -bench.fake.gpu(i).energy_mj(0)
    assert await bench.read() == {}
    await bench.read_until(lambda found: len(found) == 4)
    after = {spec.info.name: spec.load for spec in bench.source.meters()}
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert {spec.info.labels["driver"] for spec in bench.source.meters()} == {"700.10.01"}


async def test_counters_faults_are_passed_on(bench: Bench) -> None:
    """A stopped, a jumping and a reset counter are shown as they are: the sampler judges."""
    now = 9_000_000_000_000
    for i in range(4):
        bench.fake.gpu(i).origin_ns = 0
    bench.fake.set_time(now)
    await bench.source.start()
    first = await bench.read()
    bench.fake.gpu(0).stopped_ns = now
    bench.fake.gpu(1).offset_mj = 5_000_000
    bench.fake.gpu(2).offset_mj = -2_000_000_000
    bench.fake.set_time(now + 10_000_000_000)
    second = await bench.read()
    advance = {i: (second[i].energy_uj or 0) - (first[i].energy_uj or 0) for i in range(4)}
    true = {
        i: bench.fake.gpu(i).energy_mj(now + 10_000_000_000) * 1000 - (first[i].energy_uj or 0)
        for i in range(4)
    }
    assert advance == true
    assert advance[0] == 0
    assert advance[1] > 5_000_000_000
    assert advance[2] < 0
    assert 0 < advance[3] < 10 * 700_000_000


@pytest.mark.parametrize(
    ("code", "state", "fix"),
    [
        (9, State.ABSENT, "modprobe nvidia"),
        (4, State.DENIED, "/dev/nvidia*"),
        (18, State.FAILING, "reboot"),
        (999, State.FAILING, ""),
    ],
)
async def test_init_fails(bench: Bench, code: int, state: State, fix: str) -> None:
    """Why nvmlInit failed is told with its remedy, and metering begins once it works."""
    bench.fake.set_init(code)
    await bench.source.start()
    assert bench.finding().state == state
    assert f"nvmlInit returned {code}" in bench.finding().detail
    assert fix in bench.finding().fix
    assert list(bench.source.meters()) == []
    bench.fake.set_init(0)
    await bench.read_until(lambda found: len(found) == 4)
    assert bench.finding().state == State.OK


async def test_version_mismatch_names_itself(bench: Bench) -> None:
    """Error 18 is told in words that an operator knows from nvidia-smi."""
    bench.fake.set_init(18)
    await bench.source.start()
    assert "driver/library version mismatch: reboot or reload" in bench.finding().detail


async def test_no_library(bench: Bench, tmp_path: Path) -> None:
    """Without the library the source is absent and says what to install."""
    bench.library = tmp_path / "nothing.so"
    bench.source = bench.build()
    await bench.source.start()
    assert bench.finding().state == State.ABSENT
    assert "nothing.so" in bench.finding().detail
    assert "install the NVIDIA driver" in bench.finding().fix


async def test_lost_gpu_is_called_so(bench: Bench) -> None:
    """In NVIDIA's words, with where to look."""
    await bench.source.start()
    bench.fake.gpu(2).all_code = 15
    await bench.read()
    assert "15: GPU is lost" in bench.finding(2).detail
    assert "Xid" in bench.finding(2).fix
