"""Which levels budgets reach and leave, and what the ledger has of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.budgets.made import NOW, UTC, budget
from wattkeeper.budgets.budget import Budget, Kind
from wattkeeper.budgets.calendar import Interval, Period, period_interval
from wattkeeper.budgets.forecast import Forecast
from wattkeeper.budgets.judging import Judge
from wattkeeper.budgets.readings import Reading
from wattkeeper.budgets.status import Peak, dump
from wattkeeper.ledger import breaches
from wattkeeper.ledger.store import Ledger, LedgerError

QUARTER = Interval(NOW, NOW + 900_000)
ALLOWED = 1_000_000 * 900_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a ledger."""
    opened = Ledger.open(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


def reading(watts: float | None = 500.0, **more: object) -> Reading:
    """Return a reading of a billed interval."""
    return replace(Reading(QUARTER, watts, 1.0, 0, 0.0), **more)  # type: ignore[arg-type]


def demand(used: float, ahead: float, before: float | None = None) -> Reading:
    """Return one of parts of the limit."""
    return reading(
        used_uj=round(used * ALLOWED),
        before_uj=None if before is None else round(before * ALLOWED),
        forecast=Forecast(ahead * ALLOWED, None, None, "how"),
    )


def states(ledger: Ledger, one: Budget, *readings: Reading) -> list[str]:
    """Return the states that follow, a second apart."""
    judge = Judge(ledger, [one])
    return [judge.judge([found], NOW + at * 1000)[0].state for at, found in enumerate(readings)]


def test_watts(ledger: Ledger) -> None:
    """Over each line, and back below its lower one."""
    seen = [reading(watts) for watts in (800, 920, 1010, 960, 940, 860, 850)]
    assert states(ledger, budget(), *seen) == ["ok", "warn", "hard", "hard", "warn", "warn", "ok"]
    past = breaches.history(ledger, ["b"], 9)["b"]
    assert [(one.level, one.from_ms - NOW, (one.to_ms or 0) - NOW) for one in past] == [
        ("hard", 2000, 4000), ("warn", 1000, 6000),
    ]  # fmt: skip


def test_what_silent_nodes_drew_last_is_not_taken_for_saved(ledger: Ledger) -> None:
    """The reading falls, but it is no all-clear."""
    over, silent = reading(1100), reading(100, silent_watts=1000.0, silent_nodes=1, coverage=0.1)
    assert states(ledger, budget(), over, silent, reading(None), reading(100)) == [
        "hard", "hard", "hard", "ok",
    ]  # fmt: skip


def test_energy(ledger: Ledger) -> None:
    """Warns by what is used, exceeds by that alone; a new period begins anew."""
    one = budget(kind=Kind.ENERGY, limit=ALLOWED)
    seen = [demand(0.2, 0.8), demand(0.5, 1.1), demand(0.92, 1.1), demand(1, 1.1), demand(0, 0.1)]
    assert states(ledger, one, *seen) == ["ok", "forecast", "forecast", "hard", "ok"]


def test_demand(ledger: Ledger) -> None:
    """Warns by the forecast; over is a fact, until an interval and the next look better."""
    one = budget(kind=Kind.DEMAND)
    seen = [
        demand(0.1, 0.95), demand(0.5, 1.05), demand(1.0, 1.2), demand(0.0, 0.9, 1.2),
        demand(0.5, 1.3, 0.9), demand(0.0, 0.8, 0.94), demand(0.0, 0.8, 0.8),
    ]  # fmt: skip
    assert states(ledger, one, *seen) == [
        "warn", "forecast", "hard", "hard", "hard", "ok", "ok",
    ]  # fmt: skip


def test_the_peak_of_the_month(ledger: Ledger) -> None:
    """The highest interval that has ended; kept over a restart, and begun anew with the month."""
    one = budget(kind=Kind.DEMAND)
    judge, stands = Judge(ledger, [one]), None
    for number, before in enumerate((0.5, 0.7, 0.6)):
        begin = QUARTER.start_ms + number * QUARTER.length_ms
        quarter = Interval(begin, begin + QUARTER.length_ms)
        found = replace(demand(0, 0.1, before), interval=quarter)
        (stands,) = judge.judge([found], begin)
        breaches.put_states(ledger, {"b": dump(stands)}, begin)
    assert stands is not None
    highest = Peak(QUARTER.start_ms, period(NOW), QUARTER.length_ms, round(0.7 * ALLOWED))
    assert (stands.peak, stands.peak_ratio) == (highest, 0.7)
    # It is what it was, whatever the limit is later: a greater one makes no greater peak of it.
    raised = replace(one, limit=2 * one.limit)
    judge = Judge(ledger, [raised])
    (stands,) = judge.judge([demand(0, 0.1, 0.6)], NOW + 3_600_000)
    assert (stands.peak, stands.peak_ratio) == (highest, 0.35)
    begin = period(NOW + 31 * 86_400_000) + QUARTER.length_ms
    later = replace(demand(0, 0.1, 0.2), interval=Interval(begin, begin + QUARTER.length_ms))
    (stands,) = judge.judge([later], begin)
    assert stands.peak == Peak(
        begin - QUARTER.length_ms,
        begin - QUARTER.length_ms,
        QUARTER.length_ms,
        round(0.2 * ALLOWED),
    )


def period(at_ms: int) -> int:
    """Return when the month of an instant began."""
    return period_interval(at_ms, Period.MONTH, UTC.zone).start_ms


def test_outside_of_the_calendar(ledger: Ledger) -> None:
    """Nothing is limited: what was reached is left at once."""
    off = replace(reading(1100), interval=replace(QUARTER, counts=False))
    assert states(ledger, budget(), reading(1100), off, reading(None)) == ["hard", "off", "unknown"]
    assert breaches.reached_now(ledger) == []


def test_a_restart(ledger: Ledger) -> None:
    """Goes on with what is reached; of a budget that is no more nothing stays behind."""
    states(ledger, budget("a"), reading(1100))
    states(ledger, budget("b"), reading(1100))
    assert [one.budget for one in breaches.reached_now(ledger)] == ["b", "b"]
    (found,) = Judge(ledger, [budget("b")]).judge([reading(1100)], NOW + 60_000)
    assert found.levels == {"warn": NOW, "hard": NOW}


def test_a_budget_that_limits_something_else_now(ledger: Ledger) -> None:
    """Is no more what it was: what it had reached is left, also a level that it has no more."""
    states(ledger, budget(kind=Kind.DEMAND), demand(1.1, 1.2))
    assert 3 == len(breaches.reached_now(ledger))
    assert states(ledger, budget(), reading(100)) == ["ok"]
    assert breaches.reached_now(ledger) == []


def test_the_worst_is_kept(ledger: Ledger) -> None:
    """But is not written down each time."""
    judge = Judge(ledger, [budget()])
    for at, watts in ((0, 1100), (10, 1200), (90, 1300), (95, 1400), (200, 1000)):
        judge.judge([reading(watts)], NOW + at * 1000)
    assert {one.worst for one in breaches.reached_now(ledger)} == {1.3}


def test_what_is_not_written_is_not_judged(ledger: Ledger) -> None:
    """Where the ledger does not take a change, the next reading begins from what it has."""
    judge = Judge(ledger, [budget()])
    judge.judge([reading(100)], NOW)
    with ledger.writing() as connection:
        connection.execute(sa.text("ALTER TABLE breach RENAME TO away"))
    with pytest.raises((LedgerError, sa.exc.SQLAlchemyError)):
        judge.judge([reading(1100)], NOW + 1000)
    with ledger.writing() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO breach"))
    (found,) = judge.judge([reading(1100)], NOW + 2000)
    assert found.levels == {"warn": NOW + 2000, "hard": NOW + 2000}
    assert len(breaches.reached_now(ledger)) == 2
