"""Temperatures and power meters on fixture trees of hwmon."""

import os
import threading
from pathlib import Path

import pytest

from tests.sources.tree import FakeClock, put, states
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.state import State
from wattkeeper.sources.base import Source
from wattkeeper.sources.files import read_whole
from wattkeeper.sources.hwmon import HwmonSource


def chip(sysfs: Path, number: int, files: dict[str, str]) -> Path:
    """Write one chip and return its folder."""
    folder = sysfs / "class/hwmon" / f"hwmon{number}"
    put(folder, files)
    return folder


def grace(sysfs: Path) -> None:
    """Write the eight sockets of a two-Grace board, as the ACPI driver shows them."""
    number = 0
    for socket in (0, 1):
        for scope, watts in (("Module", 700), ("Grace", 250), ("CPU", 180), ("SysIO", 40)):
            files = {
                "name": "power_meter\n",
                "device/power1_average": f"{watts * 1_000_000 + socket}\n",
                "device/power1_oem_info": f"{scope} Power Socket {socket}\n",
            }
            chip(sysfs, number, files)
            number += 1


async def test_temperatures(tmp_path: Path) -> None:
    """Packages only: not each core, not the disk."""
    core = {"name": "coretemp", "temp1_label": "Package id 0", "temp1_input": "54000"}
    chip(tmp_path, 0, core | {"temp2_label": "Core 0", "temp2_input": "50000"})
    chip(tmp_path, 1, {"name": "nvme", "temp1_label": "Composite", "temp1_input": "30000"})
    amd = {"name": "k10temp", "temp1_label": "Tctl", "temp1_input": "61500"}
    chip(tmp_path, 2, amd | {"temp3_label": "Tccd1", "temp3_input": "-2000"})
    source: Source = HwmonSource(tmp_path)
    await source.start()
    seen = {gauge.labels[0][1]: gauge.value for gauge in source.gauges()}
    assert seen == {"Package id 0": 54.0, "Tctl": 61.5, "Tccd1": -2.0}
    assert {"cpu_temperature_celsius"} == {gauge.name for gauge in source.gauges()}
    await source.close()


async def test_two_amd_sockets_are_told_apart(tmp_path: Path) -> None:
    """k10temp says Tctl on each socket: the order of the chips tells them apart."""
    for number in (10, 9):
        label = {"name": "k10temp", "temp1_label": "Tctl"}
        chip(tmp_path, number, label | {"temp1_input": f"{number}000"})
    source = HwmonSource(tmp_path)
    await source.start()
    seen = {gauge.labels[0][1]: gauge.value for gauge in source.gauges()}
    assert seen == {"Tctl/0": 9.0, "Tctl/1": 10.0}


@pytest.mark.parametrize("content", ["", "hot", "999999", "-", "1234567"])
async def test_impossible_temperature_is_missing(tmp_path: Path, content: str) -> None:
    """What no processor can say is failing and not exported; it recovers."""
    files = {"name": "coretemp", "temp1_label": "Package id 1", "temp1_input": content}
    folder = chip(tmp_path, 0, files)
    source = HwmonSource(tmp_path)
    await source.start()
    assert source.gauges() == ()
    assert states(list(source.findings()))["hwmon/Package id 1"] == State.FAILING
    put(folder, {"temp1_input": "40000"})
    await source.read(1.0)
    assert [gauge.value for gauge in source.gauges()] == [40.0]
    assert source.findings()[0].state == State.OK


async def test_grace_books_one_level(tmp_path: Path) -> None:
    """Module holds Grace, Grace holds CPU and SysIO: only Grace is a meter."""
    grace(tmp_path)
    source = HwmonSource(tmp_path)
    await source.start()
    specs = {spec.info.name: spec for spec in source.meters()}
    assert list(specs) == ["cpu/0/package", "cpu/1/package"]
    assert specs["cpu/0/package"].info.labels["scope"] == "grace"
    assert specs["cpu/0/package"].method == Method.INTEGRATED
    assert specs["cpu/0/package"].info.component == Component.CPU
    readings = await source.read(5.0)
    assert [reading.power_mw for reading in readings] == [250_000, 250_000]
    assert [reading.energy_uj for reading in readings] == [None, None]
    await source.close()


async def test_grace_is_not_added_to_a_module_counter(tmp_path: Path) -> None:
    """GH200's GPU counter covers the module: then Grace's own sensors would count twice."""
    grace(tmp_path)
    source = HwmonSource(tmp_path, module_metered=lambda: True)
    await source.start()
    assert list(source.meters()) == []
    assert list(await source.read(5.0)) == []
    assert "hwmon/grace" in states(list(source.findings()))
    await source.close()


async def test_cpu_socket_where_there_is_no_grace_socket(tmp_path: Path) -> None:
    """The next level down is booked."""
    oem = {"name": "power_meter", "power1_oem_info": "CPU Power Socket 0"}
    chip(tmp_path, 0, oem | {"power1_average": "90000000"})
    source = HwmonSource(tmp_path)
    await source.start()
    assert [spec.info.labels["scope"] for spec in source.meters()] == ["cpu"]
    await source.close()


async def test_host_meters_by_device(tmp_path: Path) -> None:
    """A host's ACPI meter; a second one is told by its ACPI name, never by hwmon's number."""
    for number, device, power in ((3, "ACPI000D:01", "2"), (7, "ACPI000D:00", "1")):
        target = tmp_path / "devices" / device
        put(target, {"power1_average": f"{power}000500000"})
        folder = chip(tmp_path, number, {"name": "power_meter"})
        (folder / "device").symlink_to(target)
    source = HwmonSource(tmp_path)
    await source.start()
    assert [spec.info.component for spec in source.meters()] == [Component.HOST] * 2
    readings = {reading.meter: reading.power_mw for reading in await source.read(5.0)}
    expected = {"host/power_meter": 1_000_500, "host/power_meter/ACPI000D:01": 2_000_500}
    assert expected == readings
    await source.close()


@pytest.mark.parametrize("content", ["0", "", "-1", "many", "999999999999"])
async def test_impossible_power_is_missing(tmp_path: Path, content: str) -> None:
    """A running machine never draws 0 W: no reading rather than a zero."""
    chip(tmp_path, 0, {"name": "power_meter", "power1_average": content})
    source = HwmonSource(tmp_path)
    await source.start()
    assert list(await source.read(5.0)) == []
    assert states(list(source.findings()))["host/power_meter"] == State.FAILING
    await source.close()


async def test_hung_firmware_is_stale_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power meter that never answers costs its own reading only, and comes back."""
    gate = threading.Event()

    def hanging(file: Path, most: int) -> int:
        if "hwmon0" in str(file):
            gate.wait()
        return read_whole(file, most)

    monkeypatch.setattr("wattkeeper.sources.hwmon.read_whole", hanging)
    chip(tmp_path, 0, {"name": "power_meter", "power1_average": "400000000"})
    oem = {"name": "power_meter", "power1_oem_info": "Grace Power Socket 0"}
    chip(tmp_path, 1, oem | {"power1_average": "200000000"})
    source = HwmonSource(tmp_path)
    await source.start()
    assert [reading.meter for reading in await source.read(0.2)] == ["cpu/0/package"]
    assert states(list(source.findings()))["host/power_meter"] == State.STALE
    gate.set()
    assert {"cpu/0/package", "host/power_meter"} == {r.meter for r in await source.read(5.0)}
    assert source.findings()[0].state == State.OK
    await source.close()


async def test_denied_meter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied is its own state, with a remedy."""
    chip(tmp_path, 0, {"name": "power_meter", "power1_average": "400000000"})
    source = HwmonSource(tmp_path)
    await source.start()
    real = os.open

    def guarded(path: Path, flags: int) -> int:
        if str(path).endswith("power1_average"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags)

    monkeypatch.setattr(os, "open", guarded)
    assert list(await source.read(5.0)) == []
    finding = source.findings()[1]
    assert (finding.state, "CAP_DAC_READ_SEARCH" in finding.fix) == (State.DENIED, True)
    await source.close()


async def test_absent_and_later_there_under_another_number(tmp_path: Path) -> None:
    """No hwmon at all is absent; a chip that appears or moves is found within a minute."""
    clock = FakeClock()
    source = HwmonSource(tmp_path, clock)
    await source.start()
    assert source.findings()[0].state == State.ABSENT
    folder = chip(tmp_path, 0, {"name": "power_meter", "power1_average": "300000000"})
    clock.now_ns += 61_000_000_000
    assert [reading.power_mw for reading in await source.read(5.0)] == [300_000]
    folder.rename(folder.with_name("hwmon4"))
    clock.now_ns += 61_000_000_000
    assert [reading.power_mw for reading in await source.read(5.0)] == [300_000]
    assert len(source.meters()) == 1
    await source.close()
