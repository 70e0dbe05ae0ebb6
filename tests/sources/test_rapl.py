"""RAPL on fixture trees: what is booked, what is not, and what is said when it cannot be read."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.sources.tree import FakeClock, put, states
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.state import State
from wattkeeper.sources import rapl
from wattkeeper.sources.base import Source

RANGE = "262143328850\n"


def zone(name: str, energy: str = "1000\n", **more: str) -> dict[str, str]:
    """Return the files of one zone."""
    return {"name": f"{name}\n", "energy_uj": energy, "max_energy_range_uj": RANGE, **more}


def two_sockets(sysfs: Path) -> None:
    """Write a two-socket Xeon with its nested, psys and mmio zones."""
    zones = {
        "intel-rapl:0": zone("package-0", "111\n", constraint_0_max_power_uw="205000000\n"),
        "intel-rapl:0:0": zone("core", "1\n"),
        "intel-rapl:0:1": zone("uncore", "1\n"),
        "intel-rapl:0:2": zone("dram", "222\n", constraint_0_max_power_uw="0\n"),
        "intel-rapl:1": zone("package-1", "333\n"),
        "intel-rapl:1:0": zone("dram", "444\n"),
        "intel-rapl:2": zone("psys", "999\n"),
        "intel-rapl-mmio:0": zone("package-0", "111\n"),
    }
    for folder, files in zones.items():
        put(sysfs / "class/powercap" / folder, files)
    (sysfs / "class/powercap/intel-rapl").mkdir()


async def started(sysfs: Path, clock: FakeClock | None = None) -> rapl.RaplSource:
    """Return a source that has discovered a tree."""
    source = rapl.RaplSource(sysfs, clock)
    await source.start()
    return source


async def test_books_package_and_dram_only(tmp_path: Path) -> None:
    """Core, uncore, psys and mmio show joules that the packages hold already."""
    two_sockets(tmp_path)
    source: Source = await started(tmp_path)
    specs = {spec.info.name: spec for spec in source.meters()}
    assert list(specs) == ["cpu/0/package", "cpu/0/dram", "cpu/1/package", "cpu/1/dram"]
    assert specs["cpu/0/package"].info.component == Component.CPU
    assert specs["cpu/1/dram"].info.component == Component.DRAM
    assert specs["cpu/0/package"].wrap_uj == 262_143_328_850
    assert specs["cpu/0/package"].method == Method.COUNTER
    readings = {reading.meter: reading for reading in await source.read(1.0)}
    assert {name: reading.energy_uj for name, reading in readings.items()} == {
        "cpu/0/package": 111,
        "cpu/0/dram": 222,
        "cpu/1/package": 333,
        "cpu/1/dram": 444,
    }
    assert {None} == {reading.power_mw for reading in readings.values()}


async def test_says_what_is_left_out(tmp_path: Path) -> None:
    """Psys and mmio are named in the findings; neither is a fault."""
    two_sockets(tmp_path)
    findings = (await started(tmp_path)).findings()
    assert findings[0].subject == "rapl"
    assert findings[0].state == State.OK
    assert findings[0].detail == "4 of 4 zones answer"
    assert {"rapl/psys", "rapl/mmio"} <= {finding.subject for finding in findings}


async def test_amd_has_a_package_only(tmp_path: Path) -> None:
    """AMD's driver shows package and core; the core is inside."""
    put(tmp_path / "class/powercap/intel-rapl:0", zone("package-0"))
    put(tmp_path / "class/powercap/intel-rapl:0:0", zone("core"))
    source = await started(tmp_path)
    assert [spec.info.name for spec in source.meters()] == ["cpu/0/package"]


async def test_dies_of_a_socket_are_meters_of_their_own(tmp_path: Path) -> None:
    """Cascade Lake-AP counts each die; a second zone of one die is not booked twice."""
    put(tmp_path / "class/powercap/intel-rapl:0", zone("package-0-die-0"))
    put(tmp_path / "class/powercap/intel-rapl:1", zone("package-0-die-1"))
    put(tmp_path / "class/powercap/intel-rapl:2", zone("package-0-die-1"))
    source = await started(tmp_path)
    expected = ["cpu/0.0/package", "cpu/0.1/package"]
    assert expected == [spec.info.name for spec in source.meters()]
    assert "rapl/intel-rapl:2" in states(list(source.findings()))


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ({}, rapl.LIMIT_MW["package"]),
        ({"constraint_0_max_power_uw": "205000000", "constraint_1_power_limit_uw": "246000000"},
         246_000),
        ({"constraint_0_power_limit_uw": "15000000"}, rapl.LEAST_LIMIT_MW),
        ({"constraint_0_max_power_uw": "0"}, rapl.LIMIT_MW["package"]),
        ({"constraint_0_max_power_uw": "99999999999999"}, rapl.LIMIT_MW["package"]),
        ({"constraint_0_max_power_uw": "soon", "constraint_1_max_power_uw": "300000000"}, 300_000),
    ],
)  # fmt: skip
async def test_limit_comes_from_the_constraints(
    tmp_path: Path, constraints: dict[str, str], expected: int
) -> None:
    """The largest believable constraint, held above a cap that the draw may exceed."""
    put(tmp_path / "class/powercap/intel-rapl:0", zone("package-0", **constraints))
    source = await started(tmp_path)
    assert [expected] == [spec.limit_mw for spec in source.meters()]


@pytest.mark.parametrize("content", ["", "-5", "garbage", "1e6", "262143328851", "9" * 30, "١٢"])
async def test_what_is_no_count_is_failing_never_zero(tmp_path: Path, content: str) -> None:
    """Empty, negative, garbled or impossible content gives no reading; the other zones go on."""
    two_sockets(tmp_path)
    source = await started(tmp_path)
    put(tmp_path / "class/powercap/intel-rapl:0", {"energy_uj": content})
    meters = [reading.meter for reading in await source.read(1.0)]
    assert meters == ["cpu/0/dram", "cpu/1/package", "cpu/1/dram"]
    seen = states(list(source.findings()))
    assert seen["rapl"] == State.FAILING
    assert seen["cpu/0/package"] == State.FAILING
    assert seen["cpu/1/package"] == State.OK


async def test_recovers_zone_by_zone(tmp_path: Path) -> None:
    """A zone that failed is read again as soon as it answers, absent or garbled before."""
    two_sockets(tmp_path)
    energy = tmp_path / "class/powercap/intel-rapl:1/energy_uj"
    energy.unlink()
    source = await started(tmp_path)
    assert states(list(source.findings()))["cpu/1/package"] == State.ABSENT
    put(energy.parent, {"energy_uj": "555"})
    readings = {reading.meter: reading.energy_uj for reading in await source.read(1.0)}
    assert readings["cpu/1/package"] == 555
    assert source.findings()[0].state == State.OK


async def test_an_io_error_is_failing(tmp_path: Path) -> None:
    """A file that answers with an error other than gone or forbidden is failing."""
    two_sockets(tmp_path)
    energy = tmp_path / "class/powercap/intel-rapl:1/energy_uj"
    energy.unlink()
    energy.mkdir()
    source = await started(tmp_path)
    assert states(list(source.findings()))["cpu/1/package"] == State.FAILING


async def test_denied_zone_says_how_to_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0400 since CVE-2020-8694: denied is its own state, with the exact remedy."""
    two_sockets(tmp_path)
    real = os.open

    def guarded(path: Path, flags: int) -> int:
        if str(path).endswith("intel-rapl:0/energy_uj"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags)

    monkeypatch.setattr(os, "open", guarded)
    source = await started(tmp_path)
    finding = next(f for f in source.findings() if f.subject == "cpu/0/package")
    assert finding.state == State.DENIED
    assert "CAP_DAC_READ_SEARCH" in finding.fix
    assert source.findings()[0].state == State.DENIED
    assert source.findings()[0].detail == "3 of 4 zones answer"
    assert len(await source.read(1.0)) == 3
    assert len(source.meters()) == 4


def as_the_kernel_guards_it(sysfs: Path) -> None:
    """Write two sockets whose energy only root may read."""
    sysfs.chmod(0o755)
    two_sockets(sysfs)
    for file in sysfs.glob("class/powercap/*/energy_uj"):
        file.chmod(0o400)


@pytest.mark.root
async def test_denied_by_the_kernel_itself() -> None:
    """The same with a real unprivileged reader of real 0400 files."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:
        sysfs = Path(folder)
        as_the_kernel_guards_it(sysfs)
        os.seteuid(65534)
        try:
            findings = (await started(sysfs)).findings()
        finally:
            os.seteuid(0)
    assert findings[0].state == State.DENIED
    assert findings[0].detail == "0 of 4 zones answer"


async def test_absent_on_a_machine_without_rapl(tmp_path: Path) -> None:
    """No powercap tree, or an empty one, is absent and no fault."""
    source = await started(tmp_path)
    assert source.findings()[0].state == State.ABSENT
    assert "intel_rapl_msr" in source.findings()[0].fix
    assert list(await source.read(1.0)) == []
    assert list(source.meters()) == []


async def test_finds_a_driver_that_is_loaded_later(tmp_path: Path) -> None:
    """The tree is looked through again every minute, and a zone that vanished stays, absent."""
    clock = FakeClock()
    source = await started(tmp_path, clock)
    two_sockets(tmp_path)
    assert list(await source.read(1.0)) == []
    clock.now_ns += 61_000_000_000
    assert len(await source.read(1.0)) == 4
    for name in ("name", "energy_uj"):
        (tmp_path / "class/powercap/intel-rapl:1" / name).unlink()
    clock.now_ns += 61_000_000_000
    # The dram zone hangs below a package that no longer says its name, but keeps its place.
    assert len(await source.read(1.0)) == 3
    assert len(source.meters()) == 4
    assert states(list(source.findings()))["cpu/1/package"] == State.ABSENT


async def test_unknown_range_leaves_wraps_to_the_sampler(tmp_path: Path) -> None:
    """Without max_energy_range_uj there is no wrap to add."""
    put(tmp_path / "class/powercap/intel-rapl:0", {"name": "package-0", "energy_uj": "7"})
    source = await started(tmp_path)
    assert [spec.wrap_uj for spec in source.meters()] == [None]
    assert [reading.energy_uj for reading in await source.read(1.0)] == [7]


async def test_where_a_gpu_counts_the_whole_module(tmp_path: Path) -> None:
    """On an APU the GPU's counter has the processors in it: nothing is booked twice."""
    two_sockets(tmp_path)
    source = rapl.RaplSource(tmp_path, module_metered=lambda: True)
    await source.start()
    assert (list(source.meters()), await source.read(1.0)) == ([], [])
    [finding] = source.findings()
    assert finding.state == State.OK
    assert "the processors are in it" in finding.detail
