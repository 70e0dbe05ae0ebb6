"""Whatever the deliveries look like, the books balance and are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, WINDOW, Journal, Meter, holder
from tests.postgresql.fixtures import empty

from wattkeeper.ledger import schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.seal import lay, slots
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.window import EpochInfo, Tombstone, Unmeasured

NOW = T0 + 200 * SLOT
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
LEDGERS = (Ledger.open("sqlite://"), Ledger.open("sqlite://"))
"""In memory, emptied before each example: opening one compiles every statement anew."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("window"), st.integers(0, 10**9), st.integers(0, 10**9)),
        st.tuples(st.just("recovered"), st.integers(0, 10**13), st.integers(1, 9 * SLOT)),
        st.tuples(st.just("epoch"), st.integers(0, 10**12), st.integers(0, 3 * SLOT)),
        st.tuples(st.just("lost"), st.integers(0, 10**9), st.just(0)),
        st.tuples(st.just("step"), st.integers(-SLOT // 3, SLOT // 3), st.just(0)),
        st.tuples(st.just("unmeasured"), st.just(0), st.integers(1, SLOT)),
    ),
    max_size=20,
)


@dataclass
class Truth:
    """What was written: energy that the counters advanced."""

    uj: int = 0
    journal: Journal = field(default_factory=lambda: Journal(holders={16: holder("7")}))


def write(steps: Sequence[tuple[str, int, int]]) -> Truth:
    """Write one meter's life into a journal as an agent does: points at lines and breaks."""
    truth = Truth()
    meter = Meter(truth.journal)
    meter.point()
    for kind, a, b in steps:
        meter.window((1, 17))
        truth.uj += 17
        if kind == "window":
            meter.window((16, a), (1, b))
            truth.uj += a + b
        elif kind == "recovered":
            meter.point()
            meter.window((16, a), (4, b), ms=b, split=3)
            meter.point()
            truth.uj += a + b
        elif kind == "epoch":
            meter.point()
            number = len(truth.journal.epochs) + 1
            truth.journal.epochs[number] = EpochInfo("boot-1", "load", number)
            meter.epoch, meter.uj, meter.at_ms = number, a, meter.at_ms + b
            meter.point()
        elif kind == "lost":
            window = meter.next_window((16, a))
            truth.journal.write(Tombstone(1, "lost"))
            meter.at_ms, meter.uj = window.end_ms, window.last_uj
            truth.uj += a
        elif kind == "step":
            meter.point()
            meter.journal.wall_error += a
            meter.at_ms += a
            meter.point()
        else:
            meter.point()
            end = meter.at_ms + b
            truth.journal.write(Unmeasured(1, meter.at_ms, end, meter.boot(end), "unknown"))
            meter.at_ms = end
            meter.point()
        line = meter.at_ms - meter.at_ms % SLOT + SLOT
        if meter.at_ms + 2 * WINDOW > line:  # a window never crosses a slot line unsaid
            meter.window((1, 3), ms=line - meter.at_ms)
            truth.uj += 3
    # The last words, beyond anything that was lost.
    meter.window((1, 5))
    truth.uj += 5
    return truth


def books(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    """Return everything that the books say."""
    tables = (schema.posting, schema.rollup, schema.point, schema.coverage, schema.coverage_day)
    with ledger.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))]
            for table in (*tables, schema.holder, schema.workload, schema.epoch)
        }


@FEW
@given(STEPS)
def test_every_joule_is_booked_once(steps: Sequence[tuple[str, int, int]]) -> None:
    """Measured energy is what was written, the postings sum to it, slot by slot."""
    truth = write(steps)
    ledger = empty(LEDGERS[0])
    intake = Intake(ledger)
    truth.journal.deliver(intake, NOW)
    intake.commit_sync()
    answer = balance(ledger)
    total = report(ledger, "user").total_uj
    lost = sum(kind == "lost" for kind, _, _ in steps)
    assert (answer.balanced, answer.residual_uj) == (not lost, 0)
    assert answer.meters[0].measured_uj == answer.total_uj == total == truth.uj
    assert intake.counts.refused == lost


@FEW
@given(
    STEPS,
    st.lists(
        st.tuples(st.integers(0, 120), st.integers(0, 60), st.booleans(), st.booleans()),
        max_size=8,
    ),
)
def test_however_it_is_sent_the_books_are_the_same(
    steps: Sequence[tuple[str, int, int]], sends: Sequence[tuple[int, int, bool, bool]]
) -> None:
    """Duplicates, overlaps, holes, commits and restarts in any order change nothing."""
    journal = write(steps).journal
    plain, ledger = (empty(ledger) for ledger in LEDGERS)
    once = Intake(plain)
    journal.deliver(once, NOW)
    once.commit_sync()
    intake = Intake(ledger)
    for first, length, commit, restart in sends:
        begin = min(first + 1, len(journal.records) + 1)
        intake.accept(journal.batch(begin, begin - 1 + length, NOW), NOW)
        if commit:
            intake.commit_sync()
            assert all("was refused: lost" in why for why in balance(ledger).problems)
        if restart:
            intake = Intake(ledger)
    journal.deliver(intake, NOW)
    intake.commit_sync()
    assert books(ledger) == books(plain)
    assert balance(ledger) == balance(plain)
    assert balance(ledger).residual_uj == 0


@given(
    st.lists(st.integers(0, 10**15), min_size=1, max_size=6),
    st.integers(T0, T0 + 3 * SLOT),
    st.integers(0, 12 * SLOT),
)
def test_shares_and_points_are_laid_alike(rows: list[int], start: int, length: int) -> None:
    """The columns of shares laid over slots are the sum laid over the same slots."""
    parts = slots(start, start + length, SLOT)
    cells = lay(rows, parts)
    assert [sum(row) for row in cells] == rows
    assert [sum(column) for column in zip(*cells, strict=True)] == lay([sum(rows)], parts)[0]
    assert sum(ms for _, ms in parts) == length
