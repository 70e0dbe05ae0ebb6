"""What the service manager is told, on a socket of the test's own."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from wattkeeper.supervised.daemon import Daemon
from wattkeeper.supervised.notify import READY, notify, watchdog_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen as systemd does, with a watchdog of 40 ms."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "40000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield listener


async def hear(manager: socket.socket) -> str:
    """Return the next message."""
    async with asyncio.timeout(10):
        return (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode()


@pytest.mark.parametrize("address", ["", "relative", "/nobody/listens", "@nobody-listens"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    """A terminal, a container, or a manager that has gone."""
    assert not notify(READY, environ={"NOTIFY_SOCKET": address})


def test_an_abstract_address() -> None:
    """`@` stands for the NUL of an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"wattkeeper-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        assert notify(READY, "STATUS=up", environ={"NOTIFY_SOCKET": f"@{name}"})
        assert b"READY=1\nSTATUS=up" == listener.recv(100)


def test_a_manager_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """When its queue is full, messages are dropped."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
            filling.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(10_000):
                    filling.sendto(b"x", str(tmp_path / "notify"))
        assert not notify(READY, environ=environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "180000000"}, 180.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environ: dict[str, str], expected: float | None) -> None:
    """Only what is meant for this process counts."""
    assert expected == watchdog_s(environ)


async def test_a_daemon_at_work_gives_signs(manager: socket.socket) -> None:
    """Ready once, then a sign whenever it has done something."""
    daemon = Daemon()
    daemon.ready(count().__next__)
    assert ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] == [await hear(manager) for _ in range(3)]
    await daemon.close()


async def test_a_daemon_that_stands_still_gives_none(manager: socket.socket) -> None:
    """An event loop that turns is not enough where work can be seen."""
    looks = asyncio.Queue[None]()

    def stands_still() -> int:
        looks.put_nowait(None)
        return 7

    daemon = Daemon()
    daemon.ready(stands_still)
    async with asyncio.timeout(10):
        for _ in range(5):
            await looks.get()
    await daemon.close()
    assert ["READY=1", "WATCHDOG=1"] == [await hear(manager) for _ in range(2)]
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


async def test_reload_and_end_are_told(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP reloads, between two messages; the end is told before it begins."""
    monkeypatch.delenv("WATCHDOG_USEC")
    reloads = asyncio.Queue[None]()
    daemon = Daemon()
    daemon.on_reload(lambda: reloads.put(None))
    os.kill(os.getpid(), signal.SIGHUP)
    told = await hear(manager)
    assert told.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert "READY=1" == await hear(manager)
    assert 1 == reloads.qsize()
    daemon.end()
    assert daemon.stop.is_set()
    assert "STOPPING=1" == await hear(manager)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    await daemon.close()
