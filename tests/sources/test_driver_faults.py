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

from tests.fake_nvml.library import ENERGY
from tests.sources.bench import DEADLINE_S, QUICK, AnyBench, child_pids
from wattkeeper.model.state import State
from wattkeeper.sources.driver_process import MAX_ABANDONED

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


async def test_lost_gpu(either: AnyBench) -> None:
    """A lost GPU fails by name and comes back by itself; the others miss no tick."""
    either.fake.set_time(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    await either.source.start()
    either.fake.gpu(2).all_code = either.lost
    for _ in range(30):
        readings = await either.read()
        assert set(readings) >= {0, 1, 3}
        await asyncio.sleep(0.01)
    assert either.finding(2).state == State.FAILING
    assert "kernel log" in either.finding(2).fix
    assert either.finding().state == State.OK
    assert len(either.source.meters()) == 4
    either.fake.gpu(2).all_code = 0
    back = await either.read_until(lambda found: 2 in found)
    assert back[2].meter == either.fake.meter(2)
    assert either.finding(2).state == State.OK


async def test_replacing_a_child_costs_no_tick(either: AnyBench) -> None:
    """While a replacement for a lost GPU is tried, every tick of the others is read."""
    await either.source.start()
    either.fake.gpu(0).all_code = either.lost
    for _ in range(40):
        assert set(await either.read()) == {1, 2, 3}
        await asyncio.sleep(0.01)


async def test_hung_gpu(either: AnyBench) -> None:
    """A GPU whose call never returns is stale; it is waited for once, the others go on."""
    await either.source.start()
    either.fake.gpu(1).hang[ENERGY] = 1
    began = time.monotonic()
    assert set(await either.read()) == {0, 2, 3}
    assert time.monotonic() - began < DEADLINE_S + 0.2
    assert either.finding(1).state == State.STALE
    assert either.energy_call in either.finding(1).detail
    await either.read_until(lambda _: float(either.finding(1).detail.split()[-2]) > 0.5)
    calls = either.fake.gpu(1).calls
    for _ in range(10):
        began = time.monotonic()
        assert set(await either.read()) == {0, 2, 3}
        assert time.monotonic() - began < 0.2
    assert either.fake.gpu(1).calls == calls
    either.fake.gpu(1).hang[ENERGY] = 0
    await either.read_until(lambda found: 1 in found)
    assert either.states() == [State.OK] * 4


@pytest.mark.root
async def test_uninterruptible_gpu(either: AnyBench) -> None:
    """With a thread that no signal reaches, metering goes on and the agent can restart."""
    await either.source.start()
    either.fake.gpu(1).hang[ENERGY] = 1
    await either.read()
    (pid,) = child_pids()
    with frozen([threads(pid)[3]]):
        assert set(await either.read()) == {0, 2, 3}
        began = time.monotonic()
        await either.source.close()
        assert time.monotonic() - began < 2
        assert pid in child_pids(dead=True)
        either.fake.gpu(1).hang[ENERGY] = 0
        either.source = either.build()
        await either.source.start()
        assert set(await either.read()) == {0, 1, 2, 3}


@pytest.mark.root
async def test_abandoned_children_are_bounded(either: AnyBench) -> None:
    """At most three children may hang in the driver; the reason is said until one is gone."""
    either.fake.set_init(hang=True)
    either.source = either.build(replace(QUICK, start_s=0.01, hello_s=1, retry_s=0, last_retry_s=0))
    await either.source.start()
    with contextlib.ExitStack() as stack:
        for i in range(MAX_ABANDONED):
            pid = await fresh_child(either, i)
            stack.enter_context(frozen(threads(pid)))
        await either.read_until(lambda _: "processes hang" in either.finding().detail)
        assert either.finding().state == State.FAILING
        for _ in range(20):
            await either.read()
            await asyncio.sleep(0.01)
        assert len(child_pids(dead=True)) == MAX_ABANDONED
        either.fake.set_init(hang=False)
    await either.read_until(lambda found: len(found) == 4)
    assert either.finding().state == State.OK


async def fresh_child(either: AnyBench, known: int) -> int:
    """Read until there is one more child; return its PID once it hangs in nvmlInit."""
    await either.read_until(lambda _: len(child_pids()) > known)
    return max(child_pids())


async def test_killed_child(either: AnyBench) -> None:
    """A child killed with -9 is replaced, and the counters go on."""
    await either.source.start()
    first = await either.read()
    loads = {spec.load for spec in either.source.meters()}
    (pid,) = child_pids()
    os.kill(pid, signal.SIGKILL)
    again = await either.read_until(lambda found: len(found) == 4)
    assert child_pids() != [pid]
    assert all((again[i].energy_uj or 0) >= (first[i].energy_uj or 0) for i in range(4))
    assert {spec.load for spec in either.source.meters()} == loads


async def test_stopped_child(either: AnyBench) -> None:
    """A child that answers nothing at all makes its GPUs stale, and is given up after a while."""
    await either.source.start()
    (pid,) = child_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert await either.read() == {}
        assert either.states() == [State.STALE] * 4
        assert str(pid) in either.finding(0).detail
        await either.read_until(lambda found: len(found) == 4)
        assert len(child_pids()) == 2
    finally:
        os.kill(pid, signal.SIGCONT)
    await either.read_until(lambda _: pid not in child_pids())


async def test_reading_between_two_ticks(either: AnyBench) -> None:
    """Reads that overlap, as a mark and a tick do, all get their answer."""
    await either.source.start()
    reads = await asyncio.gather(*(either.read() for _ in range(5)))
    assert [set(readings) for readings in reads] == [{0, 1, 2, 3}] * 5
    assert len({readings[0].boot_ns for readings in reads}) == 5


async def test_closed_while_starting(either: AnyBench) -> None:
    """Closing in the middle of a start leaves no process behind."""
    starting = asyncio.ensure_future(either.source.start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await either.source.close()
    await starting
    assert child_pids(dead=True) == []


async def test_dead_child_is_not_ok(either: AnyBench) -> None:
    """From the tick that finds the child dead until the next one reads, no GPU is called ok."""
    either.source = either.build(replace(QUICK, retry_s=60))
    await either.source.start()
    (pid,) = child_pids()
    os.kill(pid, signal.SIGKILL)
    await either.read_until(lambda found: not found)
    assert either.states() == [State.STALE] * 4
    assert either.finding().state == State.STALE
    assert either.source.processes() == {}


async def test_garbage_from_the_child(either: AnyBench) -> None:
    """What is no line of ours ends the child's service, and another one takes over."""
    await either.source.start()
    child = either.source._child
    assert child is not None
    child.data_received(b'{"seq": 1, "gpus": [{"place"\n')
    assert not child.alive
    await either.read_until(lambda found: len(found) == 4)
    assert either.source._child is not child


async def test_no_gpu(either: AnyBench) -> None:
    """A driver that lists no GPU is absent, not failing."""
    either.fake.set_count(0)
    await either.source.start()
    assert either.finding().state == State.ABSENT
    assert either.finding().detail == "the driver sees no GPU"


async def test_gpu_that_is_gone(either: AnyBench) -> None:
    """A GPU that the driver does not list any more keeps its meter and fails."""
    await either.source.start()
    either.fake.set_count(3)
    either.fake.reload()
    await either.read_until(lambda found: len(found) == 3)
    assert len(either.source.meters()) == 4
    assert either.finding(3).state == State.FAILING
    assert "not list it any more" in either.finding(3).detail
