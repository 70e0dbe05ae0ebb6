"""Two aggregators, real programs, on one PostgreSQL, behind a balancer that sends at random."""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.e2e.programs import ROOT, Program, free_port, until
from tests.ledger.agents import Agent
from tests.ledger.books import SLOT
from tests.ledger.test_sharing import said, written_once
from tests.postgresql.server import Server
from wattkeeper.delivery import wire
from wattkeeper.ledger.store import Ledger

pytestmark = pytest.mark.postgresql


class Aggregators:
    """Two of them, each with a folder and a port of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        clean = {name: text for name, text in os.environ.items() if not name.startswith("WATT")}
        own = {"PYTHONPATH": str(ROOT / "daemon"), "WATTKEEPER_AGGREGATOR_LEDGER__URL": url}
        self._environ = clean | own
        self.ports = [free_port(), free_port()]
        self.programs = [self._start(number) for number in range(2)]

    def _start(self, number: int) -> Program:
        return Program(
            ["aggregator", "--listen", f"127.0.0.1:{self.ports[number]}",
             "--data-dir", str(self._folder / f"a{number}"),
             "--commit-interval", "300ms", "--ledger.lease", "2s", "--telemetry.url", "none"],
            self._environ, self._folder / f"a{number}.log",
        )  # fmt: skip

    def again(self, number: int) -> None:
        """Start one that was killed."""
        self.programs[number] = self._start(number)

    def get(self, number: int, path: str) -> str | None:
        """Return what one of them answers, None where it does not."""
        try:
            url = f"http://127.0.0.1:{self.ports[number]}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def holders(self) -> list[int] | None:
        """Return who says that it holds the lease, None if nobody does."""
        told = [(number, self.get(number, "/healthz")) for number in range(2)]
        held = [number for number, text in told if text and json.loads(text)["holds_lease"]]
        return held or None

    def take(self, number: int) -> Callable[[wire.Batch], wire.Ack]:
        """Return what delivers to one of them."""

        def deliver(batch: wire.Batch) -> wire.Ack:
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.ports[number]}/v1/windows",
                wire.pack(batch),
                {"Content-Type": wire.CONTENT_TYPE},
            )
            with urllib.request.urlopen(request, timeout=20) as answer:
                return msgspec.json.decode(answer.read(), type=wire.Ack)

        return deliver

    def close(self) -> None:
        """End whatever runs."""
        for program in self.programs:
            if program.process.poll() is None:
                program.kill()


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """An empty ledger."""
    return new_url()


@pytest.fixture
def aggregators(tmp_path: Path, url: str) -> Iterator[Aggregators]:
    """Two aggregators that answer."""
    both = Aggregators(tmp_path, url)
    try:
        until("both answer", lambda: all(both.get(number, "/healthz") for number in range(2)))
        yield both
    finally:
        both.close()


def now_ms() -> int:
    """Return UTC milliseconds."""
    return time.time_ns() // 1_000_000


def send(agent: Agent, aggregators: Aggregators, chance: Random) -> None:
    """Deliver to one of the aggregators, whichever."""
    agent.now_ms = now_ms()
    agent.send(aggregators.take(chance.randrange(2)), chance)


def test_books_of_two_are_those_of_one(
    aggregators: Aggregators, url: str, server: Server, tmp_path: Path
) -> None:
    """Agents switch and resend at random while the holder of the lease is killed, and comes back.

    No record is lost or booked twice, no two hold the lease, nothing deadlocks.
    """
    chance = Random(2)
    at_ms = now_ms() - 40 * SLOT
    agents = [Agent.make(number, at_ms - at_ms % SLOT) for number in range(4)]
    (holder,) = until("one holds the lease", aggregators.holders)
    for turn in range(60):
        for agent in agents:
            if turn < 40 and turn % 5 == 0:
                agent.work(chance)
            try:
                send(agent, aggregators, chance)
            except (urllib.error.URLError, ConnectionError):
                continue
        if turn == 20:
            aggregators.programs[holder].kill()
    assert until("the other one has it", aggregators.holders) == [1 - holder]
    aggregators.again(holder)
    until("it answers again", lambda: aggregators.get(holder, "/healthz"))
    assert aggregators.holders() == [1 - holder]
    assert "wattkeeper_lease_held 0.0" in (aggregators.get(holder, "/metrics") or "")
    assert "wattkeeper_ledger_residual" not in (aggregators.get(holder, "/metrics") or "")
    assert "wattkeeper_ledger_residual" in (aggregators.get(1 - holder, "/metrics") or "")

    def committed() -> bool:
        for agent in agents:
            if not agent.done:
                send(agent, aggregators, chance)
        return all(agent.done for agent in agents)

    until("everything is committed", committed)
    assert [program.stop() for program in aggregators.programs] == [0, 0]
    ledger, plain = Ledger.open(url), Ledger.open(tmp_path / "plain.sqlite")
    assert said(ledger) == written_once(plain, agents)
    assert "deadlock detected" not in server.log.read_text()
    for one in (ledger, plain):
        one.close()
