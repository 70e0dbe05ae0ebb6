"""Books that an older version wrote stay what they are."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger import migrations
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

OLD_KEYS = "SELECT count(*) FROM pragma_table_info('posting') WHERE pk"


def make_old(path: Path, revision: str) -> None:
    """Make an empty database as it was at a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def copy(new: Path, old: Path) -> None:
    """Copy a ledger into an older database: what that one has no column for is left behind."""
    connection = sqlite3.connect(old)
    connection.execute(f"ATTACH '{new}' AS new")
    tables = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'alembic_version'"
    )
    for (table,) in tables.fetchall():
        names = ", ".join(f'"{name}"' for name in columns(connection, table))
        connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    connection.commit()
    connection.close()


def write(ledger: Ledger, deliveries: int) -> Meter:
    """Book two holders and idle energy over more than a slot."""
    journal = Journal(holders={16: holder("7", user="ann"), 17: holder("8")})
    meter = Meter(journal)
    meter.point()
    meter.run(100, (16, 5_000), (17, 300), (1, 700))
    go_on(ledger, meter, deliveries)
    return meter


def go_on(ledger: Ledger, meter: Meter, windows: int) -> None:
    """Write further windows and book all that is new."""
    meter.run(windows, (16, 5_000), (1, 700))
    intake = Intake(ledger)
    meter.journal.deliver(intake, T0 + 4 * SLOT)
    intake.commit_sync()


def test_the_first_books_are_taken_over(tmp_path: Path) -> None:
    """A ledger of the first version with postings in it answers as before, and goes on."""
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    ledger = Ledger.open(new)
    meter = write(ledger, 3)
    expected = balance(ledger), job(ledger, "c", "7")
    ledger.close()
    make_old(old, "0001")
    copy(new, old)
    connection = sqlite3.connect(old)
    assert connection.execute(OLD_KEYS).fetchone() == (5,)
    connection.close()

    ledger = Ledger.open(old)
    assert (balance(ledger), job(ledger, "c", "7")) == expected
    assert expected[0].balanced
    go_on(ledger, meter, 50)
    assert balance(ledger).balanced
    assert balance(ledger).total_uj == 100 * 6_000 + 53 * 5_700
    with ledger.reading() as reading:
        assert reading.exec_driver_sql(OLD_KEYS).scalar() == 6
        left = "SELECT count(*) FROM sqlite_master WHERE name LIKE '%\\_0001%' ESCAPE '\\'"
        assert reading.exec_driver_sql(left).scalar() == 0
    ledger.close()


def test_runs_that_a_scheduler_told_are_found_again(tmp_path: Path) -> None:
    """What it says after the upgrade is about the same run, not another one."""
    new, old = tmp_path / "new.sqlite", tmp_path / "old.sqlite"
    ledger = Ledger.open(new)
    meter = write(ledger, 3)
    told = WorkloadInfo("c", "simulated", "7", "7", account="lab", start_ms=T0)
    record_knowledge(ledger, "simulated", Knowledge([told]))
    expected = job(ledger, "c", "7")
    ledger.close()
    make_old(old, "0001")
    copy(new, old)

    ledger = Ledger.open(old)
    assert job(ledger, "c", "7") == expected
    record_knowledge(ledger, "simulated", Knowledge([told]))
    assert job(ledger, "c", "7") == expected
    meter.journal.holders[18] = holder("8", T0 + SLOT)
    meter.run(1, (18, 5))
    go_on(ledger, meter, 1)
    found = job(ledger, "c", "7")
    assert found is not None
    assert (found.account, found.runs, found.energy_uj) == ("lab", 1, 104 * 5_000)
    ledger.close()
