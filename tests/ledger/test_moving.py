"""A ledger moves from SQLite to PostgreSQL: whole, resumable, and proven."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa
from tests.ledger.agents import NOW, Agent
from tests.ledger.books import T0, take
from tests.ledger.settling import answer, run
from tests.ledger.test_sharing import said
from tests.postgresql.server import Server

from wattkeeper.ledger import moving, schema
from wattkeeper.ledger.exported import account_totals
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.moving import begin, copy, end, prove, total
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import Ledger, LedgerError

pytestmark = pytest.mark.postgresql
ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, signal, sys
from wattkeeper.ledger import moving
from wattkeeper.cli.main import main
moving.PIECE = 40
pieces, put = [0], moving._put
def killed(*args):
    pieces[0] += 1
    if pieces[0] == {last}:
        if {late}:
            put(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    put(*args)
if {last}:
    moving._put = killed
sys.exit(main(["migrate", "--config", {config!r}]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An aggregator's data folder with books: nodes, jobs, grants, settled energy, totals."""
    folder = tmp_path / "data"
    folder.mkdir()
    ledger = Ledger.open(folder / "ledger.sqlite", slot_ms=300_000)
    intake, chance = Intake(ledger), Random(3)
    answer(ledger, intake, T0, run(9, T0, 0))
    for number in range(3):
        agent = Agent.make(number)
        for _ in range(4):
            agent.work(chance)
        agent.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer(ledger, intake, NOW, run(9, T0, 0))
    while settle(ledger, NOW):
        pass
    account_totals(ledger)
    with ledger.writing() as connection:
        # What an older version let in.
        connection.execute(sa.update(schema.event).values(detail="nu\0l"))
        connection.execute(sa.insert(schema.boot).values(node=1, boot="bo\0ot"))
    ledger.close()
    return folder


@pytest.fixture
def source(folder: Path) -> Iterator[Ledger]:
    """The ledger in that folder."""
    ledger = Ledger.open(folder / "ledger.sqlite")
    yield ledger
    ledger.close()


@pytest.fixture
def target(server: Server) -> Iterator[Ledger]:
    """A database that nothing was ever in."""
    name = server.database()
    ledger = Ledger.open(server.url(name), slot_ms=300_000)
    yield ledger
    ledger.close()
    server.drop(name)


def move(source: Ledger, target: Ledger) -> list[str]:
    """Move all of it; return what differs."""
    begin(source, target)
    copy(source, target, lambda _: None)
    proof = prove(source, target, lambda _: None)
    if not proof.differences:
        end(target)
    return proof.differences


def test_everything_is_moved(
    source: Ledger, target: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row; the new ledger answers the same, and goes on from there."""
    monkeypatch.setattr(moving, "PIECE", 37)
    done: list[int] = []
    begin(source, target)
    copy(source, target, done.append)
    assert sum(done) == total(source) > 100
    assert prove(source, target, lambda _: None).differences == []
    end(target)
    assert said(target) == said(source)
    assert account_totals(target) == account_totals(source)
    agent = Agent.make(7)
    agent.work(Random(1))
    intake = Intake(target)
    agent.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer(target, intake, NOW + 1, run(9, T0, 0), run(10, T0, 1))
    assert balance(target).balanced == balance(source).balanced
    assert take(intake, agent.journal.batch(1, 0, NOW), NOW).committed == len(agent.journal.records)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE posting SET uj = uj + 1 WHERE meter = 1",
        "DELETE FROM gap WHERE id = 1",
        "UPDATE point SET at_ms = at_ms + 1 WHERE n = 2",
        "UPDATE workload SET account = 'other'",
        "UPDATE journal SET seq = seq + 1",
    ],
)
def test_what_differs_is_told(source: Ledger, target: Ledger, change: str) -> None:
    """One figure, one row, one word, one cursor."""
    begin(source, target)
    copy(source, target, lambda _: None)
    with target.writing() as connection:
        assert connection.execute(sa.text(change)).rowcount
    table = change.split()[1 if change.startswith("UPDATE") else 2]
    differences = prove(source, target, lambda _: None).differences
    assert any(line.startswith(f"{table}: ") for line in differences)
    assert any("its balance is another" in line for line in differences) == (
        table in ("posting", "point")
    )


def test_nobody_uses_half_a_ledger(source: Ledger, target: Ledger) -> None:
    """An aggregator starts on it once all of it is there, and none may be running before."""
    lease = Lease(target, "host:/data")
    lease.join(alone=False)
    with pytest.raises(LedgerError, match="the aggregator host:/data is using it; stop it first"):
        begin(source, target)
    lease.leave()
    begin(source, target)
    with pytest.raises(LedgerError, match="run `wattkeeper migrate` until it has ended"):
        lease.join(alone=False)
    assert move(source, target) == []
    lease.join(alone=False)
    lease.leave()
    with pytest.raises(LedgerError, match="it holds books already"):
        begin(source, target)


def test_another_move_has_begun(source: Ledger, target: Ledger, tmp_path: Path) -> None:
    """It is ended first, or given up: then nothing of it is left."""
    other = Ledger.open(tmp_path / "other.sqlite", slot_ms=300_000)
    begin(source, target)
    copy(source, target, lambda _: None)
    with pytest.raises(LedgerError, match=r"a move from .* has begun and not ended"):
        begin(other, target)
    begin(other, target, again=True)
    assert total(target) == 0
    assert move(other, target) == []
    other.close()


def test_killed_again_and_again(folder: Path, tmp_path: Path, target: Ledger) -> None:
    """The command goes on where it was, whether its last piece was on disk or not."""
    config = tmp_path / "aggregator.toml"
    url = target.engine.url.render_as_string(hide_password=False)
    config.write_text(f'data_dir = "{folder}"\n[ledger]\nurl = "{url}"\n')

    def migrate(last: int, *, late: bool = False) -> "subprocess.CompletedProcess[str]":
        program = PROGRAM.format(last=last, late=late, config=str(config))
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60,
            check=False, env={"PYTHONPATH": str(ROOT / "daemon"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip

    for last, late in ((1, False), (3, True), (2, False)):
        assert migrate(last, late=late).returncode == -9
    done = migrate(0)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "meters are the same in both" in done.stdout
    source = Ledger.open(folder / "ledger.sqlite")
    assert said(target) == said(source)
    source.close()
    again = migrate(0)
    assert again.returncode == 2
    assert "it holds books already" in again.stderr
