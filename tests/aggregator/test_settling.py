"""The aggregator settles by itself, after each answer of a scheduler and each commit."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.aggregator.conftest import settings, started
from tests.ledger.books import T0, Journal, Meter
from tests.ledger.settling import gpu, run, settled
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.schedulers.base import Knowledge


class Slurm:
    """Answers every poll: one job holds GPU 0 from the start on."""

    name = "slurm"
    interval_s = 0.001

    def __init__(self, clock: list[int]) -> None:
        self.clock = clock
        self.asked = 0

    async def start(self) -> None:
        """Nothing to watch."""

    async def close(self) -> None:
        """Nothing to stop."""

    async def ask(self, since_ms: int) -> Knowledge:
        """Say what runs now."""
        self.asked += 1
        return Knowledge([run(7, T0 + 5_000, 0, user="ann")], self.clock[0])

    async def answered(self) -> None:
        """Wait until an answer that was asked for from now on is in the books."""
        upto = self.asked + 2
        async with asyncio.timeout(60):
            while self.asked < upto:
                await asyncio.sleep(0.001)


def rest(meter: Meter, windows: int) -> None:
    """Let the GPU rest."""
    meter.run(windows, (1, 1_000))


async def test_it_settles_after_answers_and_commits(tmp_path: Path) -> None:
    """Idle energy goes to the job as soon as both the window and the answer are there."""
    clock = [T0]
    slurm = Slurm(clock)
    async with started(
        Aggregator(settings(tmp_path), [slurm], now_ms=lambda: clock[0])
    ) as aggregator:
        await slurm.answered()
        meter = gpu(Journal())
        meter.point()
        rest(meter, 6)
        clock[0] = T0 + 30_000
        await slurm.answered()
        meter.journal.deliver(aggregator.intake, clock[0])
        assert await aggregator.commit()
        await slurm.answered()
        found = await asyncio.to_thread(settled, aggregator.ledger)
        assert found == {"7": (2_500, 25_000), "idle": (-2_500, -25_000)}
        clock[0] = T0 + 60_000
        await slurm.answered()
        assert (await asyncio.to_thread(settled, aggregator.ledger))["7"] == (5_500, 55_000)


async def test_a_settlement_that_fails_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure is logged, and nothing is lost by it."""
    caplog.set_level("INFO")

    def fail(_: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, Exception("disk is full"))

    async with started(Aggregator(settings(tmp_path))) as aggregator:
        sa.event.listen(aggregator.ledger.engine, "commit", fail)
        assert not await aggregator.settle()
        assert not await aggregator.settle()
        sa.event.remove(aggregator.ledger.engine, "commit", fail)
        assert await aggregator.settle()
        assert caplog.text.count("settlement: ledger: not written: disk is full") == 1
        assert "settlement: works again" in caplog.text
