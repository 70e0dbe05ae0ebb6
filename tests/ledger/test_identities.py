"""Names of people go when they are old, or at once; figures stay, and nothing brings names back."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger import schema
from wattkeeper.ledger.breaches import history, reach
from wattkeeper.ledger.erasing import MARK, without
from wattkeeper.ledger.identities import PIECE, Expiry, forget
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.job import JobFilter, jobs
from wattkeeper.ledger.queries.report import DIMENSIONS, report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import HolderInfo
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

YEAR = 365 * DAY_MS
LATER = T0 + 2 * YEAR
BREACH = '{"scope":"user ines","top":[{"kind":"user","name":"ines","watts":1.0}]}'


@pytest.fixture
def book(intake: Intake) -> Callable[..., None]:
    """Deliver a node of its own whose holder uses 10 windows of 1,000 µJ."""

    def go(number: int, info: HolderInfo) -> None:
        journal = Journal(name=f"journal-{number}", node=f"n{number}")
        journal.holders[16] = info
        meter = Meter(journal, name=f"gpu/GPU-{number}", at_ms=info.birth_ms)
        meter.run(10, (16, 1_000), (1, 10))
        journal.deliver(intake, LATER)
        intake.commit_sync()

    return go


def told(raw_id: str, start_ms: int, end_ms: int | None = None, **more: object) -> Knowledge:
    """Return what a scheduler says of one run of ines's."""
    words: dict[str, object] = {"user": "ines", "account": "lab", "name": "secret plan", **more}
    state = "RUNNING" if end_ms is None else "COMPLETED"
    words.setdefault("job_id", raw_id)
    info = WorkloadInfo(
        "c", "simulated", raw_id, state=state, start_ms=start_ms, end_ms=end_ms, **words  # type: ignore[arg-type]
    )  # fmt: skip
    return Knowledge([info])


def expire(ledger: Ledger, before_ms: int) -> None:
    """Do all that is due."""
    expiry = Expiry(ledger)
    while expiry.piece(before_ms):
        pass


def users(ledger: Ledger) -> dict[str, str]:
    """Return the user of each job."""
    return {one.job_id: one.user for one in jobs(ledger, JobFilter())}


def everything(ledger: Ledger) -> str:
    """Return all rows of all tables as one text."""
    with ledger.reading() as connection:
        tables = schema.metadata.sorted_tables
        return "\n".join(
            repr(row) for table in tables for row in connection.execute(sa.select(table))
        )


def test_old_runs_have_pseudonyms_and_sums_stay(ledger: Ledger, book: Callable[..., None]) -> None:
    """One person stays one person; who has newer runs has the name in these."""
    for number, (user, day) in enumerate((("ines", 0), ("ines", 2), ("eva", 0), ("ines", 500))):
        labels = {"user": user, "name": f"{user} trains", "account": "lab"}
        book(number, holder(str(number), T0 + day * DAY_MS, **labels))
    before = {by: report(ledger, by) for by in (*DIMENSIONS, "label:qos")}
    expire(ledger, T0 + YEAR)
    found = users(ledger)
    assert found["0"] == found["1"] != found["2"]
    assert all(found[old].startswith(MARK) for old in "012")
    assert found["3"] == "ines"
    for by, then in before.items():
        now = report(ledger, by)
        assert now.total_uj == then.total_uj
        if by not in ("user", "name"):
            assert now.rows == then.rows
    sums = {row.key: row.energy_uj for row in report(ledger, "user").rows if row.kind == "group"}
    assert sums == {found["0"]: 20_000, found["2"]: 10_000, "ines": 10_000}
    assert all(meter.residual_uj == 0 for meter in balance(ledger).meters)
    assert "eva" not in everything(ledger)
    assert "ines trains" not in everything(ledger).replace("'ines', 'ines trains'", "")


def test_the_pseudonym_is_the_same_until_the_last_name_is_gone(
    ledger: Ledger, book: Callable[..., None]
) -> None:
    """Runs of other years get it too; after the last one nothing leads from the name to it."""
    for number, day in enumerate((0, 100, 200)):
        book(number, holder(str(number), T0 + day * DAY_MS, user="ines"))
    expire(ledger, T0 + 50 * DAY_MS)
    expire(ledger, T0 + 150 * DAY_MS)
    found = users(ledger)
    assert found["0"] == found["1"] != found["2"] == "ines"
    expire(ledger, T0 + 250 * DAY_MS)
    assert len(set(users(ledger).values())) == 1
    assert "ines" not in everything(ledger)


def test_what_still_runs_is_not_old(ledger: Ledger) -> None:
    """Nor is what has not begun."""
    record_knowledge(ledger, "simulated", told("1", T0))
    record_knowledge(
        ledger,
        "simulated",
        Knowledge([WorkloadInfo("c", "simulated", "2", "2", user="ines")]),
    )
    expire(ledger, T0 - 1)
    assert users(ledger) == {"1": "ines", "2": "ines"}


@pytest.mark.parametrize("cluster", ["", "c"])
def test_one_person_is_forgotten_at_once(
    ledger: Ledger, book: Callable[..., None], cluster: str
) -> None:
    """Old runs that had a pseudonym too: it led back to the name. Others are as they were."""
    book(1, holder("1", T0, user="ines"))
    book(2, holder("2", T0 + YEAR, user="ines", account="ines"))
    book(3, holder("3", T0 + YEAR, user="eva"))
    expire(ledger, T0 + YEAR // 2)
    reach(ledger, "lab", "warn", T0, 1.0, None, BREACH)
    before = users(ledger)
    done = forget(ledger, "ines", LATER, cluster)
    assert (done.runs, done.breaches, done.remaining) == (2, 1, {"account": 1})
    assert users(ledger) == {"1": done.pseudonym, "2": done.pseudonym, "3": "eva"}
    assert done.pseudonym not in before.values()
    rest = everything(ledger).replace("'ines'", "", 1)  # the account
    assert ("ines" in rest) == bool(cluster)  # the person may have runs in other clusters
    assert done.pseudonym in history(ledger, ["lab"], 1)["lab"][0].detail
    assert forget(ledger, "nobody", LATER).runs == 0


def test_late_words_bring_no_name_back(ledger: Ledger, book: Callable[..., None]) -> None:
    """Neither of runs that are known, nor of those that are first heard of now; new runs do."""
    book(1, holder("1", T0, user="ines", name="secret plan"))
    done = forget(ledger, "ines", T0 + 100 * SLOT)
    book(2, holder("2", T0 + SLOT, user="ines", name="secret plan"))
    record_knowledge(ledger, "simulated", told("1", T0, T0 + SLOT))
    record_knowledge(ledger, "simulated", told("3", T0 + 2 * SLOT))
    record_knowledge(ledger, "simulated", told("4", T0 + 101 * SLOT))
    book(5, holder("5", T0 + 102 * SLOT, user="ines"))
    assert users(ledger) == {"1": done.pseudonym, "2": "", "3": "", "4": "ines", "5": "ines"}
    rows = {row.key: row.energy_uj for row in report(ledger, "user").rows if row.kind == "group"}
    assert rows == {done.pseudonym: 10_000, "": 10_000, "ines": 10_000}


def test_a_pod_is_called_by_its_uid(ledger: Ledger) -> None:
    """Its name is its id as well; its owner keeps a name, without the person's."""
    uid = "1f0e2d3c-0000-4000-8000-000000000001"
    words = {"namespace": "lab", "job_id": "jupyter-ines-0", "owner_name": "jupyter-ines"}
    info = told(uid, T0, T0 + SLOT, name="jupyter-ines-0", **words)
    record_knowledge(ledger, "simulated", info)
    done = forget(ledger, "ines", LATER)
    record_knowledge(ledger, "simulated", info)
    (found,) = jobs(ledger, JobFilter())
    assert (found.job_id, found.owner_name) == (uid, f"jupyter-{done.pseudonym}")
    assert "ines" not in everything(ledger)


def test_who_is_called_like_a_kind_changes_no_kind(ledger: Ledger) -> None:
    """An open breach is told by its kind, which has to stay."""
    told = '{"kind":"energy","top":[{"kind":"user","name":"%s"},{"kind":"user","name":"x"}]}'
    reach(ledger, "lab", "warn", T0, 1.0, None, told % "user")
    done = forget(ledger, "user", LATER)
    assert 1 == done.breaches
    assert [told % done.pseudonym] == [one.detail for one in history(ledger, ["lab"], 1)["lab"]]


def test_old_breaches_name_no_people(ledger: Ledger) -> None:
    """What ended long ago tells accounts and nodes; what has not ended is as it was."""
    top = ",".join(f'{{"kind":"{kind}","name":"x"}}' for kind in ("user", "job", "account"))
    reached = [reach(ledger, "lab", "warn", T0, 1.0, None, f'{{"top":[{top}]}}') for _ in range(2)]
    with ledger.writing() as connection:
        ended = sa.update(schema.breach).where(schema.breach.c.id == reached[0].id)
        connection.execute(ended.values(to_ms=T0 + SLOT))
    expire(ledger, LATER)
    details = [one.detail for one in history(ledger, ["lab"], 2)["lab"]]
    assert sorted(details, key=len) == [
        '{"top":[{"kind":"account","name":"x"}]}',
        reached[1].detail,
    ]


def test_it_goes_on_where_it_was(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces are small, and one that fails is done again."""
    assert PIECE > 1
    monkeypatch.setattr("wattkeeper.ledger.identities.PIECE", 2)
    for number in range(5):
        record_knowledge(ledger, "simulated", told(str(number), T0, T0 + SLOT))
    expiry = Expiry(ledger)
    assert expiry.piece(LATER)
    assert sorted(users(ledger).values()).count("ines") == 3
    assert expiry.piece(LATER)
    assert not expiry.piece(LATER)
    assert "ines" not in everything(ledger)


def test_a_name_is_not_in_the_files(tmp_path: Path) -> None:
    """Neither in pages that are free, nor in old versions of rows, nor in the log of changes."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    labels = {"comment": "call zebulon", "team": "zebulon-lab"}
    for round_ in range(6):
        known: list[WorkloadInfo] = []
        for number in range(round_, 300):
            also = labels | {"qos": "x" * ((number * 7 + round_ * 31) % 90)}
            name = f"zebulon {number}" * round_
            info = told(str(number), T0, user="zebulon", name=name, labels=also)
            known += info.workloads
        record_knowledge(ledger, "simulated", Knowledge(known, complete_ms=T0 + round_))
    assert forget(ledger, "zebulon", LATER).on_disk == ""
    for file in tmp_path.iterdir():
        assert b"zebulon" not in file.read_bytes(), file
    ledger.close()


def test_who_reads_while_a_name_goes_is_told(tmp_path: Path) -> None:
    """Then the log of changes cannot be emptied yet."""
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger.open(path)
    record_knowledge(ledger, "simulated", told("1", T0))
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM identity").fetchall()
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=10")
    assert "-wal" in forget(ledger, "ines", LATER).on_disk
    reader.close()
    ledger.close()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(min_size=1, max_size=4), st.text("-_/.0 ", max_size=3))
def test_a_name_is_found_as_a_word(text: str, user: str, between: str) -> None:
    """Whatever it is made of; and a text without it stays."""
    if user.lower() not in text.lower():
        assert without(text, user, MARK) == text
    assert user not in without(f"{between}{user}{between}", user, "") or user in between
