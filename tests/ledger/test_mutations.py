"""The check can fail: whatever is done to one row of a good ledger, balance says no."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest
import sqlalchemy as sa
from tests.ledger.books import SLOT, T0, WINDOW, Journal, Meter, holder
from tests.ledger.settling import answer, gpu, run, settle_all, settled

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.model.window import EpochInfo, Unmeasured

KEYS = ("holder", "method", "split", "policy", "meter")
TABLES = {
    "posting": ("uj", "ms", "idle_uj", "idle_ms", *KEYS, "slot"),
    "rollup": ("uj", "ms", "idle_uj", "idle_ms", "peak_mw", "to_ms", *KEYS, "day"),
    "point": ("value_uj", "at_ms", "epoch", "n", "seal", "meter"),
    "coverage": ("covered_ms", "unmeasured_ms", "held_ms", "slot", "meter"),
    "coverage_day": ("covered_ms", "unmeasured_ms", "held_ms", "day", "meter"),
}
"""Altered columns. Of a posting's `peak_mw` and `to_ms` only the day's greatest is double-entered:
they describe, they are no part of the sums."""
CPU = ("cpu/0/package", Component.CPU)
STEPS = {"slot": SLOT, "holder": 1, "meter": 1}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with two meters, two epochs, a gap, unmeasured time, an open slot, settlement."""
    path = tmp_path_factory.mktemp("ledger") / "good.sqlite"
    ledger = Ledger.open(path)
    intake = Intake(ledger)
    journal = Journal()
    journal.holders[16] = holder("7")
    journal.epochs[2] = EpochInfo("boot-1", "load", 1)
    start = T0 + 20 * WINDOW
    answer(ledger, intake, T0, run(9, start, 0))
    for number, meter in enumerate((gpu(journal), Meter(journal, 2, *CPU)), 1):
        meter.point()
        meter.run(100, (16, 5_000), (1, 700))
        journal.write(
            Unmeasured(number, meter.at_ms, meter.at_ms + 70_000, meter.boot(meter.at_ms), "reset")
        )
        meter.at_ms, meter.uj, meter.epoch = meter.at_ms + 70_000, 0, 2
        meter.point()
        meter.run(3, (16, 900))
        meter.point()
        meter.window((16, 31_000), (4, 17), ms=1_100_000, split=3)
        meter.point()
        meter.run(5, (16, 900))
    journal.deliver(intake, T0 + 4 * SLOT)
    intake.commit_sync()
    answer(ledger, intake, T0 + 4 * SLOT, run(9, start, 0))
    settle_all(ledger, T0 + 4 * SLOT)
    assert settled(ledger)["9"] == (80 * 700, 80 * WINDOW)
    answered = balance(ledger)
    assert (answered.problems, answered.residual_uj) == ([], 0)
    assert all(row.open_uj for row in answered.meters)
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return path


def rows(path: Path, table: str) -> list[dict[str, int]]:
    """Return the rows of a table."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    connection.close()
    return found


def mutations(table: str, row: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield what can be done to a row as (name, SQL without its WHERE)."""
    yield "deleted", f"DELETE FROM {table}"
    # The second meter has the same kinds of rows: what is left to show is that none moves to it.
    for column in TABLES[table] if row["meter"] == 1 else ["meter"]:
        step = STEPS.get(column, 1)
        yield f"{column} raised", f"UPDATE OR IGNORE {table} SET {column} = {column} + {step}"
        yield f"{column} lowered", f"UPDATE OR IGNORE {table} SET {column} = {column} - {step}"
        if row[column]:
            yield f"{column} doubled", f"UPDATE OR IGNORE {table} SET {column} = {column} * 2"


def test_every_mutation_of_every_row_is_found(good: Path, tmp_path: Path) -> None:
    """Delete, raise, lower or double: each is found, by a problem that names the meter."""
    work = tmp_path / "work.sqlite"
    copyfile(good, work)
    ledger = Ledger(sa.create_engine(f"sqlite:///{work}"), SLOT)
    names = {row["id"]: row["name"] for row in rows(good, "meter")}
    missed, tried = [], 0
    hand = sqlite3.connect(work, isolation_level=None)
    hand.execute("PRAGMA synchronous=OFF")
    hand.execute("PRAGMA journal_mode=MEMORY")
    hand.execute(f"ATTACH '{good}' AS good")
    for table in TABLES:
        for row in rows(good, table):
            where = " AND ".join(f"{name} = {value}" for name, value in row.items())
            for name, sql in mutations(table, row):
                if not hand.execute(f"{sql} WHERE {where}").rowcount:
                    continue  # the row would have become another one: its key refuses that
                tried += 1
                found = balance(ledger)
                if found.balanced or not _named(found.problems, names[row["meter"]]):
                    missed.append((table, name, row, found.problems))
                hand.execute(f"DELETE FROM {table}")
                hand.execute(f"INSERT INTO {table} SELECT * FROM good.{table}")
    hand.close()
    assert balance(ledger).balanced
    ledger.close()
    assert tried > 400
    assert missed == []


def _named(problems: list[str], meter: object) -> bool:
    return any(f" {meter}: " in text for text in problems)


def test_a_settlement_with_one_side_is_found_in_sums_that_are_right(
    good: Path, tmp_path: Path
) -> None:
    """Booked as settled on one side and as something else on the other: the balance says so."""
    work = tmp_path / "work.sqlite"
    copyfile(good, work)
    ledger = Ledger(sa.create_engine(f"sqlite:///{work}"), SLOT)
    hand = sqlite3.connect(work, isolation_level=None)
    for table in ("posting", "rollup"):
        hand.execute(f"UPDATE {table} SET split = 1 WHERE split = 2 AND uj > 0")
    hand.close()
    found = balance(ledger)
    ledger.close()
    assert found.residual_uj == 0
    assert any("settlement in slot" in text for text in found.problems)


def test_more_than_was_idle_cannot_be_settled(good: Path, tmp_path: Path) -> None:
    """Both sides raised, so that every sum is right: idle would be below nothing."""
    work = tmp_path / "work.sqlite"
    copyfile(good, work)
    ledger = Ledger(sa.create_engine(f"sqlite:///{work}"), SLOT)
    hand = sqlite3.connect(work, isolation_level=None)
    for table in ("posting", "rollup"):
        hand.execute(f"UPDATE {table} SET uj = uj + 1000000 WHERE split = 2 AND uj > 0")
        hand.execute(f"UPDATE {table} SET uj = uj - 1000000 WHERE split = 2 AND uj < 0")
    hand.close()
    found = balance(ledger)
    ledger.close()
    assert found.residual_uj == 0
    assert any("than was idle" in text for text in found.problems)
