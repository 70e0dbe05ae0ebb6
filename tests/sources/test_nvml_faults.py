"""One sick GPU, a driver reload or a dead child leaves the others' figures untouched."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fake_nvml.bench import DEADLINE_S, QUICK, Bench, child_pids
from tests.fake_nvml.library import ENERGY, HANDLE
from wattkeeper.model.state import State
from wattkeeper.sources.driver import MAX_ABANDONED

pytestmark = pytest.mark.compiler

FREEZER = Path("/sys/fs/cgroup/freezer")


@contextlib.contextmanager
def frozen(tids: list[int]) -> Iterator[None]:
    """Hold threads as if in uninterruptible sleep: not even SIGKILL ends their process."""
    group = FREEZER / f"wattkeeper-test-{os.getpid()}-{tids[0]}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no freezer cgroup (v1) to hold a thread with: {error}")
    try:
        for tid in tids:
            (group / "tasks").write_text(str(tid))
        (group / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        _remove(group)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + 5
    while True:
        for tid in (group / "tasks").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (FREEZER / "tasks").write_text(tid)
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"cannot remove {group}"
        else:
            return


def threads(pid: int) -> list[int]:
    """Return the thread ids of a child: the main one, the watcher, then one per GPU in order."""
    return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())


async def test_lost_gpu(bench: Bench) -> None:
    """A lost GPU fails by name and comes back by itself; the others miss no tick."""
    bench.fake.set_time(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    await bench.source.start()
    bench.fake.gpu(2).all_code = 15
    for _ in range(30):
        readings = await bench.read()
        assert set(readings) >= {0, 1, 3}
        await asyncio.sleep(0.01)
    assert bench.finding(2).state == State.FAILING
    assert "15: GPU is lost" in bench.finding(2).detail
    assert "Xid" in bench.finding(2).fix
    assert bench.finding().state == State.OK
    assert len(bench.source.meters()) == 4
    bench.fake.gpu(2).all_code = 0
    back = await bench.read_until(lambda found: 2 in found)
    assert back[2].meter == bench.fake.meter(2)
    assert bench.finding(2).state == State.OK


async def test_replacing_a_child_costs_no_tick(bench: Bench) -> None:
    """While a replacement for a lost GPU is tried, every tick of the others is read."""
    await bench.source.start()
    bench.fake.gpu(0).all_code = 15
    for _ in range(40):
        assert set(await bench.read()) == {1, 2, 3}
        await asyncio.sleep(0.01)


async def test_hung_gpu(bench: Bench) -> None:
    """A GPU whose call never returns is stale; it is waited for once, the others go on."""
    await bench.source.start()
    bench.fake.gpu(1).hang[ENERGY] = 1
    began = time.monotonic()
    assert set(await bench.read()) == {0, 2, 3}
    assert time.monotonic() - began < DEADLINE_S + 0.2
    assert bench.finding(1).state == State.STALE
    assert "nvmlDeviceGetTotalEnergyConsumption" in bench.finding(1).detail
    await bench.read_until(lambda _: float(bench.finding(1).detail.split()[-2]) > 0.5)
    calls = bench.fake.gpu(1).calls
    for _ in range(10):
        began = time.monotonic()
        assert set(await bench.read()) == {0, 2, 3}
        assert time.monotonic() - began < 0.2
    assert bench.fake.gpu(1).calls == calls
    bench.fake.gpu(1).hang[ENERGY] = 0
    await bench.read_until(lambda found: 1 in found)
    assert bench.states() == [State.OK] * 4


async def test_hang_while_attaching(bench: Bench) -> None:
    """A GPU that hangs when its handle is looked up holds up no other."""
    bench.fake.gpu(3).hang[HANDLE] = 1
    await bench.source.start()
    assert set(await bench.read()) == {0, 1, 2}
    bench.fake.gpu(3).hang[HANDLE] = 0
    await bench.read_until(lambda found: 3 in found)


@pytest.mark.root
async def test_uninterruptible_gpu(bench: Bench) -> None:
    """With a thread that no signal reaches, metering goes on and the agent can restart."""
    await bench.source.start()
    bench.fake.gpu(1).hang[ENERGY] = 1
    await bench.read()
    (pid,) = child_pids()
    with frozen([threads(pid)[3]]):
        assert set(await bench.read()) == {0, 2, 3}
        began = time.monotonic()
        await bench.source.close()
        assert time.monotonic() - began < 2
        assert pid in child_pids(dead=True)
        bench.fake.gpu(1).hang[ENERGY] = 0
        bench.source = bench.build()
        await bench.source.start()
        assert set(await bench.read()) == {0, 1, 2, 3}


@pytest.mark.root
async def test_abandoned_children_are_bounded(bench: Bench) -> None:
    """At most three children may hang in the driver; the reason is said until one is gone."""
    bench.fake.set_init(hang=True)
    bench.source = bench.build(replace(QUICK, start_s=0.01, hello_s=0.1, retry_s=0, last_retry_s=0))
    await bench.source.start()
    with contextlib.ExitStack() as stack:
        for i in range(MAX_ABANDONED):
            pid = await fresh_child(bench, i)
            stack.enter_context(frozen(threads(pid)))
        await bench.read_until(lambda _: "processes hang" in bench.finding().detail)
        assert bench.finding().state == State.FAILING
        for _ in range(20):
            await bench.read()
            await asyncio.sleep(0.01)
        assert len(child_pids(dead=True)) == MAX_ABANDONED
        bench.fake.set_init(hang=False)
    await bench.read_until(lambda found: len(found) == 4)
    assert bench.finding().state == State.OK


async def fresh_child(bench: Bench, known: int) -> int:
    """Read until there is one more child; return its PID once it hangs in nvmlInit."""
    await bench.read_until(lambda _: len(child_pids()) > known)
    return max(child_pids())


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


async def test_killed_child(bench: Bench) -> None:
    """A child killed with -9 is replaced, and the counters go on."""
    await bench.source.start()
    first = await bench.read()
    (pid,) = child_pids()
    os.kill(pid, signal.SIGKILL)
    again = await bench.read_until(lambda found: len(found) == 4)
    assert child_pids() != [pid]
    assert all((again[i].energy_uj or 0) >= (first[i].energy_uj or 0) for i in range(4))
    assert {spec.load for spec in bench.source.meters()} == {"610.43.02"}


async def test_stopped_child(bench: Bench) -> None:
    """A child that answers nothing at all makes its GPUs stale, and is given up after a while."""
    await bench.source.start()
    (pid,) = child_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await bench.read() == {}
        assert bench.states() == [State.STALE] * 4
        assert str(pid) in bench.finding(0).detail
        await bench.read_until(lambda found: len(found) == 4)
        assert len(child_pids()) == 2
    finally:
        os.kill(pid, signal.SIGCONT)
    await bench.read_until(lambda _: pid not in child_pids())


async def test_reading_between_two_ticks(bench: Bench) -> None:
    """Reads that overlap, as a mark and a tick do, all get their answer."""
    await bench.source.start()
    reads = await asyncio.gather(*(bench.read() for _ in range(5)))
    assert [set(readings) for readings in reads] == [{0, 1, 2, 3}] * 5
    assert len({readings[0].boot_ns for readings in reads}) == 5


async def test_closed_while_starting(bench: Bench) -> None:
    """Closing in the middle of a start leaves no process behind."""
    starting = asyncio.ensure_future(bench.source.start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bench.source.close()
    await starting
    assert child_pids(dead=True) == []


async def test_dead_child_is_not_ok(bench: Bench) -> None:
    """From the tick that finds the child dead until the next one reads, no GPU is called ok."""
    bench.source = bench.build(replace(QUICK, retry_s=60))
    await bench.source.start()
    (pid,) = child_pids()
    os.kill(pid, signal.SIGKILL)
    await bench.read_until(lambda found: not found)
    assert bench.states() == [State.STALE] * 4
    assert bench.finding().state == State.STALE
    assert bench.source.processes() == {}


async def test_garbage_from_the_child(bench: Bench) -> None:
    """What is no line of ours ends the child's service, and another one takes over."""
    await bench.source.start()
    child = bench.source._child
    assert child is not None
    child.data_received(b'{"seq": 1, "gpus": [{"place"\n')
    assert not child.alive
    await bench.read_until(lambda found: len(found) == 4)
    assert bench.source._child is not child


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


async def test_no_gpu(bench: Bench) -> None:
    """A driver that lists no GPU is absent, not failing."""
    bench.fake.set_count(0)
    await bench.source.start()
    assert bench.finding().state == State.ABSENT
    assert bench.finding().detail == "the driver sees no GPU"


async def test_gpu_that_is_gone(bench: Bench) -> None:
    """A GPU that the driver does not list any more keeps its meter and fails."""
    await bench.source.start()
    bench.fake.set_count(3)
    bench.fake.reload()
    await bench.read_until(lambda found: len(found) == 3)
    assert len(bench.source.meters()) == 4
    assert bench.finding(3).state == State.FAILING
    assert "not list it any more" in bench.finding(3).detail
