"""The tick: books, journals, and goes on when the disk does not."""

import asyncio
import contextlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.agent.fakes import Bench
from tests.metering.build import check
from wattkeeper.holders.base import HolderKey
from wattkeeper.metering.dictionary import HOLDER
from wattkeeper.metering.journal import FILE, Journal, JournalError
from wattkeeper.model.state import State


async def test_a_failing_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records wait in memory, the finding says why, holders stay known, all arrives later."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    await bench.run(15)
    bench.holders.now = [HolderKey("slurm", "9", 1)]
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise JournalError("journal: cannot write: disk is full")

        patch.setattr(Journal, "append", full)
        await bench.run(30)
        (finding,) = [f for f in bench.agent.findings() if f.subject == "journal"]
        assert (finding.state, finding.detail) == (
            State.FAILING,
            "journal: cannot write: disk is full",
        )
        bench.holders.now = []
        await bench.deliver()
        await bench.run(15)
        await bench.deliver()
    await bench.run(15)
    assert not bench.agent.trouble
    await bench.deliver()
    check(bench.aggregator.records, bench.journal.dictionary)
    assert bench.delivered_uj() == 70 * 300 * 10**6
    assert "9" in [info.raw_id for info in bench.aggregator.holders.values()]
    await bench.agent.close()


async def test_a_checkpoint_survives_a_crash(tmp_path: Path) -> None:
    """What a mark read is on disk at once, the open window as well."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    await bench.run(3)
    await bench.agent.tick(checkpoint=True)
    counted = bench.agent.sampler.states()
    bench.journal.close()  # killed: nothing is committed on the way out
    bench.start()
    assert bench.agent.journal.states() == counted
    assert bench.agent.journal.memo("holders") == []
    bench.journal.close()


async def test_close_commits_the_open_windows_and_closes_all(tmp_path: Path) -> None:
    """A clean stop leaves nothing to recover."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    await bench.run(7)
    counted = bench.agent.sampler.states()
    await bench.agent.close()
    assert (
        bench.source.closed, bench.holders.closed, bench.aggregator.closed,
    ) == (True, True, True)  # fmt: skip
    bench.start()
    assert bench.journal.states() == counted
    bench.journal.close()


async def test_ticks_and_deliveries_at_the_same_time(tmp_path: Path) -> None:
    """Holders come and go while batches are under way: every window's holders are known."""
    bench = Bench(tmp_path)
    bench.aggregator.lag = 2
    for number in range(40):
        bench.holders.now = [HolderKey("slurm", str(number // 3), number // 3)]
        await asyncio.gather(bench.run(7), bench.agent.deliver_once())
    bench.aggregator.lag = 0
    await bench.deliver()
    check(bench.aggregator.records, bench.journal.dictionary)
    assert len(bench.journal.dictionary.entries[HOLDER]) < 6
    await bench.agent.close()


async def test_an_end_in_the_middle_of_a_commit_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled tick waits for its disk: the last commit finds nothing left to repeat."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    await bench.run(60)
    inside, again, go_on = threading.Event(), threading.Event(), threading.Event()
    append = bench.journal.append

    def slow(*args: Any) -> None:
        (again if inside.is_set() else inside).set()
        assert go_on.wait(10)
        append(*args)

    monkeypatch.setattr(bench.journal, "append", slow)
    bench.clock.pass_time(20_000)
    tick = asyncio.create_task(bench.agent.tick())
    await asyncio.to_thread(inside.wait, 10)
    tick.cancel()
    closing = asyncio.create_task(bench.agent.close())
    assert not await asyncio.to_thread(again.wait, 0.3)
    go_on.set()
    await asyncio.gather(tick, return_exceptions=True)
    await closing
    assert tick.cancelled()
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as db:
        payloads = [row[0] for row in db.execute("SELECT payload FROM record")]
    assert len(set(payloads)) == len(payloads)


@pytest.mark.parametrize("doing", ["size", "pending_since_ms"])
async def test_a_disk_that_cannot_be_read_does_not_end_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    """What SQLite says of it stays inside the journal, and is shown."""
    bench = Bench(tmp_path)
    await bench.agent.tick()
    real = bench.journal._db
    broken = SickConnection(real, "PRAGMA page_count" if doing == "size" else "SELECT payload")
    monkeypatch.setattr(bench.journal, "_db", broken)
    await bench.run(20)
    assert "disk I/O error" in bench.agent.trouble
    monkeypatch.undo()
    await bench.agent.close()


class SickConnection:
    """A connection whose disk fails at statements that begin so."""

    def __init__(self, real: sqlite3.Connection, begin: str) -> None:
        self._real = real
        self._begin = begin

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run it, unless it begins so."""
        if sql.startswith(self._begin):
            raise sqlite3.OperationalError("disk I/O error")
        return self._real.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
