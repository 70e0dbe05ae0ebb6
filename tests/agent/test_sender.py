"""Delivery between an agent and an aggregator that forgets, refuses, forks and vanishes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.fakes import Bench
from wattkeeper.agent.transport import RefusedError
from wattkeeper.delivery.wire import GENESIS
from wattkeeper.holders.base import HolderKey


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Return an agent that has run for a minute."""
    bench = Bench(tmp_path)
    bench.holders.now = [HolderKey("slurm", "1", 5)]
    await bench.agent.tick()
    await bench.run(60)
    yield bench
    bench.agent.journal.close()


async def test_everything_is_delivered_once_and_released(bench: Bench) -> None:
    """Accepted, committed, gone from the journal; nothing is sent again."""
    await bench.deliver()
    await bench.run(60)
    await bench.deliver()
    assert bench.journal.pending == 0
    assert bench.delivered_uj() == 120 * 300 * 10**6
    assert len(bench.aggregator.records) == bench.journal.meta.last


async def test_what_is_not_committed_stays(bench: Bench) -> None:
    """Accepted into memory is not enough to release."""
    bench.aggregator.lag = 3
    await bench.deliver()
    assert bench.journal.pending == 3


async def test_an_unreachable_aggregator_costs_nothing(bench: Bench) -> None:
    """Windows stay, pauses grow within bounds, the backlog is delivered later."""
    bench.aggregator.down = True
    sender = bench.agent.sender
    assert sender is not None
    for _ in range(30):
        assert not await bench.agent.deliver_once()
        assert 0.5 <= sender.pause_s() <= 60
    assert sender.failing
    assert max(sender.pause_s() for _ in range(200)) > 20
    bench.aggregator.down = False
    await bench.run(60)
    await bench.deliver()
    assert not sender.failing
    assert bench.delivered_uj() == 120 * 300 * 10**6


async def test_a_restored_aggregator_gets_what_the_journal_still_has(bench: Bench) -> None:
    """It is behind what was released: the batch begins at the oldest, and the loop rests."""
    await bench.deliver()
    bench.aggregator.accepted, bench.aggregator.committed = 2, 2
    bench.aggregator.hash = GENESIS
    await bench.run(60)
    await bench.deliver()
    last = bench.aggregator.batches[-1]
    assert last.first == last.oldest + len(bench.aggregator.records) - last.first + 1 or last.oldest
    assert bench.aggregator.accepted == bench.journal.meta.last
    assert bench.journal.pending == 0


async def test_a_rewind_is_followed(bench: Bench) -> None:
    """An aggregator that lost its memory but not its disk is sent the rest again."""
    bench.aggregator.lag = 4
    await bench.deliver()
    aggregator = bench.aggregator
    value = bench.journal.hash_at(aggregator.committed)
    assert value is not None
    lost = aggregator.accepted - aggregator.committed
    del aggregator.records[-lost:]
    aggregator.accepted, aggregator.hash, aggregator.lag = aggregator.committed, value, 0
    await bench.run(60)
    await bench.deliver()
    assert bench.delivered_uj() == 120 * 300 * 10**6


@pytest.mark.parametrize("ahead", [False, True])
async def test_another_chain_at_the_aggregator_forks(bench: Bench, ahead: bool) -> None:
    """A cloned journal: other records under its numbers. It goes on as another, losing nothing."""
    old = bench.journal.meta.journal
    bench.aggregator.journal = old
    bench.aggregator.accepted = 10_000 if ahead else 2
    bench.aggregator.hash = bytes(15) + b"x"
    await bench.deliver()
    assert bench.journal.meta.fork_of == old
    assert bench.aggregator.journal == bench.journal.meta.journal
    assert bench.delivered_uj() == 60 * 300 * 10**6


async def test_an_aggregator_that_always_forks_is_not_hammered(bench: Bench) -> None:
    """The second refusal in a row is a failure with a pause, not another journal."""
    bench.aggregator.refuse = RefusedError("fork", "no")
    assert await bench.deliver() == 2
    name = bench.journal.meta.journal
    assert await bench.deliver() == 1
    assert bench.journal.meta.journal == name
    assert bench.agent.sender is not None
    assert bench.agent.sender.failing
    bench.aggregator.refuse = None
    await bench.deliver()
    assert bench.delivered_uj() == 60 * 300 * 10**6


async def test_an_answer_that_moves_nothing_is_not_asked_for_again_at_once(bench: Bench) -> None:
    """An aggregator that keeps its cursor is met once per round, not in a loop."""
    aggregator = bench.aggregator
    await bench.deliver()
    await bench.run(60)
    ack = await aggregator.send(aggregator.batches[-1])

    async def same(_: object) -> object:
        return ack

    aggregator.send = same  # type: ignore[assignment, method-assign]
    assert await bench.deliver() == 1


async def test_too_large_is_halved(bench: Bench) -> None:
    """A refused size is tried smaller; at the smallest it is a failure."""
    bench.aggregator.refuse = RefusedError("too-large", "413")
    assert 3 < await bench.deliver() < 12
    bench.aggregator.refuse = None
    await bench.deliver()
    assert bench.journal.pending == 0


async def test_another_refusal_keeps_the_journal(bench: Bench) -> None:
    """Two live journals: nothing lost, tried again."""
    bench.aggregator.refuse = RefusedError("two-live-journals", "wait")
    assert await bench.deliver() == 1
    pending = bench.journal.pending
    assert pending > 0
    bench.aggregator.refuse = None
    await bench.deliver()
    assert bench.journal.pending == 0


async def test_a_restart_sends_the_dictionary_again(bench: Bench) -> None:
    """The new process knows nothing of the last answer; holders of open windows are not pruned."""
    bench.aggregator.lag = 2
    await bench.run(5)
    await bench.deliver()
    await bench.agent.close()
    bench.start()
    bench.aggregator.lag = 0
    await bench.agent.tick()
    await bench.run(30)
    await bench.deliver()
    assert bench.delivered_uj() >= 90 * 300 * 10**6
    assert bench.journal.pending == 0
