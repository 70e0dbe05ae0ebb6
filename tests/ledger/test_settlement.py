"""Idle energy of granted GPUs goes to their jobs, exactly once, whenever who knows what."""

import sqlite3

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from tests.ledger.books import SLOT, T0, WINDOW, Journal, Meter, holder
from tests.ledger.settling import answer, gpu, run, settle_all, settled, waiting

from wattkeeper.ledger import schema
from wattkeeper.ledger.grants import granting_clusters
from wattkeeper.ledger.idle import LONGEST_WAIT_MS
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.settlement import CHANGE_MS, GRACE_MS, PIECE, settle
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.window import Policy, Share, Split, Tombstone

NOW = T0 + 8 * SLOT


def at_rest(ledger: Ledger, intake: Intake, windows: int = 30, uj: int = 1_000) -> Meter:
    """Book windows of a GPU at rest, known to be one that Slurm grants."""
    answer(ledger, intake, T0)
    meter = gpu(Journal())
    meter.point()
    meter.run(windows, (1, uj))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    return meter


def test_an_idle_gpu_belongs_to_its_job(ledger: Ledger, intake: Intake) -> None:
    """A job of 12.5 s on a GPU on which nothing ran pays for it, allocated but idle."""
    at_rest(ledger, intake)
    start, end = T0 + 20_000, T0 + 32_500
    answer(ledger, intake, T0 + 30_000, run(7, start, 0, user="ann"))
    answer(ledger, intake, T0 + 60_000, run(7, start, end_ms=end))
    settle_all(ledger, NOW)
    assert settled(ledger) == {"7": (1_250, 12_500), "idle": (-1_250, -12_500)}
    found = job(ledger, "c", "7")
    assert found is not None
    assert (found.energy_uj, found.allocated_idle_uj) == (1_250, 1_250)
    assert (found.gpu_seconds, found.allocated_idle_gpu_seconds) == (12.5, 12.5)
    assert found.energy_by_split_uj == {"settled": 1_250}
    assert found.nodes == ["n1"]
    answered = balance(ledger)
    assert answered.balanced
    assert (answered.meters[0].idle_uj, answered.meters[0].workload_uj) == (28_750, 1_250)
    by_user = {row.key: row.energy_uj for row in report(ledger, "user").rows}
    assert by_user == {"ann": 1_250, "": 28_750}


def test_what_the_node_booked_to_a_job_stays_there(ledger: Ledger, intake: Intake) -> None:
    """Only `idle` is settled: what another holder used, a gap and system stay what they are."""
    answer(ledger, intake, T0)
    journal = Journal(holders={16: holder("7")})
    meter = gpu(journal)
    meter.point()
    meter.run(10, (16, 500), (1, 300), (2, 40))
    lost = meter.next_window((1, 300))
    journal.write(Tombstone(1, "lost"))
    meter.at_ms, meter.uj = lost.end_ms, lost.last_uj
    meter.run(5, (1, 300))
    journal.deliver(intake, NOW)
    intake.commit_sync()
    answer(ledger, intake, T0 + 90_000, run(9, T0, 0))
    answer(ledger, intake, NOW, run(9, T0, 0))
    settle_all(ledger, NOW)
    assert settled(ledger) == {"9": (4_500, 150_000), "idle": (-4_500, -150_000)}
    (row,) = balance(ledger).meters
    assert (row.workload_uj, row.idle_uj, row.system_uj, row.gap_uj) == (9_500, 0, 400, 300)
    assert row.residual_uj == 0


def test_nothing_is_settled_before_the_scheduler_spoke(ledger: Ledger, intake: Intake) -> None:
    """Windows beyond the newest answer wait for the next one."""
    at_rest(ledger, intake, 6)
    answer(ledger, intake, T0 + 35_000, run(7, T0, 0))
    settle_all(ledger, T0 + 60_000)
    assert settled(ledger)["7"] == (3_000, 30_000)
    assert [waits for *_, waits in waiting(ledger)] == [False] * 3 + [True] * 3
    answer(ledger, intake, T0 + 60_000, run(7, T0, 0))
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (6_000, 60_000)


def test_windows_that_come_late(ledger: Ledger, intake: Intake) -> None:
    """A node that was cut off delivers after the job is over: it is settled all the same."""
    answer(ledger, intake, T0)
    answer(ledger, intake, T0 + 30_000, run(7, T0 + 5_000, 0))
    answer(ledger, intake, NOW - 60_000, run(7, T0 + 5_000, end_ms=T0 + 45_000))
    meter = gpu(Journal())
    meter.point()
    meter.run(30, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (4_000, 40_000)
    assert balance(ledger).balanced


def test_windows_and_an_end_that_both_come_late(ledger: Ledger, intake: Intake) -> None:
    """Windows of hours ago follow their grant as long as new ones do."""
    answer(ledger, intake, T0)
    answer(ledger, intake, T0 + 60_000, run(7, T0, 0))
    answer(ledger, intake, NOW)
    meter = gpu(Journal())
    meter.point()
    meter.run(30, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (6_000, 60_000)
    answer(ledger, intake, NOW + 60_000, run(7, T0, end_ms=T0 + 83_000))
    settle_all(ledger, NOW + 60_000)
    assert settled(ledger)["7"] == (8_300, 83_000)


def test_an_end_that_is_told_late_is_posted_as_a_difference(ledger: Ledger, intake: Intake) -> None:
    """First up to the last answer that named it, then up to its end, both exactly once."""
    at_rest(ledger, intake)
    answer(ledger, intake, T0 + 60_000, run(7, T0, 0))
    answer(ledger, intake, T0 + 120_000)
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (6_000, 60_000)
    answer(ledger, intake, T0 + 150_000, run(7, T0, end_ms=T0 + 83_000))
    settle_all(ledger, NOW)
    settle_all(ledger, NOW)
    assert settled(ledger) == {"7": (8_300, 83_000), "idle": (-8_300, -83_000)}
    answer(ledger, intake, T0 + 180_000, run(7, T0, end_ms=T0 + 41_000))
    settle_all(ledger, NOW)
    assert settled(ledger) == {"7": (4_100, 41_000), "idle": (-4_100, -41_000)}
    assert balance(ledger).balanced


def test_a_requeued_job_is_two_runs(ledger: Ledger, intake: Intake) -> None:
    """Between the runs the GPU was nobody's."""
    at_rest(ledger, intake)
    first, second = run(7, T0, 0), run(7, T0 + 100_000, 0)
    answer(ledger, intake, T0 + 30_000, first)
    over = run(7, T0, end_ms=T0 + 50_000)
    answer(ledger, intake, T0 + 120_000, over, second)
    answer(ledger, intake, T0 + 300_000, over, run(7, T0 + 100_000, end_ms=T0 + 290_000))
    settle_all(ledger, NOW)
    runs = [job(ledger, "c", "7", number) for number in (1, 2)]
    assert [found and found.energy_uj for found in runs] == [5_000, 19_000]
    assert balance(ledger).balanced


def test_over_slots_and_by_policy(ledger: Ledger, intake: Intake) -> None:
    """A recovered stretch is settled in the slots where it was laid, under its own policy."""
    answer(ledger, intake, T0)
    meter = gpu(Journal(), at_ms=T0 + 500_000)
    meter.point()
    window = meter.next_window((1, 10_000_001), ms=1_000_000, split=Split.RECOVERED)
    window = replace(window, policy=Policy.HOLDERS)
    meter.journal.write(window)
    meter.at_ms, meter.uj = window.end_ms, window.last_uj
    meter.point()
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer(ledger, intake, T0 + 600_000, run(7, T0 + 450_000, 0))
    answer(ledger, intake, NOW, run(7, T0 + 450_000, end_ms=T0 + 1_400_000))
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (9_000_001, 900_000)
    assert balance(ledger).balanced
    with ledger.reading() as connection:
        table = schema.posting.c
        rows = connection.execute(sa.select(table.slot, table.policy).where(table.split == 2))
        assert {tuple(row) for row in rows} == {(T0, 1), (T0 + SLOT, 1)}


def test_a_crash_settles_nothing_or_all(ledger: Ledger, intake: Intake) -> None:
    """A transaction that is broken off leaves what was; the next one posts it once."""
    at_rest(ledger, intake)
    answer(ledger, intake, NOW, run(7, T0, 0))

    @sa.event.listens_for(ledger.engine, "commit")
    def fail(connection: sa.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError):
        settle(ledger, NOW)
    sa.event.remove(ledger.engine, "commit", fail)
    assert settled(ledger) == {}
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (30_000, 300_000)
    assert balance(ledger).balanced


def test_a_wiped_journal(ledger: Ledger, intake: Intake) -> None:
    """What nobody saw in between stays a gap; what either journal saw is settled."""
    before = at_rest(ledger, intake, 10)
    after = gpu(Journal(name="journal-2"), at_ms=before.at_ms + 50_000)
    after.uj = before.uj + 4_321
    after.point()
    after.run(10, (1, 1_000))
    after.journal.deliver(intake, NOW + 61_000)
    before.journal.deliver(intake, NOW + 200_000)
    intake.commit_sync()
    answer(ledger, intake, T0 + 60_000, run(7, T0, 0))
    answer(ledger, intake, NOW, run(7, T0, 0))
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == (20_000, 200_000)
    answered = balance(ledger)
    assert answered.balanced
    assert (answered.meters[0].gap_uj, answered.meters[0].idle_uj) == (4_321, 0)


def test_without_a_scheduler_nothing_is_kept(ledger: Ledger, intake: Intake) -> None:
    """Idle stretches cost nothing where nobody grants, and on what is no GPU of known index."""
    meter = gpu(Journal())
    meter.point()
    meter.run(5, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert waiting(ledger) == []
    answer(ledger, intake, T0)
    nameless = Meter(meter.journal, 2, "gpu/GPU-x")
    nameless.point()
    nameless.run(5, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert waiting(ledger) == []


def test_a_restarted_aggregator_goes_on_keeping(ledger: Ledger, intake: Intake) -> None:
    """It knows from the ledger whose GPUs are granted, before any scheduler answers it."""
    meter = at_rest(ledger, intake, 2)
    again = Intake(ledger)
    meter.run(2, (1, 1_000))
    meter.journal.deliver(again, NOW)
    again.commit_sync()
    assert len(waiting(ledger)) == 4


def test_a_gpu_that_moved_to_another_place(ledger: Ledger, intake: Intake) -> None:
    """Windows go by the index that the GPU had when they came, labels show the newest."""
    meter = at_rest(ledger, intake, 3)
    labels = {"gpu": "5", "driver": "600"}
    meter.journal.meters[2] = replace(meter.journal.meters[1], labels=labels)
    meter.number = 2
    meter.run(3, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer(ledger, intake, NOW, run(7, T0, 0), run(8, T0, 5))
    settle_all(ledger, NOW)
    assert settled(ledger) == {
        "7": (3_000, 30_000),
        "8": (3_000, 30_000),
        "idle": (-6_000, -60_000),
    }
    with ledger.reading() as connection:
        known = connection.execute(sa.select(schema.meter.c.labels)).scalars().all()
    assert known == ['{"gpu": "5", "driver": "600"}']


def test_what_is_over_is_forgotten(ledger: Ledger, intake: Intake) -> None:
    """Unclaimed stretches go after a grace, settled ones when their grants are long told."""
    at_rest(ledger, intake, 20)
    start = T0 + 100_000
    answer(ledger, intake, T0 + 120_000, run(7, start, 0))
    answer(ledger, intake, T0 + 210_000, run(7, start, end_ms=T0 + 200_000))
    settle_all(ledger, NOW)
    assert len(waiting(ledger)) == 20
    answer(ledger, intake, T0 + 211_000 + GRACE_MS)
    settle_all(ledger, NOW)
    assert len(waiting(ledger)) == 10
    answer(ledger, intake, T0 + 211_000 + CHANGE_MS)
    settle_all(ledger, NOW)
    assert waiting(ledger) == []
    with ledger.reading() as connection:
        assert connection.execute(sa.select(schema.settled)).all() == []
    settle_all(ledger, NOW + 15 * DAY_MS)
    with ledger.reading() as connection:
        assert connection.execute(sa.select(schema.granted)).all() == []
    assert settled(ledger)["7"] == (10_000, 100_000)
    assert balance(ledger).balanced


def test_while_the_scheduler_is_away_stretches_are_joined(ledger: Ledger, intake: Intake) -> None:
    """They wait for days, few in number, and are settled by what it says then."""
    at_rest(ledger, intake, 270, uj=1_000)
    settle_all(ledger, T0 + 3 * SLOT)
    assert len(waiting(ledger)) == 270
    settle_all(ledger, T0 + 3 * SLOT + CHANGE_MS)
    assert [(a - T0, b - T0, uj) for a, b, uj, _ in waiting(ledger)] == [
        (n * SLOT, (n + 1) * SLOT, 90_000) for n in range(3)
    ]
    answer(ledger, intake, T0 + DAY_MS, run(7, T0 + 123_000, 0))
    settle_all(ledger, T0 + DAY_MS)
    assert settled(ledger)["7"] == (270_000 - 12_300, 3 * SLOT - 123_000)
    assert balance(ledger).balanced


def test_a_scheduler_that_stays_away(ledger: Ledger, intake: Intake) -> None:
    """After a week the energy stays idle, and an event says so, once."""
    at_rest(ledger, intake, 30)
    settle_all(ledger, T0 + LONGEST_WAIT_MS)
    assert len(waiting(ledger)) == 30
    for late in (0, SLOT):
        settle_all(ledger, T0 + 300_001 + LONGEST_WAIT_MS + late)
        assert waiting(ledger) == []
    with ledger.reading() as connection:
        kinds = connection.execute(sa.select(schema.event.c.kind)).scalars().all()
    assert kinds == ["unsettled"]


def test_a_node_that_was_cut_off_for_longer_than_schedulers_are_waited_for(
    ledger: Ledger, intake: Intake
) -> None:
    """Its scheduler answered all the time: all of the backlog is settled, however long it is."""
    late = T0 + LONGEST_WAIT_MS + DAY_MS
    answer(ledger, intake, T0)
    answer(ledger, intake, late, run(7, T0, 0))
    meter = gpu(Journal())
    meter.point()
    meter.run(2 * PIECE, (1, 1_000))
    meter.journal.deliver(intake, late)
    intake.commit_sync()
    settle_all(ledger, late)
    assert settled(ledger)["7"] == (2 * PIECE * 1_000, 2 * PIECE * WINDOW)


def test_a_scheduler_that_was_switched_off(ledger: Ledger, intake: Intake) -> None:
    """After a week of silence nothing more is kept for it, until it speaks again."""
    meter = at_rest(ledger, intake, 2)
    late = T0 + 60_000 + LONGEST_WAIT_MS
    intake.follow_grants(granting_clusters(ledger, late))
    meter.run(2, (1, 1_000))
    meter.journal.deliver(intake, late)
    intake.commit_sync()
    assert len(waiting(ledger)) == 2
    answer(ledger, intake, late)
    meter.run(2, (1, 1_000))
    meter.journal.deliver(intake, late)
    intake.commit_sync()
    assert len(waiting(ledger)) == 4


def test_pieces_are_bounded(ledger: Ledger, intake: Intake) -> None:
    """Much that waits is settled in several transactions, so that commits get between them."""
    at_rest(ledger, intake, PIECE + 10)
    answer(ledger, intake, T0 + DAY_MS, run(7, T0, 0))
    assert settle(ledger, NOW)
    assert settled(ledger)["7"] == (PIECE * 1_000, PIECE * WINDOW)
    settle_all(ledger, NOW)
    assert settled(ledger)["7"] == ((PIECE + 10) * 1_000, (PIECE + 10) * WINDOW)
    assert balance(ledger).balanced


def test_a_commit_that_fails_keeps_the_stretches(ledger: Ledger, intake: Intake) -> None:
    """What could not be written goes with the next commit, once."""
    answer(ledger, intake, T0)
    meter = gpu(Journal())
    meter.point()
    meter.run(5, (1, 1_000))
    meter.journal.deliver(intake, NOW)

    @sa.event.listens_for(ledger.engine, "commit")
    def fail(connection: sa.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError):
        intake.commit_sync()
    sa.event.remove(ledger.engine, "commit", fail)
    meter.run(5, (1, 1_000))
    meter.journal.deliver(intake, NOW)
    intake.commit_sync()
    assert len(waiting(ledger)) == 10


def test_idle_parts_that_the_node_knew(ledger: Ledger, intake: Intake) -> None:
    """They stand in postings, daily sums and the job, also where a window crosses a slot line."""
    journal = Journal(holders={16: holder("7")})
    meter = gpu(journal, at_ms=T0 + SLOT - 15_000)
    meter.point()
    short = Share(16, 3_001, 0, WINDOW, idle_uj=1_001, idle_ms=3_333)
    over_the_line = Share(16, 9_007, 1_000, 9_000, idle_uj=7_001, idle_ms=8_000)
    for part in (short, over_the_line, short, short):
        window = replace(meter.next_window((16, part.uj)), shares=(part,))
        meter.point()
        journal.write(window)
        meter.at_ms, meter.uj = window.end_ms, window.last_uj
        meter.point()
    journal.deliver(intake, NOW)
    intake.commit_sync()
    found = job(ledger, "c", "7")
    assert found is not None
    assert found.allocated_idle_uj == 3 * 1_001 + 7_001
    assert found.allocated_idle_gpu_seconds == (3 * 3_333 + 8_000) / 1000
    assert balance(ledger).balanced
    with ledger.reading() as connection:
        table = schema.posting.c
        rows = connection.execute(sa.select(schema.posting).order_by(table.slot)).all()
    assert all(0 < row.idle_uj <= row.uj and 0 < row.idle_ms <= row.ms for row in rows)
    assert len(rows) == 2
