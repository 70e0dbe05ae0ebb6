"""The NVIDIA source says what the hardware counted, and leaves out what it did not."""

import os
import time

import pytest

from tests.fake_nvml.bench import Bench
from tests.fake_nvml.library import ENERGY, FIELDS, POWER, PROCESSES, TEMPERATURE, UTILIZATION
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import State
from wattkeeper.sources.base import DeviceProcess, ProcessLister, Releasable, Source

pytestmark = pytest.mark.compiler

START_NS = 5_000_000_000_000


def gauges(found: tuple[Gauge, ...], name: str) -> dict[str, float]:
    """Return the values of one metric by its last label."""
    return {gauge.labels[-1][1]: gauge.value for gauge in found if gauge.name == name}


async def test_is_a_source(bench: Bench) -> None:
    """It fits all three protocols that the agent knows."""
    source: Source = bench.source
    assert source.name == "nvml"
    assert isinstance(bench.source, ProcessLister)
    assert isinstance(bench.source, Releasable)


async def test_joules_are_the_exact_integral(bench: Bench) -> None:
    """Over a run with time under control every reading is the waveform's exact integral."""
    for i, (step, square) in enumerate([(20, False), (100, True), (50, False), (25, True)]):
        gpu = bench.fake.gpu(i)
        gpu.wave(350 + i, 200, 3.7 + i, square=square)
        gpu.step_ms = step
        gpu.origin_ns = 17
    bench.fake.set_time(START_NS)
    await bench.source.start()
    for tick in range(60):
        now = START_NS + tick * 1_003_000_001
        bench.fake.set_time(now)
        readings = await bench.read()
        expected = {i: bench.fake.gpu(i).energy_mj(now) * 1000 for i in range(4)}
        assert expected == {i: reading.energy_uj for i, reading in readings.items()}


async def test_joules_in_real_time(bench: Bench) -> None:
    """In real time the reading's own instant is right to one step of the counter."""
    await bench.source.start()
    for _ in range(20):
        for i, reading in (await bench.read()).items():
            gpu = bench.fake.gpu(i)
            step_ns = gpu.step_ms * 1_000_000
            assert reading.energy_uj is not None
            assert (
                gpu.energy_mj(reading.boot_ns - step_ns) * 1000
                <= reading.energy_uj
                <= gpu.energy_mj(reading.boot_ns + step_ns) * 1000
            )


async def test_instant_is_of_this_machine(bench: Bench) -> None:
    """The child's clock is CLOCK_BOOTTIME, the same in both processes."""
    await bench.source.start()
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    readings = await bench.read()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert sorted(readings) == [0, 1, 2, 3]
    assert all(before <= reading.boot_ns <= after for reading in readings.values())


async def test_meter(bench: Bench) -> None:
    """A meter is called by UUID and numbered in PCI order, whatever the driver's order."""
    bench.fake.gpu(0).bus_id = b"00000000:F0:00.0"
    await bench.source.start()
    specs = {spec.info.name: spec for spec in bench.source.meters()}
    spec = specs[bench.fake.meter(0)]
    assert spec.info.component == Component.GPU
    assert spec.method == Method.COUNTER
    assert spec.limit_mw == 700_000
    assert spec.load == "610.43.02"
    assert {
        "gpu": "3",
        "uuid": bench.fake.gpu(0).uuid.decode(),
        "pci_bus_id": "00000000:F0:00.0",
        "model": "NVIDIA H100 80GB HBM3",
        "driver": "610.43.02",
        "vendor": "nvidia",
        "scope": "gpu",
        "architecture": "hopper",
        "serial": "16500000000000",
        "board": "900-21010-0000-000",
        "minor": "0",
    } == spec.info.labels


async def test_values(bench: Bench) -> None:
    """Every value arrives in the units of the model, slow ones from the second tick on."""
    bench.fake.set_time(START_NS)
    gpu = bench.fake.gpu(1)
    gpu.wave(300, 150, 8, square=True)
    gpu.origin_ns = START_NS - 9_000_000_000
    gpu.throttle_ns[:] = [1_500_000_000, 7_000_000_000, 0, 250_000_000, 0]
    await bench.source.start()
    reading = (await bench.read())[1]
    assert reading.power_mw == 450_000
    assert reading.power_limit_mw == 700_000
    assert reading.temperature_mc == 56_000
    assert reading.utilization_ppm == 900_000
    assert reading.memory_used_bytes == 20 << 30
    assert reading.clock_khz == 1_970_000
    assert reading.throttled_ms == 1_750
    found = reading.gauges
    temperatures = gauges(found, "gpu_temperature_celsius")
    assert temperatures == {"gpu": 56, "memory": 61, "margin": 29}
    ratios = gauges(found, "gpu_utilization_ratio")
    assert ratios == {"gpu": 0.9, "memory": 0.4, "encoder": 0, "decoder": 0}
    clocks = gauges(found, "gpu_clock_hertz")
    assert pytest.approx(clocks) == {"sm": 1.97e9, "memory": 2.619e9, "graphics": 1.98e9}
    assert gauges(found, "gpu_throttle_seconds_total") == {
        "sw_power_cap": 1.5,
        "sync_boost": 7,
        "sw_thermal": 0,
        "hw_thermal": 0.25,
        "hw_power_brake": 0,
    }
    uuid = gpu.uuid.decode()
    assert {uuid: 450} == gauges(found, "gpu_power_average_watts")
    assert {uuid: 80 << 30} == gauges(found, "gpu_memory_total_bytes")


async def test_missing_counter(bench: Bench) -> None:
    """Without an energy counter the meter is integrated and energy is missing, not zero."""
    bench.fake.gpu(2).code[ENERGY] = 3
    await bench.source.start()
    reading = (await bench.read())[2]
    methods = [spec.method for spec in bench.source.meters()]
    assert methods == [Method.COUNTER, Method.COUNTER, Method.INTEGRATED, Method.COUNTER]
    assert reading.energy_uj is None
    assert reading.power_mw is not None
    assert "power is integrated" in bench.finding(2).detail


async def test_counter_fails_for_a_while(bench: Bench) -> None:
    """An unknown error of the counter leaves it a counter, and its reading out."""
    await bench.source.start()
    bench.fake.gpu(0).code[ENERGY] = 999
    assert (await bench.read())[0].energy_uj is None
    bench.fake.gpu(0).code[ENERGY] = 0
    assert (await bench.read())[0].energy_uj is not None
    assert bench.source.meters()[0].method == Method.COUNTER


async def test_neither_counter_nor_power(bench: Bench) -> None:
    """A GPU that tells nothing of its power fails by name; the others are metered."""
    bench.fake.gpu(3).code[ENERGY] = bench.fake.gpu(3).code[POWER] = 3
    await bench.source.start()
    assert sorted(await bench.read()) == [0, 1, 2]
    assert bench.finding(3).state == State.FAILING
    assert "neither an energy counter nor" in bench.finding(3).fix


async def test_no_permission(bench: Bench) -> None:
    """Denied is another state than failing, with its own remedy."""
    bench.fake.gpu(1).code[ENERGY] = bench.fake.gpu(1).code[POWER] = 4
    await bench.source.start()
    assert bench.finding(1).state == State.DENIED
    assert "/dev/nvidia*" in bench.finding(1).fix


async def test_unsupported_fields(bench: Bench) -> None:
    """Where single fields are not offered, the plain calls stand in for them."""
    gpu = bench.fake.gpu(0)
    gpu.without_fields(186, 185, 82, 190, 74, 76, 269, 270, 271)
    gpu.event_reasons = 0x20
    await bench.source.start()
    first = (await bench.read())[0]
    second = (await bench.read())[0]
    assert second.power_mw is not None
    assert second.power_limit_mw == 700_000
    assert "memory" not in gauges(second.gauges, "gpu_temperature_celsius")
    throttled = [
        gauges(reading.gauges, "gpu_throttle_seconds_total")["sw_thermal"]
        for reading in (first, second)
    ]
    elapsed_s = (second.boot_ns - first.boot_ns) / 1e9
    assert elapsed_s == pytest.approx(throttled[1] - throttled[0])


async def test_no_field_values(bench: Bench) -> None:
    """A driver without nvmlDeviceGetFieldValues is metered by the plain calls alone."""
    bench.fake.set_field_values(works=False)
    await bench.source.start()
    reading = (await bench.read())[0]
    assert None not in (reading.energy_uj, reading.power_mw, reading.power_limit_mw)


async def test_field_error_is_not_a_value(bench: Bench) -> None:
    """A value with a return code of its own is missing, though the call succeeded."""
    await bench.source.start()
    bench.fake.gpu(0).code[TEMPERATURE] = 999
    bench.fake.gpu(0).code[UTILIZATION] = 999
    bench.fake.gpu(1).code[FIELDS] = 999
    readings = await bench.read()
    assert readings[0].temperature_mc is None
    assert readings[0].utilization_ppm is None
    assert readings[0].energy_uj is not None
    assert readings[1].power_mw is not None
    assert gauges(readings[1].gauges, "gpu_power_average_watts") == {}


async def test_module_scope(bench: Bench) -> None:
    """On a Grace superchip the counter covers the module, and the meter says so."""
    bench.fake.gpu(0).name = b"NVIDIA GH200 480GB"
    await bench.source.start()
    assert bench.source.meters()[0].info.labels["scope"] == "module"
    assert bench.source.meters()[1].info.labels["scope"] == "gpu"


async def test_mig(bench: Bench) -> None:
    """MIG has no meter: the GPU keeps its one, and its instances are information."""
    bench.fake.gpu(1).slice(("MIG-a", "1g.10gb", 1), ("MIG-b", "3g.40gb", 3))
    await bench.source.start()
    reading = (await bench.read())[1]
    assert len(bench.source.meters()) == 4
    assert bench.source.meters()[1].info.labels["mig"] == "1"
    assert "mig" not in bench.source.meters()[0].info.labels
    assert reading.energy_uj is not None
    assert reading.utilization_ppm is None
    uuid = bench.fake.gpu(1).uuid.decode()
    assert [
        (("uuid", uuid), ("mig_uuid", "MIG-a"), ("profile", "1g.10gb"), ("slices", "1")),
        (("uuid", uuid), ("mig_uuid", "MIG-b"), ("profile", "3g.40gb"), ("slices", "3")),
    ] == [gauge.labels for gauge in reading.gauges if gauge.name == "gpu_mig_info"]


async def test_processes(bench: Bench) -> None:
    """Processes come with the host's PIDs, and with SM time where several share a GPU."""
    bench.fake.gpu(0).processes([os.getpid()])
    bench.fake.gpu(1).processes([os.getpid(), 1], [30, 60])
    bench.fake.gpu(2).code[PROCESSES] = 999
    await bench.source.start()
    listed = bench.source.processes()
    assert [DeviceProcess(os.getpid())] == listed[bench.fake.meter(0)]
    shared = [DeviceProcess(1, 600_000), DeviceProcess(os.getpid(), 300_000)]
    assert shared == sorted(listed[bench.fake.meter(1)], key=lambda process: process.pid)
    assert bench.fake.meter(2) not in listed
    assert listed[bench.fake.meter(3)] == []


async def test_processes_are_looked_at_more_often_when_holders_change(bench: Bench) -> None:
    """Ten seconds are long for a job that has just begun: two, for a while."""
    await bench.source.start()
    bench.fake.gpu(0).processes([7])
    bench.source.hurry()
    began = time.monotonic()
    await bench.read_until(lambda _: bench.source.processes()[bench.fake.meter(0)] != [])
    assert time.monotonic() - began < 5


async def test_sixteen_gpus(bench: Bench) -> None:
    """Sixteen GPUs answer in one tick."""
    bench.fake.set_count(16)
    await bench.source.start()
    assert len(await bench.read()) == 16
