"""Several aggregators on one ledger: whoever takes what, the books are those of one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest
from tests.ledger.agents import NOW, Agent
from tests.ledger.books import Journal, Meter, holder, take
from tests.postgresql.fixtures import empty
from tests.postgresql.server import Server

from wattkeeper.delivery.wire import Ack, Batch
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import JobFilter, jobs
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.store import Ledger, LedgerError

NODES = 4
ROUNDS = 8


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that one aggregator writes, to compare with."""
    opened = Ledger.open(tmp_path / "plain.sqlite")
    yield opened
    opened.close()


def to(intake: Intake) -> Callable[[Batch], Ack]:
    """Return what takes a delivery as the aggregator does."""
    return partial(take, intake, now_ms=NOW)


def said(ledger: Ledger) -> list[object]:
    """Return what the books say, without the ledger's own ids."""
    found = [(job.raw_id, job.energy_uj, job.nodes, job.runs) for job in jobs(ledger, JobFilter())]
    rows = [row for by in ("account", "node") for row in report(ledger, by).rows]
    of_jobs = [sorted((job.uj, job.state) for job in row.by_job) for row in rows]
    return [balance(ledger), sorted(found), [replace(row, by_job=[]) for row in rows], of_jobs]


def written_once(plain: Ledger, agents: list[Agent]) -> list[object]:
    """Return what the books say of one aggregator that is sent everything in order."""
    intake = Intake(plain)
    for agent in agents:
        agent.journal.oldest = 1
        agent.journal.deliver(intake, agent.now_ms)
    intake.commit_sync()
    return said(plain)


@pytest.mark.postgresql
@pytest.mark.parametrize("seed", range(2))
def test_agents_that_switch_and_resend_at_random(
    shared_ledger: Ledger, plain: Ledger, seed: int
) -> None:
    """Each record is booked once: with answers lost, batches again, aggregators that restart."""
    ledger = empty(shared_ledger)
    chance = Random(seed)
    agents = [Agent.make(number) for number in range(NODES)]
    intakes = [Intake(ledger) for _ in range(3)]
    moved = 0
    for _ in range(ROUNDS):
        for agent in agents:
            agent.work(chance)
        for _ in range(chance.randrange(12)):
            chance.choice(agents).send(to(chance.choice(intakes)), chance)
        number = chance.randrange(3)
        intakes[number].commit_sync()
        assert balance(ledger).residual_uj == 0
        if chance.random() < 0.1:
            moved += intakes[number].counts.moved
            intakes[number] = Intake(ledger)
    for _ in range(100):
        for agent in agents:
            if not agent.done:
                agent.send(to(chance.choice(intakes)), chance)
        chance.choice(intakes).commit_sync()
        if all(agent.done for agent in agents):
            break
    assert all(agent.done for agent in agents)
    assert moved + sum(intake.counts.moved for intake in intakes) > 0
    assert [agent.refused for agent in agents] == [[]] * NODES
    assert said(ledger) == written_once(plain, agents)
    assert [row.events for row in nodes(ledger)] == [{}] * NODES


@pytest.mark.postgresql
def test_commits_at_the_same_time(
    server: Server, new_url: Callable[[], str], plain: Ledger
) -> None:
    """Two aggregators commit all the time: no deadlock, no joule twice."""
    ledger = Ledger.open(new_url())
    chance = Random(1)
    agents = [Agent.make(number) for number in range(4)]
    intakes = [Intake(ledger) for _ in range(2)]
    with committing(intakes) as failed:
        for number in range(2_000):
            for agent in agents:
                if number % 4 == 0 and number < 24:
                    agent.work(chance)
                if not agent.done:
                    agent.send(to(chance.choice(intakes)), chance)
            if number > 24 and all(agent.done for agent in agents):
                break
    assert failed == []
    assert all(agent.done for agent in agents)
    assert sum(intake.counts.moved for intake in intakes) > 0
    assert "deadlock detected" not in server.log.read_text()
    found = said(ledger)
    ledger.close()
    assert found == written_once(plain, agents)


@contextmanager
def committing(intakes: Sequence[Intake]) -> Iterator[list[LedgerError]]:
    """Commit in a thread of each intake, again and again; yields what failed."""
    over = threading.Event()
    failed: list[LedgerError] = []

    def commit(intake: Intake) -> None:
        while not over.is_set():
            try:
                intake.commit_sync()
            except LedgerError as error:
                failed.append(error)

    threads = [threading.Thread(target=commit, args=(intake,)) for intake in intakes]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    for intake in intakes:
        intake.commit_sync()


def test_one_node_that_moved_holds_up_no_other(ledger: Ledger) -> None:
    """What was taken of the others is written by the same commit."""
    first, second = Intake(ledger), Intake(ledger)
    mine, other = Agent.make(1), Agent.make(2)
    chance = Random(0)
    for agent in (mine, other):
        agent.work(chance)
        agent.journal.deliver(first, NOW)
    mine.journal.deliver(second, NOW)
    second.commit_sync()
    first.commit_sync()
    assert (first.counts.moved, first.counts.failed_commits) == (1, 0)
    for agent in (mine, other):
        last = len(agent.journal.records)
        assert first.accept(agent.journal.batch(last + 1, None, NOW), NOW).committed == last
    assert balance(ledger).balanced


def test_a_live_journal_is_live_for_all(ledger: Ledger) -> None:
    """A clone does not take over at the aggregator to which the node never delivered."""
    first, second = Intake(ledger), Intake(ledger)
    mine = Journal(holders={16: holder("7")})
    Meter(mine).run(5, (16, 100))
    mine.deliver(first, NOW)
    first.commit_sync()
    clone = Journal(name="journal-2", holders={16: holder("7")})
    Meter(clone).run(5, (16, 100))
    second.accept(clone.batch(1, None, NOW), NOW)  # it has not looked: it knows of no other
    second.commit_sync()
    assert second.counts.moved == 1
    assert [row.journal for row in nodes(ledger)] == ["journal-1"]
    mine.deliver(second, NOW)
    second.commit_sync()
    assert [(row.journal, row.events) for row in nodes(ledger)] == [("journal-1", {})]


def test_a_job_on_nodes_of_several_aggregators_is_one(ledger: Ledger) -> None:
    """Each sees a holder of it first; both find the same run."""
    intakes = [Intake(ledger), Intake(ledger)]
    agents = [Agent.make(0), Agent.make(1)]
    for agent in agents:
        agent.work(Random(0))
    for _ in range(2):  # in a file that nobody should share the second one begins again
        for agent, intake in zip(agents, intakes, strict=True):
            agent.journal.deliver(intake, NOW)
        for intake in intakes:
            intake.commit_sync()
    (job,) = [job for job in jobs(ledger, JobFilter()) if job.raw_id == "7"]
    assert (job.nodes, job.runs) == (["n0", "n1"], 1)
