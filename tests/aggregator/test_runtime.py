"""Starting, stopping, and every way that cannot work."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.aggregator.conftest import Centre, settings, started
from tests.aggregator.feeding import START_MS, Feeder
from wattkeeper.aggregator.committing import Committing
from wattkeeper.aggregator.opening import StartError
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.ledger.store import LedgerError
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo


async def refused(aggregator: Aggregator) -> str:
    """Return why an aggregator does not start."""
    with pytest.raises(StartError) as caught:
        await aggregator.start()
    return str(caught.value)


async def test_a_port_in_use(tmp_path: Path) -> None:
    """Names `listen` and the flag; nothing is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = settings(tmp_path).model_copy(update={"listen": f"127.0.0.1:{port}"})
        message = await refused(Aggregator(taken))
    assert message.startswith(f"listen: 127.0.0.1:{port} cannot be used (Address already in use)")
    assert "--listen" in message
    async with started(Aggregator(settings(tmp_path))):
        pass


async def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file where data_dir should be: names the key and the flag."""
    (tmp_path / "file").write_text("")
    message = await refused(Aggregator(settings(tmp_path / "file" / "data")))
    assert message.startswith("data_dir:")
    assert "--data-dir" in message


async def test_a_clock_before_the_books(centre: Centre) -> None:
    """Nodes with a wrong clock are dated by the aggregator's, so its own must not be one."""
    await centre.fed()
    await centre.aggregator.stop()
    early = Aggregator(centre.aggregator.settings, now_ms=lambda: 1_000_000)
    message = await refused(early)
    assert message.startswith("clock: this machine says 1970-01-01")
    assert "set the clock" in message


async def test_two_aggregators_on_one_folder(centre: Centre) -> None:
    """The second one is told; the first goes on."""
    message = await refused(Aggregator(centre.aggregator.settings))
    assert "another aggregator is using" in message
    assert (await centre.get("/healthz"))[0] == 200


async def test_another_slot_than_the_ledgers(centre: Centre) -> None:
    """The slot is the ledger's for good."""
    await centre.aggregator.stop()
    other = settings(centre.aggregator.settings.data_dir, ledger={"slot": "5m"})
    assert "ledger.slot" in await refused(Aggregator(other))


async def test_a_newer_ledger(centre: Centre) -> None:
    """An old version does not touch what a newer one wrote."""

    def write() -> None:
        with centre.aggregator.ledger.writing() as connection:
            connection.execute(sa.text("update alembic_version set version_num = 'ffff'"))

    await asyncio.to_thread(write)
    await centre.aggregator.stop()
    assert "newer version" in await refused(Aggregator(centre.aggregator.settings))


async def test_a_ledger_that_is_none(tmp_path: Path) -> None:
    """Garbage in the file's place."""
    (tmp_path / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    assert "ledger.url" in await refused(Aggregator(settings(tmp_path)))


async def test_a_failed_commit_loses_nothing(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Committed does not move; the next commit writes all of it. Logged once."""
    feeder = Feeder()
    await centre.deliver(feeder.batch(feeder.run(3)))
    intake = centre.aggregator.intake

    def full() -> None:
        raise LedgerError("ledger: not written: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(intake, "commit_sync", full)
        assert [await centre.aggregator.commit() for _ in range(2)] == [False, False]
    assert caplog.text.count("disk is full") == 1
    assert (await centre.deliver(feeder.batch([])))[1]["committed"] == 0
    assert await centre.aggregator.commit()
    assert (await centre.deliver(feeder.batch([])))[1]["committed"] == 8
    assert "wattkeeper_commit_failures_total 2.0" in await centre.text("/metrics")


class FakeScheduler:
    """Knows one job; its first poll fails."""

    name = "fake"
    interval_s = 0.001

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.told = asyncio.Event()

    async def start(self) -> None:
        """Nothing to watch."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Fail, then answer, then have nothing new."""
        self.asked.append(since_ms)
        if len(self.asked) == 1:
            raise OSError("connection refused")
        if len(self.asked) >= 3:
            self.told.set()
            return Knowledge()
        carols = WorkloadInfo("west", "slurm", "123", "123", user="carol", account="biology")
        return Knowledge([carols])


async def test_schedulers_are_polled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failed poll is asked again from where it was; names arrive late and count."""
    scheduler = FakeScheduler()
    clock = [START_MS]
    caplog.set_level("INFO")
    aggregator = Aggregator(settings(tmp_path), [scheduler], now_ms=lambda: clock[0])
    async with started(aggregator), asyncio.timeout(20):
        await scheduler.told.wait()
    assert scheduler.asked[:3] == [0, 0, START_MS]
    assert "fake: connection refused" in caplog.text
    assert "fake: works again" in caplog.text


async def test_run_ends_with_its_event(tmp_path: Path) -> None:
    """`run` serves until the event is set, then lets go of the folder."""
    stopped = asyncio.Event()
    aggregator = Aggregator(settings(tmp_path))
    task = asyncio.create_task(aggregator.run(stopped))
    stopped.set()
    async with asyncio.timeout(20):
        await task
    async with started(Aggregator(settings(tmp_path))):
        pass


async def test_run_dies_with_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A background task that fails unexpectedly takes the aggregator down, visibly."""

    async def broken(_: Committing) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Committing, "_run", broken)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(20):
            await Aggregator(settings(tmp_path)).run(asyncio.Event())


async def test_no_task_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that did would leave its work undone without a word."""
    aggregator = Aggregator(settings(tmp_path))

    async def done(_: Committing) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Committing, "_run", done)
    with pytest.raises(RuntimeError, match="the task 'commit' has ended"):
        async with asyncio.timeout(20):
            await aggregator.run(asyncio.Event())


def start(folder: Path, port: int) -> "subprocess.Popen[str]":
    """Start `wattkeeper aggregator` as a program."""
    args = ["--data-dir", str(folder), "--listen", f"127.0.0.1:{port}", "--commit-interval", "1h"]
    args += ["--limits.connections", "100"]  # so that no limit of this machine is complained of
    return subprocess.Popen(
        [sys.executable, "-m", "wattkeeper", "aggregator", *args],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "daemon"},
    )


def test_the_program_starts_and_stops(tmp_path: Path) -> None:
    """SIGTERM ends it with exit code 0."""
    process = start(tmp_path, 0)
    assert process.stderr is not None
    with process:
        try:
            assert "listening on http://127.0.0.1:" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_the_program_with_a_port_in_use(tmp_path: Path) -> None:
    """Exit code 2 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = start(tmp_path, server.getsockname()[1])
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.startswith("wattkeeper aggregator: listen:")
    assert len(err.splitlines()) == 1


async def test_much_that_waits_is_committed_before_the_pause_is_over(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else deliveries would have to be left with the agents."""
    monkeypatch.setattr("wattkeeper.aggregator.committing.MAX_POSTINGS", 0)
    feeder = Feeder()
    records = feeder.run(180)
    centre.clock[0] = feeder.at_ms
    status, _ = await centre.deliver(feeder.batch(records))
    assert 200 == status
    async with asyncio.timeout(30):
        while not centre.aggregator.intake.counts.commits:
            await asyncio.sleep(0)
    assert 0 == centre.aggregator.intake.pending_postings
