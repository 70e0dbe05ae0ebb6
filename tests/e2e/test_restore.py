"""Books and history are copied while data comes in, lost, and restored: docs/operations.md."""

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable

import msgspec
import pytest
from psycopg.sql import SQL, Identifier

from tests.e2e.hardware import Crank
from tests.e2e.programs import ROOT, Site, history, until
from tests.fake_nvml.library import FakeNvml
from tests.postgresql.server import Server, program
from wattkeeper.delivery.wire import decode_record
from wattkeeper.model.window import Window

pytestmark = [pytest.mark.compiler, pytest.mark.long]


class SqliteBooks:
    """The ledger as a file in the aggregator's folder."""

    def __init__(self, centre: "Centre") -> None:
        self._file, self._copy = centre.folder / "ledger.sqlite", centre.safe / "ledger.sqlite"
        self.flags: tuple[str, ...] = ()

    def copy(self) -> None:
        """Copy while the aggregator writes to it."""
        with contextlib.closing(sqlite3.connect(self._file)) as source:
            source.execute("VACUUM INTO ?", (str(self._copy),))

    def lose(self) -> None:
        """Lose it with the aggregator's folder."""

    def restore(self) -> None:
        """Put the copy where it was."""
        shutil.copy(self._copy, self._file)


class PostgresqlBooks:
    """The ledger in a database."""

    def __init__(self, centre: "Centre", server: Server) -> None:
        self._server = server
        self._name = server.database()
        self._copy = centre.safe / "ledger.dump"
        self.flags = ("--ledger.url", server.url(self._name))

    def copy(self) -> None:
        """Dump while the aggregator writes to it."""
        self._run("pg_dump", "-Fc", "-f", str(self._copy), self._server.url(self._name))

    def lose(self) -> None:
        """Drop it."""
        self._server.drop(self._name)

    def restore(self) -> None:
        """Make it again, and fill it from the dump."""
        self._server.run(SQL("CREATE DATABASE {}").format(Identifier(self._name)))
        self._run("pg_restore", "-e", "-d", self._server.url(self._name), str(self._copy))

    def _run(self, name: str, *args: str) -> None:
        subprocess.run([program(name) or name, *args], check=True, timeout=60)


class Centre:
    """The aggregator, its folder, and copies of both stores elsewhere."""

    def __init__(self, site: Site, server: Server | None) -> None:
        self.site = site
        self.folder = site.aggregator_dir
        self.safe = site.folder / "safe"
        self.safe.mkdir()
        self.books = SqliteBooks(self) if server is None else PostgresqlBooks(self, server)
        self.start()

    def start(self) -> None:
        """Start the aggregator."""
        self.program = self.site.aggregator(*self.books.flags)

    def stop(self) -> None:
        """Stop it as systemd does."""
        assert self.program.stop() == 0

    def copy_books(self) -> None:
        """Copy the ledger while the aggregator writes to it."""
        self.books.copy()

    def copy_history(self) -> None:
        """Copy the history while the aggregator is stopped for it; the agent goes on."""
        self.stop()
        shutil.copytree(self.folder / "telemetry", self.safe / "telemetry")
        self.start()

    def copy_as_told(self) -> None:
        """Do word for word what docs/operations.md tells to do."""
        text = (ROOT / "docs/operations.md").read_text()
        recipe = text.partition("## Backup and restore")[2].partition("```sh\n")[2]
        script = recipe.partition("```")[0]
        script = script.replace("/var/lib/wattkeeper", str(self.folder))
        script = script.replace("/backup", str(self.safe))
        steps = re.split(
            r"^systemctl (?:stop|start) wattkeeper-aggregator\n", script, flags=re.MULTILINE
        )
        for step, do in zip(steps, (self.stop, self.start, None), strict=True):
            subprocess.run(["sh", "-euc", step], check=True, timeout=60)
            if do is not None:
                do()

    def lose_everything(self) -> None:
        """The machine dies with its disk."""
        self.program.kill()
        shutil.rmtree(self.folder)
        self.books.lose()

    def restore(self) -> None:
        """Put the copies where they were, and start."""
        self.folder.mkdir()
        shutil.copytree(self.safe / "telemetry", self.folder / "telemetry")
        self.books.restore()
        self.start()


def _in_journal(site: Site) -> list[tuple[str, int]]:
    """Return meter and start of every window that the agent could still send."""
    path = site.agent_dir / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        entries = journal.execute("SELECT number, payload FROM entry WHERE kind = 'meter'")
        names = {number: msgspec.msgpack.decode(payload)[0] for number, payload in entries}
        payloads = journal.execute("SELECT payload FROM record").fetchall()
    records = [decode_record(payload) for (payload,) in payloads]
    return [(names[one.meter], one.start_ms) for one in records if isinstance(one, Window)]


ORDERS: dict[str, tuple[Callable[[Centre], None], ...]] = {
    "books first": (Centre.copy_books, Centre.copy_history),
    "history first": (Centre.copy_history, Centre.copy_books),
    "as told": (Centre.copy_as_told,),
}


@pytest.mark.parametrize("order", ORDERS)
def test_restored_from_copies_of_different_instants(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str], order: str
) -> None:
    """Books balance to the microjoule, and no window is missing that the agent still had."""
    for tool in ("rsync", "sqlite3"):
        if order == "as told" and shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    _survives(Centre(site, None), crank, fake, uuids, ORDERS[order])


@pytest.mark.postgresql
def test_a_dump_of_postgresql_restored(
    site: Site, server: Server, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """The same with the ledger in a database that was dumped, dropped and filled again."""
    _survives(Centre(site, server), crank, fake, uuids, ORDERS["books first"])


def _survives(
    centre: Centre,
    crank: Crank,
    fake: FakeNvml,
    uuids: list[str],
    copies: tuple[Callable[[Centre], None], ...],
) -> None:
    site = centre.site
    site.agent()
    site.await_first_window(uuids)
    until("the books have begun", lambda: len(site.measured_uj()) == len(uuids))
    crank.begin()
    for copy in copies:
        site.await_records(3 * len(uuids))
        copy(centre)
    site.await_records(3 * len(uuids))
    since = {*_in_journal(site)}
    until("what came since is released", lambda: since.isdisjoint(_in_journal(site)))
    centre.lose_everything()
    until("windows wait for the aggregator", lambda: len(_in_journal(site)) >= 3 * len(uuids))
    waiting = _in_journal(site)
    centre.restore()
    crank.finish()

    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(len(uuids))}
    until("the books hold it all", lambda: truth == site.measured_uj())
    balance = site.cli("balance", "--url", site.aggregator_url, "--format", "json")
    answer = json.loads(balance.stdout)
    assert (balance.returncode, answer["residual_uj"], answer["problems"]) == (0, "0", [])
    # What came after the copy and was committed, the agent has no longer: its sum is known.
    assert all(int(meter["gap_uj"]) > 0 for meter in answer["meters"])
    until("what waited is committed", lambda: {*waiting}.isdisjoint(_in_journal(site)))
    assert centre.program.stop() == 0
    found = [(meter, start_ms) for meter, start_ms, _ in history(centre.folder)]
    copied = [(meter, start_ms) for meter, start_ms, _ in history(centre.safe)]
    assert len(set(found)) == len(found)
    assert set(found).issuperset([*copied, *waiting])
