"""The service around the tick: listeners, orders, edges, a clean end."""

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.fakes import GPU, Bench, FakeClock
from wattkeeper.agent import control
from wattkeeper.agent.exposition import Exposition
from wattkeeper.agent.service import Service, next_grid_line
from wattkeeper.flags import ConfigError
from wattkeeper.holders.base import HolderKey
from wattkeeper.model.clock import SystemClock
from wattkeeper.model.reading import Reading


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: object) -> None:
    """Wait for a condition, at most 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


class Running:
    """A service on the real clock, with fakes for everything else."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.bench = Bench(folder, settings={"listen": f"127.0.0.1:{self.port}"})
        self.bench.agent.clock = SystemClock()
        self.edge = asyncio.Event()
        self.stop = asyncio.Event()
        self.service = Service(self.bench.agent, self.edge)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.service.run(self.stop))
        socket_path = self.bench.folder / control.SOCKET
        await until(lambda: self.task.done() or (socket_path.exists() and self.bench.agent.ticks))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


async def test_metrics_health_and_root_answer(tmp_path: Path) -> None:
    """The listener is up as soon as the agent samples."""
    async with Running(tmp_path) as running, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{running.port}"
        async with session.get(base + "/metrics") as response:
            text = await response.text()
            assert response.content_type == "text/plain"
        assert 'wattkeeper_host_memory_total_bytes{node="n1"} 64.0' in text.splitlines()
        async with session.get(base + "/healthz") as response:
            assert await response.json() == {"status": "ok", "node": "n1"}


async def test_an_edge_triggers_a_sample(tmp_path: Path) -> None:
    """A holder that comes or goes is read at once, many of them soon after one another."""
    async with Running(tmp_path) as running:
        before = running.bench.source.reads
        running.bench.clock.pass_time(100)
        running.edge.set()
        await until(lambda: running.bench.source.reads > before)


async def test_orders_are_answered_and_garbage_is_told(tmp_path: Path) -> None:
    """Mark, release of something unknown, nonsense, bad UTF-8, a line too long."""
    async with Running(tmp_path) as running:
        before = running.bench.source.reads
        assert await control.ask(tmp_path, control.Order("mark"), 5) == {"ok": True}
        assert running.bench.source.reads > before
        for order, message in [
            (control.Order("dance"), "op: 'dance' is unknown"),
            (control.Order("release", GPU, 0), "--for: choose"),
            (control.Order("release", "gpu/none", 5), "is not metered here"),
        ]:
            answer = await control.ask(tmp_path, order, 5)
            assert not answer["ok"]
            assert message in answer["error"]
        for line in (b"nonsense\n", b'"\xff"\n', b'{"op": 5}\n', b'{"op":"mark","x":1}\n', b"\n"):
            assert "not an order" in (await raw(tmp_path, line))["error"]
        assert await raw(tmp_path, b"x" * 10_000 + b"\n") == {}
        assert (tmp_path / control.SOCKET).stat().st_mode & 0o777 == 0o600
        assert await control.ask(tmp_path, control.Order("mark"), 5) == {"ok": True}


async def test_marks_that_wait_are_served_together(tmp_path: Path) -> None:
    """Many jobs start while a driver hangs: the next reading is for all, and none is put off."""
    async with Running(tmp_path) as running:
        source, going, go = running.bench.source, asyncio.Event(), asyncio.Event()
        read = source.read

        async def hang(deadline_s: float) -> Sequence[Reading]:
            going.set()
            await go.wait()
            return await read(deadline_s)

        source.read = hang  # type: ignore[method-assign]
        first = asyncio.create_task(running.service.sample(checkpoint=True))
        await going.wait()
        before = source.reads
        marks = [asyncio.create_task(running.service.sample(checkpoint=True)) for _ in range(50)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *marks)
        # The one that was under way, one for all marks, and those by the clock.
        assert 2 <= source.reads - before <= 4


async def raw(folder: Path, line: bytes) -> dict[str, str]:
    """Write a line as it is; return the answer, empty if there is none."""
    reader, writer = await asyncio.open_unix_connection(folder / control.SOCKET)
    try:
        writer.write(line)
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    return dict(json.loads(answer)) if answer else {}


async def test_a_clean_stop_commits_the_open_window(tmp_path: Path) -> None:
    """The state on disk is the last one; the socket is gone; everything is closed."""
    async with Running(tmp_path) as running:
        running.bench.clock.pass_time(3000)
        await running.service.sample()
        counted = running.bench.agent.sampler.states()
    assert running.bench.source.closed
    assert not (tmp_path / control.SOCKET).exists()
    running.bench.start()
    assert running.bench.journal.states() == counted
    running.bench.journal.close()


async def test_a_port_in_use_is_told_and_everything_is_closed(tmp_path: Path) -> None:
    """The message names the field and the fix."""
    with socket.socket() as taken:
        running = Running(tmp_path)
        taken.bind(("127.0.0.1", running.port))
        taken.listen()
        with pytest.raises(ConfigError, match=r"listen: 127.0.0.1:\d+ is in use; stop the other"):
            await running.service.run(asyncio.Event())
    assert running.bench.source.closed


@given(st.integers(0, 2**62), st.integers(0, 2**50), st.sampled_from([100, 1000, 10_000, 60_000]))
def test_the_next_grid_line_is_ahead_and_never_drifts(wall: int, boot: int, step_ms: int) -> None:
    """Always in the future, at most one step, exactly on a multiple of the step in UTC."""
    clock = FakeClock(boot, wall)
    due = next_grid_line(clock, timedelta(milliseconds=step_ms))
    assert 0 < due - boot <= step_ms * 10**6
    assert (wall + due - boot) % (step_ms * 10**6) == 0


async def exposition(tmp_path: Path) -> bytes:
    """Return what a minute of metering exposes."""
    bench = Bench(tmp_path)
    bench.holders.now = [HolderKey("slurm", 'job "7"\n', 5)]
    await bench.agent.tick()
    await bench.run(60)
    text = Exposition(bench.agent).render()
    assert Exposition(bench.agent).render() == text, "asking changed something"
    await bench.agent.close()
    return text


async def test_the_exposition_says_what_was_metered(tmp_path: Path) -> None:
    """Values, quoted labels, help; joules of the whole minute."""
    lines = (await exposition(tmp_path)).decode().splitlines()
    assert 'wattkeeper_gpu_energy_joules_total{node="n1",uuid="GPU-0001"} 18000.0' in lines
    labels = 'manager="slurm",meter="gpu/GPU-0001",node="n1",uuid="GPU-0001"'
    assert f'wattkeeper_holder_ratio{{{labels},workload="job \\"7\\"\\n"}} 1.0' in lines
    assert 'model="A \\"B\\"\\n\\\\C"' in next(x for x in lines if "gpu_info{" in x)


async def test_what_a_silent_gpu_last_said_is_not_shown_as_now(tmp_path: Path) -> None:
    """Its energy stays, its power and temperature go until it answers again."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    assert b"gpu_power_watts" in Exposition(bench.agent).render(), "the first reading is shown"
    bench.source.silent = True
    await bench.agent.tick()
    text = Exposition(bench.agent).render()
    assert b"gpu_energy_joules_total{" in text
    assert b"gpu_power_watts" not in text
    assert b"gpu_temperature_celsius" not in text
    assert () == bench.agent.snapshot().meters
    await bench.agent.close()


@pytest.mark.promtool
async def test_promtool_finds_nothing(tmp_path: Path) -> None:
    """Names, help and types are as Prometheus wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = await exposition(tmp_path)
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
