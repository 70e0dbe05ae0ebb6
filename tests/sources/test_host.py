"""The host's processors, memory and load on fixture trees."""

from pathlib import Path

import pytest

from tests.sources.tree import put, states
from wattkeeper.model.reading import Gauge
from wattkeeper.model.state import State
from wattkeeper.sources.base import Source
from wattkeeper.sources.host import HostSource

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n"


def machine(procfs: Path, busy: int, idle: int) -> None:
    """Write procfs with counts of ticks."""
    stat = f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0 0 0\nbtime 1\n"
    put(procfs, {"stat": stat, "meminfo": MEMINFO, "loadavg": "0.50 1.25 2.00 1/100 4242\n"})


async def test_gauges(tmp_path: Path) -> None:
    """Utilization is that of the time since the read before."""
    machine(tmp_path, 100, 900)
    source: Source = HostSource(tmp_path)
    await source.start()
    machine(tmp_path, 175, 925)
    assert list(await source.read(1.0)) == []
    assert (
        Gauge("cpu_utilization_ratio", (), 0.75),
        Gauge("host_memory_used_bytes", (), 400 * 1024),
        Gauge("host_memory_total_bytes", (), 1000 * 1024),
        Gauge("host_load_average", (("minutes", "1"),), 0.5),
        Gauge("host_load_average", (("minutes", "5"),), 1.25),
        Gauge("host_load_average", (("minutes", "15"),), 2.0),
    ) == source.gauges()
    assert [finding.state for finding in source.findings()] == [State.OK]
    assert list(source.meters()) == []
    await source.close()


@pytest.mark.parametrize("after", [(100, 900), (50, 400)])
async def test_no_utilization_without_progress(tmp_path: Path, after: tuple[int, int]) -> None:
    """Counts that stand still or fall give no ratio, never a zero."""
    machine(tmp_path, 100, 900)
    source = HostSource(tmp_path)
    await source.start()
    machine(tmp_path, *after)
    await source.read(1.0)
    assert "cpu_utilization_ratio" not in {gauge.name for gauge in source.gauges()}


@pytest.mark.parametrize(
    ("file", "content"),
    [("stat", "nonsense"), ("stat", ""), ("meminfo", "MemTotal: 5 kB"), ("loadavg", "a b")],
)
async def test_garbage_costs_only_its_own_gauges(tmp_path: Path, file: str, content: str) -> None:
    """A file in another form is failing; the others are still read."""
    machine(tmp_path, 1, 1)
    put(tmp_path, {file: content})
    source = HostSource(tmp_path)
    await source.start()
    assert {"host": State.FAILING, f"host/{file}": State.FAILING} == states(list(source.findings()))
    assert source.gauges()
    assert "path.procfs" in source.findings()[0].fix


async def test_absent_procfs(tmp_path: Path) -> None:
    """A root without the files is absent."""
    source = HostSource(tmp_path)
    await source.start()
    assert source.findings()[0].state == State.ABSENT


async def test_this_machine() -> None:
    """The real procfs is understood."""
    source = HostSource(Path("/proc"))
    await source.start()
    assert source.findings()[0].state == State.OK
