"""The database: its schema, its settings, and sums that 64 bits cannot hold."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger import schema
from wattkeeper.ledger.exported import account_totals
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.store import Ledger, LedgerError


def test_migrations_make_the_schema(ledger: Ledger) -> None:
    """What the migrations make is what the code expects."""
    with ledger.reading() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []


def test_a_ledger_keeps_its_slot(tmp_path: Path) -> None:
    """Another slot is refused with the reason; none takes the ledger's own."""
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path, slot_ms=300_000).close()
    again = Ledger.open(path)
    assert again.slot_ms == 300_000
    again.close()
    with pytest.raises(LedgerError, match=r"ledger\.slot: this ledger was made with slots of 5 mi"):
        Ledger.open(path, slot_ms=900_000)
    with pytest.raises(LedgerError, match=r"ledger\.slot: 60000 ms is none of 5, 15, 30, 60"):
        Ledger.open(path, slot_ms=60_000)


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """A database of a later version is left alone."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    with ledger.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    ledger.close()
    with pytest.raises(LedgerError, match="written by a newer version of wattkeeper"):
        Ledger.open(path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/at/all/ledger.sqlite", "unable to open database file"),
        ("nonsense", "ledger.url: "),
        ("oracle9://host/db", "ledger.url: "),
    ],
)
def test_a_ledger_that_cannot_be_opened(url: str, message: str) -> None:
    """The message names the setting and the cause."""
    with pytest.raises(LedgerError, match=message):
        Ledger.open(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """Some other file at the path is not touched."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="file is not a database"):
        Ledger.open(path)
    assert path.read_bytes() == b"not a database" * 100


def test_sums_are_exact_at_a_gigawatt_year(ledger: Ledger, intake: Intake) -> None:
    """10^22 µJ and one: beyond 64 bits every answer is exact, where SUM would raise."""
    huge, meters = 4_000_000_000_000_000_001, 2_500
    journal = Journal(holders={16: holder("7", account="lab")})
    for number in range(1, meters + 1):
        meter = Meter(journal, number, f"gpu/GPU-{number}", uj=0)
        meter.point()
        meter.window((16, 10_000_000_000), ms=SLOT)
    journal.deliver(intake, T0 + 4 * SLOT)
    intake.commit_sync()
    with ledger.writing() as connection:
        # No meter draws this in one slot: written by hand, in postings and points alike.
        for table in (schema.posting, schema.rollup):
            connection.execute(sa.update(table).values(uj=huge))
        connection.execute(
            sa.update(schema.point).where(schema.point.c.n == 2).values(value_uj=huge)
        )
        connection.execute(sa.update(schema.meter).values(uj=huge))
    total = huge * meters
    assert total == 10**22 + meters
    answer = balance(ledger)
    assert (answer.residual_uj, answer.total_uj) == (0, total)
    found = job(ledger, "c", "7")
    assert found is not None
    assert found.energy_uj == total
    assert report(ledger, "account").total_uj == total
    assert account_totals(ledger)[0].uj == total
    assert account_totals(ledger)[0].uj == total
