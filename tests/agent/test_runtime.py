"""The tick: books, journals, and goes on when the disk does not."""

import asyncio
from pathlib import Path

import pytest

from tests.agent.fakes import Bench
from tests.metering.build import check
from wattkeeper.holders.base import HolderKey
from wattkeeper.metering.dictionary import HOLDER
from wattkeeper.metering.journal import Journal, JournalError
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
