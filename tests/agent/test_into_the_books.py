"""Real agents deliver to a real intake: whatever happens on the way, the books come out whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.fakes import Bench, FakeAggregator, FakeClock
from wattkeeper.agent.transport import RefusedError, UnreachableError
from wattkeeper.delivery.wire import Ack, Batch, pack, unpack
from wattkeeper.holders.base import HolderKey
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import Ledger

WATTS_UJ = 300 * 10**6
"""What the GPU counts in a second."""


class Centre(FakeAggregator):
    """An intake, reached as over HTTP; it commits when the test says so."""

    def __init__(self, ledger: Ledger, clock: FakeClock) -> None:
        super().__init__()
        self.intake = Intake(ledger)
        self.clock = clock

    async def send(self, batch: Batch) -> Ack:
        """Take a delivery into the books."""
        if self.down:
            raise UnreachableError("down")
        try:
            return self.intake.accept(unpack(pack(batch)), self.clock.wall // 10**6)
        except Refusal as refusal:
            raise RefusedError(refusal.kind, refusal.detail) from refusal


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger."""
    opened = Ledger.open(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


async def deliver(bench: Bench, centre: Centre) -> None:
    """Deliver, commit, and deliver once more to release."""
    await bench.deliver()
    centre.intake.commit_sync()
    await bench.deliver()


def folder(tmp_path: Path, name: str) -> Path:
    """Make a data folder."""
    path = tmp_path / name
    path.mkdir()
    return path


async def side_by_side(seconds: int, one: Bench, other: Bench, late: bool) -> None:
    """Let two agents read the same counter at different parts of a second."""
    for _ in range(seconds):
        one.clock.pass_time(600)
        await (one if late else other).agent.tick()
        one.clock.pass_time(400)
        await (other if late else one).agent.tick()


@pytest.mark.parametrize("late", [True, False])
async def test_two_live_journals_of_one_node_book_every_joule_once(
    tmp_path: Path, ledger: Ledger, late: bool
) -> None:
    """The second waits with an alarm; when the first is gone it goes on where that one ended."""
    clock = FakeClock()
    centre = Centre(ledger, clock)
    one = Bench(folder(tmp_path, "a"), clock, aggregator=centre)
    other = Bench(folder(tmp_path, "b"), clock, aggregator=centre)
    first_ns = clock.boot + (600 if late else 1000) * 10**6
    await side_by_side(60, one, other, late)
    await deliver(one, centre)
    await side_by_side(60, one, other, late)
    assert not await other.agent.deliver_once()
    assert other.agent.sender is not None
    assert "two-live-journals" in other.agent.sender.trouble
    await deliver(one, centre)
    centre.intake.commit_sync()
    assert {"conflict": 1} == nodes(ledger)[0].events
    await one.agent.close()
    for _ in range(90):
        clock.pass_time(1000)
        await other.agent.tick()
    await deliver(other, centre)
    assert other.journal.pending == 0
    assert {"conflict": 1, "takeover": 1} == nodes(ledger)[0].events
    await other.agent.close()
    answer = balance(ledger)
    assert (True, []) == (answer.balanced, answer.problems)
    (meter,) = answer.meters
    assert (clock.boot - first_ns) * 3 // 10 == meter.measured_uj


async def test_a_backlog_merged_by_the_hour_balances(tmp_path: Path, ledger: Ledger) -> None:
    """Slot lines are inside its windows; holders came, went and were forgotten meanwhile."""
    clock = FakeClock()
    centre = Centre(ledger, clock)
    bench = Bench(folder(tmp_path, "a"), clock, aggregator=centre, max_bytes=1)
    await bench.agent.tick()
    await bench.run(30)
    await deliver(bench, centre)
    centre.down = True
    for number in range(20):
        bench.holders.now = [HolderKey("slurm", str(number), 5)] if number % 3 else []
        clock.pass_time(1000 * (number % 2))
        await bench.run(300)
    assert bench.journal.pending < 100
    centre.down = False
    await deliver(bench, centre)
    answer = balance(ledger)
    assert (True, []) == (answer.balanced, answer.problems)
    assert bench.journal.pending == 0
    (meter,) = answer.meters
    assert meter.expected_seconds * WATTS_UJ == meter.measured_uj
    await bench.agent.close()


async def test_an_intake_that_takes_nothing_is_not_hammered(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too much waits for a commit: the agent keeps its windows and asks again in its own time."""
    clock = FakeClock()
    centre = Centre(ledger, clock)
    bench = Bench(folder(tmp_path, "a"), clock, aggregator=centre)
    await bench.agent.tick()
    await bench.run(60)
    await bench.deliver()
    with monkeypatch.context() as patch:
        patch.setattr("wattkeeper.ledger.intake.MAX_POSTINGS", 0)
        await bench.run(60)
        assert await bench.deliver() == 1
        assert bench.journal.pending > 0
    await deliver(bench, centre)
    assert bench.journal.pending == 0
    assert balance(ledger).balanced
    await bench.agent.close()


async def test_a_long_dictionary_arrives_in_pieces(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More holders than one delivery carries: no window is given up for the want of a name."""
    monkeypatch.setattr("wattkeeper.agent.sender._MOST_HOLDERS", 2)
    clock = FakeClock()
    centre = Centre(ledger, clock)
    bench = Bench(folder(tmp_path, "a"), clock, aggregator=centre)
    await bench.agent.tick()
    for number in range(12):
        bench.holders.now = [HolderKey("slurm", str(number), 5)]
        await bench.run(3)
    await bench.agent.tick(checkpoint=True)
    await bench.run(20)
    await deliver(bench, centre)
    assert 0 == centre.intake.counts.refused
    assert bench.journal.pending == 0
    assert balance(ledger).balanced
    await bench.agent.close()
