"""The AMD source says what the hardware counted, one meter for what has one counter."""

import math
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.fake_amd.bench import AmdBench
from tests.fake_amd.library import (
    ENERGY,
    INFO,
    LIMITS,
    POWER,
    PROCESSES,
    VIOLATIONS,
    compile_library,
)
from tests.sources.bench import child_pids
from tests.sources.test_nvml import gauges
from wattkeeper.model.meter import Method, Partition
from wattkeeper.model.state import State
from wattkeeper.sources.amd import binding
from wattkeeper.sources.base import DeviceProcess

pytestmark = pytest.mark.compiler

START_NS = 5_000_000_000_000


async def test_joules_are_the_exact_count(amd_bench: AmdBench) -> None:
    """Whole microjoules of a count in 2⁻¹⁶ J, whatever rounding of it the library tells."""
    for i, resolution in enumerate((15.3, 15.259, 15.2587890625, 15.26)):
        amd_bench.fake.gpu(i).resolution_uj = resolution
        amd_bench.fake.gpu(i).origin_ns = 17
    amd_bench.fake.set_time(START_NS)
    await amd_bench.source.start()
    for tick in range(30):
        now = START_NS + tick * 1_003_000_001
        amd_bench.fake.set_time(now)
        readings = await amd_bench.read()
        expected = {i: amd_bench.fake.gpu(i).energy_uj(now) for i in range(4)}
        assert expected == {i: reading.energy_uj for i, reading in readings.items()}


async def test_meter(amd_bench: AmdBench) -> None:
    """A meter is called as HIP calls the GPU, and numbered in PCI order."""
    amd_bench.fake.gpu(0).bus = 0xF0
    amd_bench.fake.show(0)
    await amd_bench.source.start()
    specs = {spec.info.name: spec for spec in amd_bench.source.meters()}
    spec = specs["gpu/GPU-000000005c1fa600"]
    assert spec.method == Method.COUNTER
    assert spec.limit_mw == 750_000
    assert spec.load.startswith("6.12.12/")
    assert {
        "gpu": "3",
        "uuid": "GPU-000000005c1fa600",
        "pci_bus_id": "0000:f0:00.0",
        "model": "AMD Instinct MI300X",
        "driver": "6.12.12",
        "vendor": "amd",
        "scope": "gpu",
        "architecture": "gfx942",
        "serial": "692325000000",
        "board": "102-G30211-0C",
        "minor": "128",
    } == spec.info.labels


async def test_values(amd_bench: AmdBench) -> None:
    """Every value arrives in the units of the model."""
    await amd_bench.source.start()
    reading = (await amd_bench.read())[1]
    assert reading.power_mw == 410_000
    assert reading.power_limit_mw == 750_000
    assert reading.temperature_mc == 63_000
    assert reading.utilization_ppm == 900_000
    assert reading.memory_used_bytes == 20 << 30
    assert reading.clock_khz == 2_100_000
    found = reading.gauges
    assert gauges(found, "gpu_temperature_celsius") == {"gpu": 63, "hotspot": 63, "memory": 56}
    assert gauges(found, "gpu_utilization_ratio") == {"gpu": 0.9, "memory": 0.4}
    assert gauges(found, "gpu_clock_hertz") == {"sm": 2.1e9, "memory": 901e6, "soc": 1.2e9}
    assert gauges(found, "gpu_memory_total_bytes") == {amd_bench.fake.uuid(1): 192 << 30}


async def test_throttling_is_the_part_of_the_firmwares_samples(amd_bench: AmdBench) -> None:
    """What of its samples were limited, laid on the time between two looks."""
    gpu = amd_bench.fake.gpu(0)
    gpu.samples, gpu.violations[1] = 1_000, 400
    began = time.monotonic()
    await amd_bench.source.start()
    first = await amd_bench.read()
    assert first[0].throttled_ms == 0
    gpu.samples, gpu.violations[1] = 3_000, 900
    amd_bench.source.hurry()
    after = await amd_bench.read_until(lambda found: bool(found[0].throttled_ms))
    spent_s = gauges(after[0].gauges, "gpu_throttle_seconds_total")
    assert 0.25 * 1.9 < spent_s["sw_power_cap"] < 0.25 * (time.monotonic() - began)
    assert spent_s["hw_thermal"] == 0


async def test_no_throttle_counters(amd_bench: AmdBench) -> None:
    """Before MI300 there are none, and none are shown."""
    amd_bench.fake.gpu(0).code[VIOLATIONS] = 2
    await amd_bench.source.start()
    assert (await amd_bench.read())[0].throttled_ms is None


async def test_a_silent_counter_is_none(amd_bench: AmdBench) -> None:
    """One that says 0 counts nothing: power is integrated."""
    gpu = amd_bench.fake.gpu(2)
    gpu.stopped_ns = gpu.origin_ns
    await amd_bench.source.start()
    reading = (await amd_bench.read())[2]
    assert amd_bench.source.meters()[2].method == Method.INTEGRATED
    assert (reading.energy_uj, reading.power_mw) == (None, 420_000)
    assert "power is integrated" in amd_bench.finding(2).detail


async def test_a_counter_that_fails_at_first(amd_bench: AmdBench) -> None:
    """A library that is busy when the GPU is looked up leaves it a counter."""
    amd_bench.fake.gpu(0).code[ENERGY] = 30
    await amd_bench.source.start()
    assert (await amd_bench.read())[0].energy_uj is None
    amd_bench.fake.gpu(0).code[ENERGY] = 0
    assert (await amd_bench.read())[0].energy_uj is not None
    assert amd_bench.source.meters()[0].method == Method.COUNTER


async def test_neither_counter_nor_power(amd_bench: AmdBench) -> None:
    """Such a GPU fails by name; the others are metered."""
    amd_bench.fake.gpu(3).code[ENERGY] = amd_bench.fake.gpu(3).code[POWER] = 2
    await amd_bench.source.start()
    assert sorted(await amd_bench.read()) == [0, 1, 2]
    assert amd_bench.finding(3).state == State.FAILING
    assert "neither an energy counter nor" in amd_bench.finding(3).fix


async def test_denied(amd_bench: AmdBench) -> None:
    """Without access to the device files, the groups are named."""
    amd_bench.fake.gpu(1).code[ENERGY] = amd_bench.fake.gpu(1).code[POWER] = 10
    await amd_bench.source.start()
    assert amd_bench.finding(1).state == State.DENIED
    assert "render, video" in amd_bench.finding(1).fix


@pytest.mark.parametrize(
    ("count", "resolution"),
    [((1 << 64) - 1, 15.3), (1 << 60, 15.3), (1 << 40, 0), (1, math.nan), (1, math.inf)],
)
async def test_a_count_that_is_none(amd_bench: AmdBench, count: int, resolution: float) -> None:
    """What the library says instead of a count is missing, and blinds nobody."""
    gpu = amd_bench.fake.gpu(1)
    gpu.power_mw, gpu.offset, gpu.resolution_uj = 0, count - (count >> 63 << 64), resolution
    await amd_bench.source.start()
    readings = await amd_bench.read()
    assert [readings[i].energy_uj is None for i in (0, 2, 3)] == [False] * 3
    assert 1 not in readings or readings[1].energy_uj is None


async def test_garbage_is_not_said(amd_bench: AmdBench) -> None:
    """What the binding cannot convert leaves out that value alone."""
    amd_bench.fake.gpu(0).serial = b"\xff\xfe"
    await amd_bench.source.start()
    assert "serial" not in amd_bench.source.meters()[0].info.labels
    assert len(await amd_bench.read()) == 4


async def test_without_an_id_of_its_own(amd_bench: AmdBench, tmp_path: Path) -> None:
    """A GPU that the kernel has no number of is called by its address."""
    device = tmp_path / "bus/pci/devices" / amd_bench.fake.address(0)
    (device / "unique_id").unlink()
    await amd_bench.source.start()
    assert amd_bench.source.meters()[0].info.name == "gpu/0000:c1:00.0"


async def test_two_dies_have_one_meter(amd_bench: AmdBench) -> None:
    """The first die of an MI250X counts for both; each is half of the meter."""
    amd_bench.fake.pair(0)
    amd_bench.fake.pair(2)
    amd_bench.fake.gpu(2).processes([7])
    amd_bench.fake.gpu(3).processes([8, 7])
    amd_bench.fake.gpu(3).gfx_percent[0] = 30
    await amd_bench.source.start()
    readings = await amd_bench.read()
    assert sorted(readings) == [0, 2]
    assert readings[2].temperature_mc == 65_000
    assert readings[2].utilization_ppm == 600_000
    assert readings[2].memory_used_bytes == 40 << 30
    assert "0000:c4:00.0 has no meter of its own" in amd_bench.finding(2).detail
    assert amd_bench.source.meters()[1].info.labels["dies"] == "0000:c4:00.0"
    meter = amd_bench.fake.meter(2)
    first, second = amd_bench.fake.uuid(2), amd_bench.fake.uuid(3)
    parts = amd_bench.source.partitions()
    assert parts[first] == Partition(first, meter, 0, 500_000, 500_000)
    assert parts[second] == Partition(second, meter, 1, 500_000, 500_000)
    assert amd_bench.source.processes()[meter] == [
        DeviceProcess(7, 900_000, first),
        DeviceProcess(7, 300_000, second),
        DeviceProcess(8, 300_000, second),
    ]


async def test_a_second_die_that_offers_no_counter(amd_bench: AmdBench) -> None:
    """It says that instead of 0, and belongs to the first all the same."""
    amd_bench.fake.pair(0)
    amd_bench.fake.gpu(1).code[ENERGY] = 2
    await amd_bench.source.start()
    assert sorted(await amd_bench.read()) == [0, 2, 3]
    assert amd_bench.fake.uuid(1) in amd_bench.source.partitions()


async def test_partitions_share_the_meter_of_their_socket(amd_bench: AmdBench) -> None:
    """An MI300 in four partitions is one meter with four parts."""
    amd_bench.fake.gpu(1).parts = 4
    amd_bench.fake.gpu(1).processes([7, 8], [0, 3])
    await amd_bench.source.start()
    assert len(await amd_bench.read()) == 4
    uuid = amd_bench.fake.uuid(1)
    assert [(p.uuid, p.memory_ppm) for p in amd_bench.source.partitions().values()] == [
        (f"{uuid}/{n}", 250_000) for n in range(4)
    ]
    found = amd_bench.source.processes()[amd_bench.fake.meter(1)]
    assert [process.partition for process in found] == [f"{uuid}/0", f"{uuid}/3"]
    assert amd_bench.source.meters()[1].info.labels["parts"] == "1"


async def test_an_apu_counts_its_processors(amd_bench: AmdBench) -> None:
    """The meter of an MI300A has the scope of the module, so that nobody counts them again."""
    amd_bench.fake.apu(0)
    await amd_bench.source.start()
    assert amd_bench.source.meters()[0].info.labels["scope"] == "module"
    assert "processors of its socket" in amd_bench.finding(0).detail


async def test_a_gpu_in_a_processor_is_left_to_rapl(amd_bench: AmdBench) -> None:
    """It has neither limit nor counter, and its power is that of the package."""
    for i in range(4):
        amd_bench.fake.gpu(i).code[LIMITS] = amd_bench.fake.gpu(i).code[ENERGY] = 2
    await amd_bench.source.start()
    assert list(amd_bench.source.meters()) == []
    assert amd_bench.finding().state == State.ABSENT


async def test_processes(amd_bench: AmdBench) -> None:
    """A list that failed is unknown, an empty one is nobody."""
    amd_bench.fake.gpu(0).processes([os.getpid()])
    amd_bench.fake.gpu(2).code[PROCESSES] = 999
    await amd_bench.source.start()
    listed = amd_bench.source.processes()
    assert [DeviceProcess(os.getpid())] == listed[amd_bench.fake.meter(0)]
    assert amd_bench.fake.meter(2) not in listed
    assert listed[amd_bench.fake.meter(3)] == []


async def test_no_names(amd_bench: AmdBench) -> None:
    """A library that tells no names meters as well."""
    for i in range(4):
        amd_bench.fake.gpu(i).code[INFO] = 2
    await amd_bench.source.start()
    assert len(await amd_bench.read()) == 4
    assert amd_bench.source.meters()[0].info.labels["model"] == ""


async def test_release_of_one_is_of_all(amd_bench: AmdBench) -> None:
    """The library opens every GPU: none is left open while one is released."""
    await amd_bench.source.start()
    released = await amd_bench.source.release(amd_bench.fake.meter(1), 1)
    assert released == [amd_bench.fake.meter(i) for i in range(4)]
    assert child_pids() == []
    assert [amd_bench.finding().state, *amd_bench.states()] == [State.RELEASED] * 5
    await amd_bench.read_until(lambda found: len(found) == 4)


async def test_driver_reload(amd_bench: AmdBench, tmp_path: Path) -> None:
    """Another load of amdgpu is another epoch."""
    await amd_bench.source.start()
    before = {spec.load for spec in amd_bench.source.meters()}
    (tmp_path / "module/amdgpu").rename(tmp_path / "module/old")
    (tmp_path / "module/amdgpu").mkdir()
    amd_bench.fake.reload(driver="6.14.1")
    assert await amd_bench.read() == {}
    await amd_bench.read_until(lambda found: len(found) == 4)
    assert not before & {spec.load for spec in amd_bench.source.meters()}


@pytest.mark.parametrize(
    ("code", "state", "fix"),
    [
        (34, State.ABSENT, "modprobe amdgpu"),
        (10, State.DENIED, "/dev/kfd"),
        (18, State.FAILING, ""),
    ],
)
async def test_init_fails(amd_bench: AmdBench, code: int, state: State, fix: str) -> None:
    """Why amdsmi_init failed is told with its remedy, and metering begins once it works."""
    amd_bench.fake.set_init(code)
    await amd_bench.source.start()
    assert amd_bench.finding().state == state
    assert f"amdsmi_init returned {code}" in amd_bench.finding().detail
    assert fix in amd_bench.finding().fix
    amd_bench.fake.set_init(0)
    await amd_bench.read_until(lambda found: len(found) == 4)


async def test_no_driver(amd_bench: AmdBench, tmp_path: Path) -> None:
    """Without amdgpu no process is started."""
    (tmp_path / "module/amdgpu").rmdir()
    await amd_bench.source.start()
    assert amd_bench.finding().state == State.ABSENT
    assert child_pids(dead=True) == []


async def test_no_library(amd_bench: AmdBench, tmp_path: Path) -> None:
    """A binding without its library says where it looked, and what to install."""
    amd_bench.library = tmp_path / "nowhere"
    amd_bench.source = amd_bench.build()
    await amd_bench.source.start()
    assert amd_bench.finding().state == State.ABSENT
    assert f"{tmp_path}/nowhere/lib" in amd_bench.finding().detail
    assert "amd-smi-lib" in amd_bench.finding().fix


async def test_library_of_another_version(amd_bench: AmdBench, tmp_path: Path) -> None:
    """A library that lacks what the binding looks up is told as what it is."""
    amd_bench.library = compile_library(tmp_path / "old", without=["amdsmi_get_afids_from_cper"])
    amd_bench.source = amd_bench.build()
    await amd_bench.source.start()
    assert amd_bench.finding().state == State.FAILING
    assert "amdsmi_get_afids_from_cper" in amd_bench.finding().detail
    assert "two versions of ROCm" in amd_bench.finding().fix


def test_the_binding_of_rocm_goes_first(tmp_path: Path) -> None:
    """Its structures are those of its own library."""
    installed = binding(tmp_path)
    assert installed is not None
    own = tmp_path / "share/amd_smi"
    shutil.copytree(installed / "amdsmi", own / "amdsmi")
    assert binding(tmp_path) == own
