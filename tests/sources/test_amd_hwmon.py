"""AMD GPUs without amdsmi: power from hwmon, under the names that amdsmi would use."""

from pathlib import Path

import pytest

from tests.fake_amd.bench import AmdBench
from tests.sources.test_nvml import gauges
from tests.sources.tree import FakeClock, put, states
from wattkeeper.model.meter import Method, Partition
from wattkeeper.model.state import State
from wattkeeper.sources.amd_hwmon import AmdHwmonSource

MI300X = {
    "name": "amdgpu\n",
    "power1_average": "412000000\n",
    "power1_cap": "700000000\n",
    "power1_cap_max": "750000000\n",
    "temp1_label": "edge\n",
    "temp1_input": "48000\n",
    "temp2_label": "junction\n",
    "temp2_input": "61000\n",
    "temp3_label": "mem\n",
    "temp3_input": "55000\n",
    "freq1_label": "sclk\n",
    "freq1_input": "2100000000\n",
    "freq2_label": "mclk\n",
    "freq2_input": "1300000000\n",
}
PCI = {
    "vendor": "0x1002\n",
    "class": "0x120000\n",
    "unique_id": "5c1fa600\n",
    "product_name": "AMD Instinct MI300X\n",
    "serial_number": "692325000000\n",
    "gpu_busy_percent": "93\n",
    "mem_busy_percent": "41\n",
    "mem_info_vram_total": f"{192 << 30}\n",
    "mem_info_vram_used": f"{20 << 30}\n",
    "drm/renderD130/dev": "226:130\n",
}


def gpu(
    sysfs: Path, address: str, chip: str, hwmon: dict[str, str], pci: dict[str, str] | None = None
) -> None:
    """Write a GPU as the amdgpu driver shows it."""
    folder = f"bus/pci/devices/{address}"
    put(sysfs, {f"{folder}/{name}": text for name, text in (pci or PCI).items()})
    put(sysfs, {f"class/hwmon/{chip}/{name}": text for name, text in hwmon.items()})
    device = sysfs / "class/hwmon" / chip / "device"
    if not device.is_symlink():
        device.symlink_to(sysfs / folder)


def without(values: dict[str, str], *names: str) -> dict[str, str]:
    """Return the files but these."""
    return {name: text for name, text in values.items() if name not in names}


async def started(sysfs: Path) -> AmdHwmonSource:
    """Return a source that stands in."""
    source = AmdHwmonSource(sysfs, lambda: True, FakeClock())
    await source.start()
    return source


async def test_a_gpu(tmp_path: Path) -> None:
    """Power is integrated; the meter is called as HIP calls the GPU."""
    gpu(tmp_path, "0000:c1:00.0", "hwmon3", MI300X)
    put(tmp_path, {"module/amdgpu/version": "6.12.12\n"})
    source = await started(tmp_path)
    [spec] = source.meters()
    assert spec.info.name == "gpu/GPU-000000005c1fa600"
    assert (spec.method, spec.limit_mw) == (Method.INTEGRATED, 750_000)
    assert spec.info.labels == {
        "gpu": "0",
        "uuid": "GPU-000000005c1fa600",
        "pci_bus_id": "0000:c1:00.0",
        "model": "AMD Instinct MI300X",
        "driver": "6.12.12",
        "vendor": "amd",
        "scope": "gpu",
        "serial": "692325000000",
        "minor": "130",
    }
    [reading] = await source.read(1)
    assert reading.energy_uj is None
    assert (reading.power_mw, reading.power_limit_mw) == (412_000, 700_000)
    assert (reading.temperature_mc, reading.utilization_ppm) == (48_000, 930_000)
    assert (reading.memory_used_bytes, reading.clock_khz) == (20 << 30, 2_100_000)
    temperatures = gauges(reading.gauges, "gpu_temperature_celsius")
    assert temperatures == {"gpu": 48, "hotspot": 61, "memory": 55}
    assert gauges(reading.gauges, "gpu_clock_hertz") == {"sm": 2.1e9, "memory": 1.3e9}
    assert gauges(reading.gauges, "gpu_utilization_ratio") == {"gpu": 0.93, "memory": 0.41}
    await source.close()


async def test_newer_kernels_name_power_otherwise(tmp_path: Path) -> None:
    """`power1_input` where there is no average, and nothing is made up for what is missing."""
    chip = without(MI300X, "power1_average", "temp1_label") | {"power1_input": "99000000\n"}
    gpu(tmp_path, "0000:c1:00.0", "hwmon0", chip, without(PCI, "gpu_busy_percent", "unique_id"))
    source = await started(tmp_path)
    assert [spec.info.name for spec in source.meters()] == ["gpu/0000:c1:00.0"]
    [reading] = await source.read(1)
    assert (reading.power_mw, reading.utilization_ppm) == (99_000, None)
    assert reading.temperature_mc == 61_000
    await source.close()


async def test_an_apu_counts_its_processors(tmp_path: Path) -> None:
    """RAPL is told by the scope, as with amdsmi."""
    gpu(tmp_path, "0000:c1:00.0", "hwmon0", MI300X, PCI | {"device": "0x74a0\n"})
    source = await started(tmp_path)
    assert source.meters()[0].info.labels["scope"] == "module"
    await source.close()


async def test_what_shares_the_power_of_another_is_not_metered(tmp_path: Path) -> None:
    """The second die of an MI250X has no limit of its own, a GPU in a processor has none at all."""
    gpu(tmp_path, "0000:c1:00.0", "hwmon0", MI300X)
    second = MI300X | {"power1_cap": "0\n", "power1_average": "0\n"}
    gpu(tmp_path, "0000:c6:00.0", "hwmon1", second, PCI | {"unique_id": "2\n"})
    gpu(
        tmp_path, "0000:04:00.0", "hwmon2", without(MI300X, "power1_cap"), without(PCI, "unique_id")
    )
    source = await started(tmp_path)
    assert [spec.info.labels["pci_bus_id"] for spec in source.meters()] == ["0000:c1:00.0"]
    assert source.partitions() == {
        uuid: Partition(uuid, "gpu/GPU-000000005c1fa600", number, 500_000, 500_000)
        for number, uuid in enumerate(("GPU-000000005c1fa600", "GPU-0000000000000002"))
    }
    details = " ".join(finding.detail for finding in source.findings())
    assert "0000:c6:00.0: the other die of its board counts for both" in details
    assert "0000:04:00.0: it draws from its processor's package" in details
    assert set(states([*source.findings()]).values()) == {State.OK}
    await source.close()


async def test_a_power_that_cannot_be_read(tmp_path: Path) -> None:
    """It is missing, never zero, and its GPU says why."""
    gpu(tmp_path, "0000:c1:00.0", "hwmon0", MI300X)
    source = await started(tmp_path)
    put(tmp_path, {"class/hwmon/hwmon0/power1_average": "-1\n"})
    assert await source.read(1) == []
    assert states([*source.findings()])["gpu/GPU-000000005c1fa600"] == State.FAILING
    assert source.findings()[0].state == State.FAILING
    await source.close()


@pytest.mark.compiler
async def test_never_both_at_once(amd_bench: AmdBench, tmp_path: Path) -> None:
    """It stands in while amdsmi fails, and leaves the same meter to it once it works."""
    gpu(tmp_path, amd_bench.fake.address(0), "hwmon0", MI300X)
    hwmon = AmdHwmonSource(tmp_path, lambda: amd_bench.blind)
    await hwmon.start()
    assert list(hwmon.meters()) == []
    amd_bench.fake.set_init(18)
    await amd_bench.source.start()
    [stood_in] = hwmon.meters()
    assert len(await hwmon.read(1)) == 1
    amd_bench.fake.set_init(0)
    await amd_bench.read_until(lambda found: len(found) == 4)
    assert (list(hwmon.meters()), await hwmon.read(1), hwmon.findings()) == ([], [], [])
    own = next(s for s in amd_bench.source.meters() if s.info.name == stood_in.info.name)
    assert (stood_in.method, own.method) == (Method.INTEGRATED, Method.COUNTER)
    assert stood_in.load != own.load
    await hwmon.close()
