"""Who may deliver what: forks, takeovers, rewinds, dictionaries, failed commits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any, NoReturn

import msgspec
import pytest
import sqlalchemy as sa
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.delivery.wire import GENESIS
from wattkeeper.ledger import schema
from wattkeeper.ledger.commit import write
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.queries.nodes import nodes
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.model.meter import Component, MeterInfo
from wattkeeper.model.window import EpochInfo, Unmeasured

NOW = T0 + 4 * SLOT
MINUTE = 60_000


def books(windows: int = 30, **fields: str) -> Meter:
    """Return a meter with windows of one holder, in a journal with the given fields."""
    journal = Journal(holders={16: holder("7")})
    for name, text in fields.items():
        setattr(journal, name, text)
    meter = Meter(journal)
    meter.point()
    meter.run(windows, (16, 5_000), (1, 700))
    return meter


_SQLITE = """
    CREATE TRIGGER full_disk BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'disk full'); END
"""
_POSTGRESQL = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
    AS $$BEGIN RAISE EXCEPTION 'disk full'; END$$;
    CREATE TRIGGER full_disk BEFORE UPDATE ON journal FOR EACH ROW EXECUTE FUNCTION refuse()
"""
REFUSE = {
    "sqlite": (_SQLITE, "DROP TRIGGER full_disk"),
    "postgresql": (_POSTGRESQL, "DROP FUNCTION refuse CASCADE"),
}
"""By database, what lets it refuse the end of a commit, and take it again."""


@contextmanager
def full_disk(ledger: Ledger) -> Iterator[None]:
    """Let the database refuse every commit."""
    refuse, take = REFUSE[ledger.engine.dialect.name]
    with ledger.writing() as connection:
        connection.exec_driver_sql(refuse)
    try:
        yield
    finally:
        with ledger.writing() as connection:
            connection.exec_driver_sql(take)


def refused(deliver: Callable[[], object]) -> tuple[str, str]:
    """Return kind and detail of the refusal."""
    with pytest.raises(Refusal) as caught:
        deliver()
    return caught.value.kind, caught.value.detail


def test_a_hole_is_answered_with_the_cursor(intake: Intake) -> None:
    """Records that still exist are asked for again by the answer alone."""
    journal = books().journal
    intake.accept(journal.batch(1, 10, NOW), NOW)
    ack = intake.accept(journal.batch(15, None, NOW), NOW)
    assert (ack.accepted, ack.committed) == (10, 0)
    assert journal.batch(11).previous.hex() == ack.accepted_hash


def test_another_record_under_a_known_number_is_a_fork(intake: Intake) -> None:
    """At the cursor and before it: the hash there differs."""
    one, other = books().journal, books(windows=31).journal
    other.records[5] = books(windows=1).journal.records[1]
    intake.accept(one.batch(1, 20, NOW), NOW)
    kind, detail = refused(lambda: intake.accept(other.batch(21, None, NOW), NOW))
    assert kind == "fork"
    assert "record 20 is another" in detail
    assert refused(lambda: intake.accept(other.batch(1, None, NOW), NOW))[0] == "fork"
    assert intake.accept(one.batch(21, None, NOW), NOW).accepted == len(one.records)


def test_a_cloned_node_is_a_fork(ledger: Ledger, intake: Intake) -> None:
    """One journal under two node names: the second is told to fork and then is on its own."""
    meter = books()
    meter.journal.deliver(intake, NOW)
    clone = replace(meter.journal, node="n2")
    kind, detail = refused(lambda: clone.deliver(intake, NOW))
    assert (kind, detail) == ("fork", "journal journal-1 is node n1's, delivered as n2")
    forked = replace(clone, name="journal-2", boot="boot-2", fork_of="journal-1")
    forked.deliver(intake, NOW)
    intake.commit_sync()
    assert [dict(row.events) for row in nodes(ledger)] == [
        {"fork": 1, "conflict": 1},
        {"conflict": 1},
    ]
    assert balance(ledger).residual_uj == 0


def test_two_live_journals_are_refused(ledger: Ledger, intake: Intake) -> None:
    """A second agent under one name is refused until the first is silent for a minute."""
    books().journal.deliver(intake, NOW)
    other = books(name="journal-2").journal
    kind, detail = refused(lambda: other.deliver(intake, NOW + MINUTE))
    assert kind == "two-live-journals"
    assert "journal-2 while journal-1 is live" in detail
    other.deliver(intake, NOW + MINUTE + 1)
    intake.commit_sync()
    (row,) = nodes(ledger)
    assert (row.journal, row.events) == ("journal-2", {"conflict": 1, "takeover": 1})


@pytest.mark.parametrize("fields", [{"boot": "boot-2"}, {"fork_of": "journal-1"}])
def test_a_new_boot_or_a_declared_fork_takes_over_at_once(
    intake: Intake, fields: dict[str, str]
) -> None:
    """Nobody has to wait for a silence that will not come."""
    books().journal.deliver(intake, NOW)
    other = replace(books().journal, name="journal-2", **fields)  # type: ignore[arg-type]
    assert other.deliver(intake, NOW).accepted == len(other.records)
    assert refused(lambda: books().journal.deliver(intake, NOW))[0] == "two-live-journals"


def test_a_boot_that_goes_on_after_another_machine_is_booked_again(
    ledger: Ledger, intake: Intake
) -> None:
    """A clone took the name for a while: the meters that both have do not stay dark for ever."""
    mine = books(windows=30)
    mine.journal.deliver(intake, NOW)
    clone = books(windows=60, name="journal-2", boot="boot-2")
    clone.journal.epochs = {1: EpochInfo("boot-2", "load")}
    clone.journal.deliver(intake, NOW + 1)
    mine.run(90, (16, 5_000))
    mine.journal.deliver(intake, NOW + 2 * MINUTE, first=32)
    intake.commit_sync()
    (meter,) = balance(ledger).meters
    assert (meter.workload_uj, meter.problems) == ((30 + 60 + 60) * 5_000, [])
    again = Intake(ledger)
    mine.run(10, (16, 5_000))
    mine.journal.deliver(again, NOW + 3 * MINUTE)
    again.commit_sync()
    assert balance(ledger).meters[0].workload_uj == (30 + 60 + 70) * 5_000
    assert balance(ledger).balanced


def test_a_moved_gpu_raises_none(ledger: Ledger, intake: Intake) -> None:
    """A GPU that turns up in another node after its old one fell silent was moved."""
    books().journal.deliver(intake, NOW)
    books(name="journal-2", node="n2").journal.deliver(intake, NOW + MINUTE + 1)
    intake.commit_sync()
    assert [row.events for row in nodes(ledger)] == [{}, {}]


@pytest.mark.parametrize(
    ("kind", "field", "entries"),
    [
        ("fork", "holders", {16: holder("8")}),
        ("fork", "meters", {1: MeterInfo("gpu/GPU-2", Component.GPU, "test")}),
        ("fork", "epochs", {1: EpochInfo("boot-1", "load", 7)}),
        ("invalid", "holders", {5: holder("8")}),
        ("invalid", "holders", {17: holder("8", birth_ms=1 << 63)}),
        ("invalid", "epochs", {2: EpochInfo("boot-1", "load", 1 << 63)}),
        ("invalid", "meters", {2: MeterInfo("x" * 10_000, Component.GPU, "test")}),
        ("invalid", "meters", {2: MeterInfo("gpu/\0", Component.GPU, "test")}),
        ("invalid", "epochs", {2: EpochInfo("boot-1\0", "load")}),
        ("invalid", "holders", {17: holder("8\0")}),
        ("invalid", "dictionary", {1 << 40: EpochInfo("boot-1", "load", 7)}),
    ],
)
def test_a_dictionary_that_cannot_be_is_refused(
    intake: Intake, kind: str, field: str, entries: dict[int, object]
) -> None:
    """An entry that is known cannot become another; the message names the field."""
    journal = books().journal
    intake.accept(journal.batch(1, 10, NOW), NOW)
    into = "epochs" if field == "dictionary" else field
    batch = msgspec.structs.replace(journal.batch(11, None, NOW), **{into: entries})
    said, detail = refused(lambda: intake.accept(batch, NOW))
    assert said == kind
    assert detail.startswith(field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"node": ""}, "node"),
        ({"node": "n\0"}, "node"),
        ({"fork_of": "\0"}, "fork_of"),
        ({"journal": "j" * 300}, "journal"),
        ({"boot": ""}, "boot"),
        ({"first": 0}, "first"),
        ({"previous": b"short"}, "previous"),
        ({"wall_ms": -1}, "wall_ms"),
        ({"cluster": "c" * 300}, "cluster"),
    ],
)
def test_an_identity_that_cannot_be_is_refused(
    intake: Intake, change: dict[str, object], field: str
) -> None:
    """The message names the field."""
    batch = msgspec.structs.replace(books().journal.batch(1, 1, NOW), **change)
    kind, detail = refused(lambda: intake.accept(batch, NOW))
    assert (kind, detail.split(":")[0].split(",")[0]) == ("invalid", field)


@pytest.mark.parametrize("field", ["meters", "holders", "epochs"])
def test_unknown_numbers_are_asked_for(ledger: Ledger, intake: Intake, field: str) -> None:
    """The cursor stays before the record that names one, the answer asks from below it."""
    journal = books().journal
    whole = journal.batch(1, None, NOW)
    ack = intake.accept(msgspec.structs.replace(whole, **{field: {}}), NOW)
    assert getattr(ack, field) == (15 if field == "holders" else 0)
    assert ack.accepted < len(journal.records)
    assert journal.deliver(intake, NOW).accepted == len(journal.records)
    intake.commit_sync()
    assert balance(ledger).balanced


def test_an_entry_that_never_comes_does_not_stall(ledger: Ledger, intake: Intake) -> None:
    """After being asked often enough the journal goes on: what cannot be read is refused."""
    journal = books().journal
    journal.holders = {}
    often = intake._roster.patience + 2
    acks = [intake.accept(journal.batch(1, None, NOW), NOW) for _ in range(often)]
    assert acks[-2].accepted < acks[-1].accepted == len(journal.records)
    intake.commit_sync()
    assert "holders: 16 is not in the journal's dictionary" in balance(ledger).problems[0]


def test_entries_that_are_gone_leave_a_hole(ledger: Ledger, intake: Intake) -> None:
    """A journal forgets holders that nothing names any more; later ones are learned."""
    journal = books().journal
    meter = Meter(journal, 2, "gpu/GPU-2")
    meter.point()
    meter.run(3, (40, 900))
    journal.holders[40] = holder("40")
    ack = journal.deliver(intake, NOW)
    assert (ack.accepted, ack.holders) == (len(journal.records), 40)
    intake.commit_sync()
    found = job(ledger, "c", "40")
    assert found is not None
    assert found.energy_uj == 2_700
    assert balance(ledger).balanced


def test_a_damaged_record_is_refused_alone(ledger: Ledger, intake: Intake) -> None:
    """Bytes that are no record do not stall a journal; every meter may have lost something."""
    meter = books(windows=10)
    meter.journal.records.append(b"\xc1 not a record")
    lost = meter.next_window((16, 5_700))
    meter.at_ms, meter.uj = lost.end_ms, lost.last_uj
    meter.run(10, (1, 700))
    assert meter.journal.deliver(intake, NOW).accepted == len(meter.journal.records)
    intake.commit_sync()
    answer = balance(ledger)
    assert (answer.meters[0].gap_uj, answer.residual_uj) == (5_700, 0)
    assert "record 12 was refused: record: " in answer.problems[0]


def test_a_restart_goes_on_from_the_last_commit(tmp_path: Path, ledger: Ledger) -> None:
    """What was accepted and not committed is sent again; what was committed is not booked twice."""
    journal = books(windows=60).journal
    intake = Intake(ledger)
    intake.accept(journal.batch(1, 20, NOW), NOW)
    intake.commit_sync()
    intake.accept(journal.batch(21, 40, NOW), NOW)
    again = Intake(ledger)
    ack = again.accept(journal.batch(41, None, NOW), NOW)
    assert (ack.accepted, ack.committed) == (20, 20)
    journal.deliver(again, NOW, first=21)
    again.commit_sync()
    assert balance(ledger).balanced
    assert balance(ledger).meters[0].measured_uj == 60 * 5_700


def test_a_restored_ledger_gets_what_the_journal_has_left(tmp_path: Path) -> None:
    """An older copy of the database: what was released since is a gap of exactly its joules."""
    path, copy = tmp_path / "ledger.sqlite", tmp_path / "copy.sqlite"
    journal = books(windows=60).journal
    ledger = Ledger.open(path)
    intake = Intake(ledger)
    intake.accept(journal.batch(1, 11, NOW), NOW)
    intake.commit_sync()
    with ledger.writing() as connection:
        connection.execute(sa.text("SELECT 1"))
    raw = ledger.engine.raw_connection()
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    copyfile(path, copy)
    intake.accept(journal.batch(12, 31, NOW), NOW)
    intake.commit_sync()
    journal.oldest = 32
    ledger.close()
    restored = Ledger.open(copy)
    again = Intake(restored)
    journal.deliver(again, NOW, first=32)
    again.commit_sync()
    answer = balance(restored)
    assert (answer.meters[0].gap_uj, answer.residual_uj, answer.problems) == (20 * 5_700, 0, [])
    restored.close()


def test_a_failed_commit_loses_nothing(ledger: Ledger, intake: Intake) -> None:
    """The database refuses; the cursor stays, more is accepted, the next commit writes it all."""
    journal = books(windows=60).journal
    intake.accept(journal.batch(1, 20, NOW), NOW)
    with full_disk(ledger):
        with pytest.raises(LedgerError, match="ledger: not written: disk full"):
            intake.commit_sync()
        assert intake.accept(journal.batch(21, 40, NOW), NOW).committed == 0
        with pytest.raises(LedgerError):
            intake.commit_sync()
    with ledger.reading() as connection:
        posted = sa.select(sa.func.count()).select_from(schema.posting)
        assert connection.execute(posted).scalar() == 0
    journal.deliver(intake, NOW)
    intake.commit_sync()
    assert intake.accept(journal.batch(len(journal.records) + 1), NOW).committed == 61
    assert balance(ledger).balanced
    assert balance(ledger).meters[0].measured_uj == 60 * 5_700
    assert (intake.counts.commits, intake.counts.failed_commits) == (1, 2)


def test_a_commit_whose_answer_is_lost_is_not_written_twice(
    ledger: Ledger, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke after the commit: what is on disk counts, the agent is asked again."""
    journal = books(windows=60).journal
    intake.accept(journal.batch(1, 20, NOW), NOW)

    def write_unheard(*args: Any) -> NoReturn:
        write(*args)
        raise LedgerError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr("wattkeeper.ledger.writer.write", write_unheard)
        with pytest.raises(LedgerError, match="connection lost"):
            intake.commit_sync()
    assert intake.accept(journal.batch(21, 40, NOW), NOW).accepted == 40
    intake.commit_sync()
    assert intake.counts.moved == 1
    ack = intake.accept(journal.batch(41, None, NOW), NOW)
    assert (ack.accepted, ack.committed) == (20, 20)
    journal.deliver(intake, NOW, first=21)
    intake.commit_sync()
    answer = balance(ledger)
    assert answer.balanced
    assert answer.meters[0].measured_uj == 60 * 5_700


def test_two_intakes_of_one_ledger_write_nothing_twice(ledger: Ledger, intake: Intake) -> None:
    """Two aggregators on one database: each finds out at its commit and reads the books anew."""
    journal = books(windows=60).journal
    other = Intake(ledger)
    intake.accept(journal.batch(1, 20, NOW), NOW)
    other.accept(journal.batch(1, 30, NOW), NOW)
    intake.commit_sync()
    other.commit_sync()
    assert other.counts.moved == 1
    journal.deliver(other, NOW, first=1)
    other.commit_sync()
    assert balance(ledger).balanced
    assert balance(ledger).meters[0].measured_uj == 60 * 5_700


async def test_commit_runs_beside_accept(ledger: Ledger, intake: Intake) -> None:
    """The coroutine writes in a thread and the loop may go on accepting."""
    journal = books(windows=60).journal
    intake.accept(journal.batch(1, 20, NOW), NOW)
    await intake.commit()
    assert journal.deliver(intake, NOW).committed == 20
    await intake.commit()
    assert balance(ledger).balanced


def test_a_text_that_a_database_cannot_hold(ledger: Ledger, intake: Intake) -> None:
    """Labels are what users write: a NUL in one of them does not stop the fleet's commits."""
    meter = books()
    meter.journal.holders[17] = holder("8", name="na\0me")
    info = meter.journal.meters[1]
    meter.journal.meters[1] = MeterInfo(info.name, info.component, "te\0st", {"a": "\0"})
    end = meter.at_ms + 1000
    meter.journal.write(Unmeasured(1, meter.at_ms, end, meter.boot(end), "un\0known"))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert balance(ledger).balanced
    found = job(ledger, "c", "8")
    assert found is not None
    assert found.name == "na\ufffdme"


def test_an_empty_batch_is_a_sign_of_life(intake: Intake) -> None:
    """It brings nothing but the answer."""
    journal = books().journal
    journal.deliver(intake, NOW)
    ack = intake.accept(journal.batch(len(journal.records) + 1, None, NOW), NOW)
    assert ack.accepted == len(journal.records)
    empty = intake.accept(
        replace(journal, node="n3", name="j3", records=[], meters={}).batch(), NOW
    )
    assert (empty.accepted, empty.accepted_hash) == (0, GENESIS.hex())
