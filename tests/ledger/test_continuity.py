"""The books of one meter through everything that breaks them off."""

from collections.abc import Callable
from dataclasses import replace as replaced

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests.ledger.books import SLOT, T0, WINDOW, Journal, Meter, holder

from wattkeeper.delivery.wire import decode_record, encode_record
from wattkeeper.ledger import schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import MeterBalance, balance
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.model.window import EpochInfo, Tombstone, Unmeasured, Window

NOW = T0 + 4 * SLOT


def one(ledger: Ledger) -> MeterBalance:
    """Return the balance of the only meter."""
    (row,) = balance(ledger).meters
    return row


def books(journal: Journal | None = None, windows: int = 100) -> Meter:
    """Return a meter with one holder and idle energy over more than a slot."""
    journal = journal or Journal()
    journal.holders[16] = holder("7")
    meter = Meter(journal)
    meter.point()
    meter.run(windows, (16, 5_000), (1, 700))
    return meter


def test_books_balance(ledger: Ledger, intake: Intake) -> None:
    """Windows and points of one journal come out to the microjoule, the open slot too."""
    books().journal.deliver(intake, NOW)
    intake.commit_sync()
    answer = balance(ledger)
    assert [] == answer.problems
    row = one(ledger)
    assert (500_000, 70_000, 0, 570_000) == (
        row.workload_uj,
        row.idle_uj,
        row.residual_uj,
        row.measured_uj,
    )
    assert 10 * 5_700 == row.open_uj
    assert 1.0 == answer.coverage


def test_nothing_is_booked_twice(ledger: Ledger, intake: Intake) -> None:
    """The same batch again, and one that overlaps, change nothing."""
    journal = books().journal
    intake.accept(journal.batch(1, 60, NOW), NOW)
    intake.accept(journal.batch(1, 60, NOW), NOW)
    intake.accept(journal.batch(31, 90, NOW), NOW)
    ack = intake.accept(journal.batch(100, None, NOW), NOW)
    assert 90 == ack.accepted
    journal.deliver(intake, NOW)
    intake.commit_sync()
    assert 570_000 == one(ledger).measured_uj
    assert balance(ledger).balanced


def test_committed_moves_with_the_commit(ledger: Ledger, intake: Intake) -> None:
    """An answer before the commit releases nothing, one after it releases all."""
    journal = books().journal
    assert 0 == journal.deliver(intake, NOW).committed
    intake.commit_sync()
    assert len(journal.records) == journal.deliver(intake, NOW).committed


def test_wiped_journal_leaves_a_gap_of_the_missing_joules(ledger: Ledger, intake: Intake) -> None:
    """A diskless node comes back in the same boot: gap is what the counter advanced meanwhile."""
    before = books()
    before.journal.deliver(intake, NOW)
    after = before.into(Journal(name="journal-2"))
    after.at_ms += 2_000_000
    after.uj += 123_457
    after.__post_init__()
    after.point()
    after.run(30, (1, 900))
    after.journal.deliver(intake, NOW + 61_000)
    intake.commit_sync()
    row = one(ledger)
    assert 123_457 == row.gap_uj
    assert balance(ledger).balanced
    assert 1.0 == balance(ledger).coverage


def test_wiped_journal_without_points(ledger: Ledger, intake: Intake) -> None:
    """The gap needs no point of the agent's: its first window begins it as well."""
    before = books()
    before.journal.deliver(intake, NOW)
    after = before.into(Journal(name="journal-2"))
    after.at_ms += 2_000_000
    after.uj += 123_457
    after.__post_init__()
    after.run(30, (1, 900))
    after.journal.deliver(intake, NOW + 61_000)
    intake.commit_sync()
    assert 123_457 == one(ledger).gap_uj
    assert balance(ledger).balanced


def test_new_boot_leaves_unmeasured_seconds(ledger: Ledger, intake: Intake) -> None:
    """A new boot is a new count: no joules in between, but seconds."""
    before = books()
    before.journal.deliver(intake, NOW)
    journal = Journal(name="journal-2", boot="boot-2", boot_offset=T0 + 1_050_000)
    journal.epochs = {1: EpochInfo("boot-2", "load")}
    after = before.into(journal)
    after.at_ms += 120_000
    after.uj = 17
    after.__post_init__()
    after.point()
    after.run(30, (1, 900))
    journal.deliver(intake, NOW)
    intake.commit_sync()
    row = one(ledger)
    assert (0, 120.0, 1300.0) == (row.gap_uj, row.unmeasured_seconds, row.covered_seconds)
    assert balance(ledger).balanced


def test_unmeasured_record_is_counted_once(ledger: Ledger, intake: Intake) -> None:
    """The agent says it, and the new epoch after it does not say it again."""
    meter = books()
    end = meter.at_ms
    meter.journal.epochs[2] = EpochInfo("boot-1", "load", 1)
    meter.at_ms += 70_000
    meter.journal.write(Unmeasured(1, end, meter.at_ms, meter.boot(meter.at_ms), "reset"))
    meter.epoch, meter.uj = 2, 0
    meter.point()
    meter.run(5, (1, 1))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert 70.0 == one(ledger).unmeasured_seconds
    assert balance(ledger).balanced


def test_refused_window_becomes_a_gap(ledger: Ledger, intake: Intake) -> None:
    """A window whose shares do not sum is refused with its reason; its joules are a gap."""
    meter = books(windows=20)
    bad = meter.next_window((16, 5_000), (1, 700))
    meter.journal.write(replace(bad, shares=bad.shares[:1]))
    meter.at_ms, meter.uj = bad.end_ms, bad.last_uj
    meter.run(80, (1, 700))
    ack = meter.journal.deliver(intake, NOW)
    assert len(meter.journal.records) == ack.accepted
    intake.commit_sync()
    row = one(ledger)
    assert (5_700, 0) == (row.gap_uj, row.residual_uj)
    (problem,) = row.problems
    assert "shares sum to 5000 µJ, the counter advanced 5700 µJ" in problem


def test_refused_window_over_a_slot_line(ledger: Ledger, intake: Intake) -> None:
    """The gap over a slot line is laid like the points that the intake adds."""
    meter = books(windows=85)
    bad = meter.next_window((16, 33_333), ms=100_001)
    meter.journal.write(replace(bad, shares=()))
    meter.at_ms, meter.uj = bad.end_ms, bad.last_uj
    meter.run(20, (1, 700))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert (33_333, 0) == (one(ledger).gap_uj, one(ledger).residual_uj)


def test_tombstone_of_the_agent_is_a_gap_and_the_balance_says_so(
    ledger: Ledger, intake: Intake
) -> None:
    """What was altered in the agent's journal is booked to `gap`; nobody may miss that."""
    meter = books(windows=20)
    lost = meter.next_window((1, 700))
    meter.journal.write(Tombstone(1, "row damaged on disk"))
    meter.at_ms, meter.uj = lost.end_ms, lost.last_uj
    meter.run(10, (1, 700))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    row = one(ledger)
    assert (700, 0) == (row.gap_uj, row.residual_uj)
    assert not balance(ledger).balanced
    assert any("row damaged on disk" in problem for problem in row.problems)


def test_tombstone_without_a_meter_is_told_of_all_of_its_journal(
    ledger: Ledger, intake: Intake
) -> None:
    """A record that is gone names no meter; the journal does not stall on it."""
    meter = books(windows=20)
    lost = meter.next_window((1, 700))
    meter.journal.write(Tombstone(0, "record 21 of the journal was altered or lost"))
    meter.at_ms, meter.uj = lost.end_ms, lost.last_uj
    meter.run(10, (1, 700))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    row = one(ledger)
    assert (700, 0) == (row.gap_uj, row.residual_uj)
    assert any("altered or lost" in problem for problem in row.problems)


def test_restored_aggregator_takes_what_is_left(ledger: Ledger, intake: Intake) -> None:
    """Records that no journal has any more are a gap of exactly their joules."""
    meter = books(windows=30)
    intake.accept(meter.journal.batch(1, 11, NOW), NOW)
    meter.journal.oldest = 21
    meter.journal.deliver(intake, NOW, first=21)
    intake.commit_sync()
    assert 9 * 5_700 == one(ledger).gap_uj
    assert balance(ledger).balanced


def test_a_gap_covers_the_time_that_passed(ledger: Ledger, intake: Intake) -> None:
    """Among the lost records the clock was set forward by 3 s: no time is won by that."""
    meter = books(windows=20)
    meter.journal.wall_error += 3_000
    meter.at_ms += 3_000
    meter.run(10, (1, 700))
    intake.accept(meter.journal.batch(1, 11, NOW), NOW)
    meter.journal.oldest = 26
    meter.journal.deliver(intake, NOW, first=26)
    intake.commit_sync()
    row = one(ledger)
    assert 0 == row.residual_uj
    assert 30 * WINDOW / 1000 == row.covered_seconds


def test_recovered_window_over_slots(ledger: Ledger, intake: Intake) -> None:
    """A stretch nobody looked at is laid over slots as its points are."""
    meter = books(windows=33)
    meter.point()
    meter.window((16, 1_000_003), (1, 7), ms=2_345_678, split=3)
    meter.point()
    meter.run(10, (1, 700))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer = balance(ledger)
    assert [] == answer.problems
    assert 0 == answer.residual_uj


def test_overlap_of_a_fork_is_dropped(ledger: Ledger, intake: Intake) -> None:
    """A fork sends what was booked from its origin: only what is new is booked."""
    meter = books(windows=30)
    meter.journal.deliver(intake, NOW)
    fork = replaced(meter.journal, name="journal-2", fork_of="journal-1", oldest=1)
    fork.records = meter.journal.records[11:]
    more = meter.into(fork)
    more.run(5, (1, 700))
    fork.deliver(intake, NOW)
    intake.commit_sync()
    row = one(ledger)
    assert (0, 30 * 700 + 5 * 700, 30 * 5_000) == (row.gap_uj, row.idle_uj, row.workload_uj)
    assert balance(ledger).balanced
    assert 20 == intake.counts.overlaps


@pytest.mark.parametrize("step_ms", [-3 * SLOT - 7, 5 * SLOT + 123, -2_000, 2_000])
def test_clock_step_keeps_the_books(ledger: Ledger, intake: Intake, step_ms: int) -> None:
    """After a step of the wall clock the count goes on under other labels."""
    meter = books(windows=40)
    meter.point()
    meter.journal.wall_error += step_ms
    meter.at_ms += step_ms
    meter.point()
    meter.run(60, (1, 700))
    meter.journal.deliver(intake, T0 + 1_000_000)
    intake.commit_sync()
    answer = balance(ledger)
    assert [] == answer.problems
    assert 0 == answer.residual_uj


def test_wrong_clock_is_dated_by_the_aggregator(ledger: Ledger, intake: Intake) -> None:
    """A node years behind is booked in the slots that its deliveries name, and flagged."""
    journal = Journal(wall_error=-10 * 365 * 86_400_000)
    journal.holders[16] = holder("7")
    meter = Meter(journal, at_ms=T0 + journal.wall_error)
    meter.point()
    meter.run(100, (16, 5_000), (1, 700))
    journal.deliver(intake, T0 + 1_000_000)
    intake.commit_sync()
    with ledger.reading() as connection:
        slots = set(connection.execute(sa.select(schema.posting.c.slot)).scalars())
        skew = connection.execute(sa.select(schema.node.c.skew_ms)).scalar()
    assert {T0, T0 + SLOT} == slots
    assert journal.wall_error == skew
    assert balance(ledger).balanced


def test_host_books_components_apart(ledger: Ledger, intake: Intake) -> None:
    """What component meters book already counts in the host's own balance, not in the fleet's."""
    meter = books(windows=10)
    host = Meter(meter.journal, 2, "host/dcmi", Component.HOST)
    host.point()
    host.run(10, (5, 5_700), (3, 1_300))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer = balance(ledger)
    row = next(row for row in answer.meters if row.meter == "host/dcmi")
    assert (57_000, 13_000, 70_000) == (row.components_uj, row.overhead_uj, row.measured_uj)
    assert 57_000 + 13_000 == answer.total_uj
    assert answer.balanced


@pytest.mark.parametrize(("component", "account"), [(Component.HOST, 1), (Component.GPU, 3)])
def test_accounts_stand_on_their_own_meters(
    ledger: Ledger, intake: Intake, component: Component, account: int
) -> None:
    """Overhead stands on host meters alone, idle never."""
    meter = Meter(Journal(), component=component)
    meter.point()
    meter.window((account, 5))
    meter.journal.deliver(intake, NOW)
    assert 1 == intake.counts.refused


def alter(meter: Meter, index: int, **change: object) -> None:
    """Alter one window in the journal; the chain is made anew at delivery."""
    window = decode_record(meter.journal.records[index])
    assert isinstance(window, Window)
    meter.journal.records[index] = encode_record(replace(window, **change))


def shares_changed(meter: Meter) -> None:
    """A share loses a microjoule."""
    window = decode_record(meter.journal.records[10])
    assert isinstance(window, Window)
    shares = (replace(window.shares[0], uj=4_999), *window.shares[1:])
    alter(meter, 10, shares=shares)


def counter_changed(meter: Meter) -> None:
    """The counter and a share gain one microjoule together."""
    window = decode_record(meter.journal.records[10])
    assert isinstance(window, Window)
    shares = (replace(window.shares[0], uj=5_001), *window.shares[1:])
    alter(meter, 10, shares=shares, last_uj=window.last_uj + 1)


def window_deleted(meter: Meter) -> None:
    """A window is missing."""
    del meter.journal.records[10]


def window_doubled(meter: Meter) -> None:
    """A window stands twice."""
    meter.journal.records.insert(10, meter.journal.records[10])


def point_altered(meter: Meter) -> None:
    """The point on the slot line is one microjoule off."""
    point = decode_record(meter.journal.records[91])
    meter.journal.records[91] = encode_record(replace(point, value_uj=point.value_uj + 1))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attack", "energy"),
    [
        (shares_changed, (5_000, 700)),
        (counter_changed, (5_000, 700)),
        (window_deleted, (5_000, 700)),
        (window_doubled, (5_000, 700)),
        (window_doubled, (0, 0)),
        (point_altered, (5_000, 700)),
        (point_altered, (0, 0)),
    ],
)
def test_an_altered_delivery_does_not_balance(
    ledger: Ledger,
    intake: Intake,
    attack: Callable[[Meter], None],
    energy: tuple[int, int],
) -> None:
    """Whatever is done to a delivery and rechained, balance says no and names the meter."""
    journal = Journal()
    journal.holders[16] = holder("7")
    meter = Meter(journal)
    meter.point()
    meter.run(100, (16, energy[0]), (1, energy[1]))
    attack(meter)
    journal.deliver(intake, NOW)
    intake.commit_sync()
    answer = balance(ledger)
    assert not answer.balanced
    assert answer.problems
    assert all(problem.startswith("n1 gpu/GPU-1: ") for problem in answer.problems)
    assert answer.meters[0].covered_seconds <= 1000.0


def test_a_clock_ahead_expects_nothing_of_others(ledger: Ledger, intake: Intake) -> None:
    """A node minutes ahead is flagged, and no other node lacks the time that is still to come."""
    books().journal.deliver(intake, T0 + 1_000_000)
    ahead = Journal(name="journal-2", node="n2", wall_error=120_000, holders={16: holder("8")})
    meter = Meter(ahead, name="gpu/GPU-2", at_ms=T0 + 120_000)
    meter.point()
    meter.run(100, (16, 5_000))
    ahead.deliver(intake, T0 + 1_000_000)
    intake.commit_sync()
    answer = balance(ledger)
    assert [row.expected_seconds for row in answer.meters] == [1000.0, 1000.0]
    assert answer.balanced
