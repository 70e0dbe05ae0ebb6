"""Books and history are copied while data comes in, lost, and restored: docs/operations.md."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable

import msgspec
import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Program, Site, history, until
from tests.fake_nvml.library import FakeNvml
from wattkeeper.delivery.wire import decode_record
from wattkeeper.model.window import Window

pytestmark = pytest.mark.compiler


class Centre:
    """The aggregator, its folder, and copies of both stores elsewhere."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.aggregator_dir
        self.safe = site.folder / "safe"
        self.safe.mkdir()
        self.program: Program = site.aggregator()

    def copy_books(self) -> None:
        """Copy the ledger while the aggregator writes to it."""
        ledger, copy = self.folder / "ledger.sqlite", self.safe / "ledger.sqlite"
        with contextlib.closing(sqlite3.connect(ledger)) as source:
            source.execute("VACUUM INTO ?", (str(copy),))

    def copy_history(self) -> None:
        """Copy the history while the aggregator is stopped for it; the agent goes on."""
        assert self.program.stop() == 0
        shutil.copytree(self.folder / "telemetry", self.safe / "telemetry")
        self.program = self.site.aggregator()

    def lose_everything(self) -> None:
        """The machine dies with its disk."""
        self.program.kill()
        shutil.rmtree(self.folder)

    def restore(self) -> None:
        """Put the copies where they were, and start."""
        shutil.copytree(self.safe, self.folder)
        self.program = self.site.aggregator()


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
}


@pytest.mark.parametrize("order", ORDERS)
def test_restored_from_copies_of_different_instants(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str], order: str
) -> None:
    """Books balance to the microjoule, and no window is missing that the agent still had."""
    centre = Centre(site)
    site.agent()
    site.await_first_window(uuids)
    until("the books have begun", lambda: len(site.measured_uj()) == len(uuids))
    crank.begin()
    for copy in ORDERS[order]:
        site.await_records(3 * len(uuids))
        copy(centre)
    site.await_records(3 * len(uuids))
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
    until("what waited is committed", lambda: not {*waiting}.intersection(_in_journal(site)))
    assert centre.program.stop() == 0
    found = [(meter, start_ms) for meter, start_ms, _ in history(centre.folder)]
    copied = [(meter, start_ms) for meter, start_ms, _ in history(centre.safe)]
    assert len(set(found)) == len(found)
    assert set(found).issuperset([*copied, *waiting])
