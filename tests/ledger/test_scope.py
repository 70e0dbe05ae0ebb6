"""Whose jobs a question is about: exactly a user's own, and those of some accounts."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, Journal, Meter, holder
from tests.postgresql.fixtures import empty

from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.holders import holders_of
from wattkeeper.ledger.queries.job import JobFilter, job, jobs
from wattkeeper.ledger.queries.named import named
from wattkeeper.ledger.queries.report import DIMENSIONS, report
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger

LEDGER = Ledger.open("sqlite://")
USERS = ("", "alice", "bob", "Alice", "alice ")
ACCOUNTS = ("", "physics", "chemistry")
WINDOW_UJ = 1_000


@dataclass(frozen=True)
class Ran:
    """A job that ran: its id may be that of another one that ran before it."""

    id: str
    user: str
    account: str
    windows: int


ran = st.builds(
    Ran,
    st.sampled_from(["7", "8", "9_1", "9_2"]),
    st.sampled_from(USERS),
    st.sampled_from(ACCOUNTS),
    st.integers(1, 3),
)
scopes = st.builds(Scope, st.sampled_from(USERS), st.frozensets(st.sampled_from(ACCOUNTS)))


@settings(max_examples=40)
@given(
    st.lists(ran, min_size=1, max_size=6), scopes, st.sampled_from(DIMENSIONS), st.integers(1, 2)
)
def test_what_is_seen_is_exactly_ones_own(
    all_ran: list[Ran], scope: Scope, by: str, most: int
) -> None:
    """In lists, by ids, in reports and their rests, and in what history is asked for."""
    _check(empty(LEDGER), all_ran, scope, by, most)


@pytest.mark.parametrize("by", DIMENSIONS)
def test_by_every_dimension(ledger: Ledger, by: str) -> None:
    """A user who manages an account, on every database."""
    all_ran = [
        Ran("7", "alice", "physics", 1),
        Ran("7", "bob", "chemistry", 2),
        Ran("7", "bob", "physics", 1),
        Ran("8", "", "", 1),
        Ran("9_1", "alice", "chemistry", 3),
        Ran("9_2", "bob", "physics", 2),
    ]
    _check(ledger, all_ran, Scope("alice", frozenset({"chemistry"})), by, 1)


def _check(ledger: Ledger, all_ran: list[Ran], scope: Scope, by: str, most: int) -> None:
    _book(ledger, all_ran)
    own = [
        one
        for one in all_ran
        if (one.user and one.user == scope.user) or (one.account and one.account in scope.accounts)
    ]
    listed = jobs(ledger, JobFilter(scope=scope))
    seen = Counter((one.raw_id, one.user, one.account) for one in listed)
    assert Counter((one.id, one.user, one.account) for one in own) == seen
    runs = Counter(one.id for one in own)
    assert all(one.runs == runs[one.raw_id] and 1 <= one.run <= one.runs for one in listed)
    cut = jobs(ledger, JobFilter(scope=scope, limit=1))
    assert cut == listed[:1]
    for one in {one.id for one in all_ran}:
        found = job(ledger, "c", one, scope=scope)
        assert (found is None) == (one not in runs)
        assert found is None or (found.runs, found.run) == (runs[one], runs[one])
        assert job(ledger, "c", one, runs[one] + 1, scope) is None
        assert bool(named(ledger, [one], scope=scope)) == (one in runs)
    energy_uj = sum(one.windows * WINDOW_UJ for one in own)
    told = report(ledger, by, scope=scope, most=most)
    assert (energy_uj, energy_uj) == (told.total_uj, told.workload_uj)
    assert {"group", "rest"} >= {row.kind for row in told.rows}
    assert len(own) == len({job.id for row in told.rows for job in row.by_job})
    held = holders_of(ledger, {}, None, T0 - SLOT, T0 + 90 * SLOT, scope)
    assert len(own) == len(held)


def _book(ledger: Ledger, all_ran: list[Ran]) -> None:
    """Book jobs one after the other on one GPU; two of one id are runs of their own."""
    intake = Intake(ledger)
    journal = Journal()
    meter = Meter(journal, 1, "gpu/GPU-1")
    meter.point()
    for number, one in enumerate(all_ran, 16):
        labels = {"job_id": one.id, "user": one.user, "account": one.account}
        journal.holders[number] = holder(one.id, meter.at_ms, **labels)
        meter.run(one.windows, (number, WINDOW_UJ))
        meter.run(30, (1, 1))
    journal.deliver(intake, T0 + SLOT)
    intake.commit_sync()
