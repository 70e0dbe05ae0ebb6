"""Closed periods: what was stated stays, and what comes later is an adjustment."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.aggregator.conftest import TOKEN, Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from tests.aggregator.test_reporting import PRICED
from tests.ledger.books import SLOT, Journal, Meter, holder
from tests.postgresql.fixtures import empty
from wattkeeper.aggregator.closing import Period, books, close, moved, stated
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.statement_lines import Line, read, total, write
from wattkeeper.factors.settings import FactorsSection
from wattkeeper.ledger import schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.statements import broken_links, canonical, digest, statements
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.grid import DAY_MS, floor
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

JSON = {"Content-Type": "application/json"}
TODAY = "2027-01-15"
"""The day of START_MS."""
MIDNIGHT = floor(START_MS, DAY_MS)
TOMORROW = MIDNIGHT + DAY_MS


async def post(centre: Centre, period: str, token: str = "", **more: Any) -> tuple[int, Any]:
    """Close a period; return status and body."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"{centre.aggregator.url}/v1/statements"
    body = {"period": period, **more}
    async with centre.session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_a_period_is_closed_once(centre: Centre) -> None:
    """Its statement is there, byte by byte what its hash is of, and adds up."""
    await centre.fed()
    status, problem = await post(centre, TODAY)
    assert (409, "period") == (status, problem["field"])
    assert "ends at 2027-01-16T00:00:00Z" in problem["detail"]
    centre.clock[0] = TOMORROW
    status, made = await post(centre, "yesterday")
    assert TODAY == made["period"]
    assert (201, 1, None, True) == (status, made["number"], made["previous"], made["balanced"])
    shown = await centre.text("/v1/statements/1")
    assert shown == await centre.text(f"/v1/statements/{TODAY}") == canonical(made)
    _, listed = await centre.get("/v1/statements")
    (one,) = listed["statements"]
    assert hashlib.sha256(shown.encode()).hexdigest() == one["hash"]
    assert (TODAY, True, True) == (one["period"], one["intact"], listed["intact"])
    _, whole = await centre.get("/v1/report", period=TODAY)
    assert str(180 * (GPU_UJ + CPU_UJ)) == whole["energy_uj"] == made["total"]["energy_uj"]
    assert abs(Decimal(whole["cost"]) - Decimal(made["total"]["cost"])) < Decimal("0.000005")
    assert {"physics", ""} == {row["account"] for row in made["rows"]}
    assert "alice" not in shown
    for again in (TODAY, "2027-01", "2027-W02"):
        centre.clock[0] = TOMORROW + 40 * DAY_MS
        status, problem = await post(centre, again)
        assert (409, True) == (status, "statement 1" in problem["detail"])


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_what_comes_later_is_an_adjustment(centre: Centre) -> None:
    """Of the period that it is of, in the next statement, and only once."""
    await centre.fed()
    centre.clock[0] = TOMORROW
    await post(centre, TODAY)
    _, check = await centre.get("/v1/statements/1/check")
    assert (True, False, []) == (check["intact"], check["moved"], check["rows"])
    centre.clock[0] = START_MS
    labels = {"job_id": "9", "user": "bob", "account": "chemistry"}
    await centre.fed(Feeder(node="node2", journal="j2", raw_id="9", labels=labels, uuid="GPU-2"))
    centre.clock[0] = TOMORROW + DAY_MS
    _, check = await centre.get("/v1/statements/1/check")
    late = str(180 * (GPU_UJ + CPU_UJ))
    assert (True, late) == (check["moved"], check["total"]["energy_uj"])
    _, second = await post(centre, "2027-01-16")
    (adjusted,) = second["adjustments"]
    assert (1, TODAY, "EUR", late) == (
        adjusted["statement"],
        adjusted["period"],
        adjusted["currency"],
        adjusted["total"]["energy_uj"],
    )
    assert {"chemistry", ""} == {row["account"] for row in adjusted["rows"]}
    assert "0" == second["total"]["energy_uj"]
    _, first = await centre.get("/v1/statements/1")
    _, check = await centre.get("/v1/statements/1/check")
    assert (False, second["previous"]) == (check["moved"], digest(canonical(first)))
    centre.clock[0] += DAY_MS
    _, third = await post(centre, "2027-01-17")
    assert [] == third["adjustments"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("2027-01-15", "Europe/Berlin"), ("2027-01-16", "UTC")),
        (("2027-01-16", "Europe/Berlin"), ("2027-01-15", "Asia/Tokyo")),
        (("2027-01-15", "Etc/GMT-14"), ("2027-01-16", "Etc/GMT+12")),
    ],
)
async def test_no_hole_between_time_zones(
    centre: Centre, first: tuple[str, str], second: tuple[str, str]
) -> None:
    """Hours between periods of two zones would be in no statement, ever."""
    centre.clock[0] = TOMORROW + 40 * DAY_MS
    assert 201 == (await post(centre, first[0], timezone=first[1]))[0]
    status, problem = await post(centre, second[0], timezone=second[1])
    assert (409, "timezone") == (status, problem["field"])
    assert f"statement 1 ({first[0]}); close by its timezone, {first[1]}" in problem["detail"]
    assert 201 == (await post(centre, second[0], timezone=first[1]))[0]


async def test_a_day_may_be_left_for_later(centre: Centre) -> None:
    """It is a period of its own."""
    centre.clock[0] = TOMORROW + 40 * DAY_MS
    for day in ("2027-01-15", "2027-01-17", "2027-01-16"):
        assert 201 == (await post(centre, day, timezone="Europe/Berlin"))[0]


@pytest.mark.parametrize("change", ["body", "hash", "gone", "between"])
async def test_a_statement_that_was_changed_by_hand(centre: Centre, change: str) -> None:
    """Is seen, and nothing is closed upon it."""
    await centre.fed()
    for days in (0, 1, 2):
        centre.clock[0] = TOMORROW + days * DAY_MS
        status, _ = await post(centre, f"2027-01-{15 + days}")
        assert 201 == status
    table = schema.statement

    def alter() -> None:
        with centre.aggregator.ledger.writing() as connection:
            if change == "gone":
                connection.execute(sa.delete(table).where(table.c.number == 2))
                return
            row = connection.execute(sa.select(table).where(table.c.number == 2)).one()
            body = row.body.replace('"energy_uj":"0"', '"energy_uj":"1"')
            values = {"body": body, "hash": digest(body)}
            if change == "between":
                values = {"previous": "0" * 64}
            elif change == "body":
                del values["hash"]
            else:
                values["body"] = canonical(json.loads(body))
            connection.execute(sa.update(table).where(table.c.number == 2).values(values))

    await asyncio.to_thread(alter)
    _, listed = await centre.get("/v1/statements")
    assert not listed["intact"]
    assert listed["statements"][0]["intact"]
    _, check = await centre.get("/v1/statements/1/check")
    assert (False, None) == (check["intact"], check["moved"])
    centre.clock[0] += DAY_MS
    status, problem = await post(centre, "2027-01-18")
    assert (409, True) == (status, "restore them first" in problem["detail"])


@pytest.mark.parametrize("centre", [TOKEN], indirect=True)
async def test_closing_needs_the_token(centre: Centre) -> None:
    """Where one is set; looking does not."""
    centre.clock[0] = TOMORROW
    for token in ("", "wrong"):
        status, problem = await post(centre, TODAY, token)
        assert (401, True) == (status, "token" in problem["detail"])
    assert 201 == (await post(centre, TODAY, "s3cret"))[0]
    assert 200 == (await centre.get("/v1/statements"))[0]


async def test_requests_that_cannot_be_meant(centre: Centre) -> None:
    """Each is answered with what is wrong."""
    centre.clock[0] = TOMORROW
    url = f"{centre.aggregator.url}/v1/statements"
    for body, field in (({"period": "soon"}, "period"), ({}, "period"), ({"until": 1}, "period")):
        async with centre.session.post(url, json=body) as answer:
            problem = await answer.json(content_type=None)
        assert (400, field) == (answer.status, problem["field"])
    status, problem = await post(centre, TODAY, timezone="Mars")
    assert (400, "timezone") == (status, problem["field"])
    async with centre.session.post(url, data="period=2027-01-15") as answer:
        assert 415 == answer.status
    async with centre.session.post(url, data=b" " * 5000, headers=JSON) as answer:
        assert 413 == answer.status
    status, problem = await centre.get("/v1/statements/7")
    assert (404, True) == (status, "is no statement" in problem["detail"])


async def test_a_body_that_comes_in_pieces(centre: Centre) -> None:
    """Is read to its end."""
    centre.clock[0] = TOMORROW

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b'{"period":', f' "{TODAY}"'.encode(), b"}"):
            yield piece
            await asyncio.sleep(0)

    url = f"{centre.aggregator.url}/v1/statements"
    async with centre.session.post(url, data=pieces(), headers=JSON) as answer:
        assert (201, TODAY) == (answer.status, (await answer.json())["period"])


LEDGER = Ledger.open("sqlite://")
DAYS = 4
ACCOUNTS = ("a", "b", "")
STEPS = st.lists(
    st.one_of(
        # A node's backlog of some day arrives: a job of an account for some slots.
        st.tuples(st.just("late"), st.integers(0, DAYS - 1), st.sampled_from(ACCOUNTS)),
        # A scheduler says that a job was another account's.
        st.tuples(st.just("named"), st.integers(0, 5), st.sampled_from(ACCOUNTS[:2])),
        st.tuples(st.just("priced"), st.integers(0, 400), st.just("")),
        st.tuples(st.just("close"), st.integers(0, DAYS - 1), st.just("")),
    ),
    max_size=14,
)
NOW = MIDNIGHT + (DAYS + 3) * DAY_MS


def priced(cents: int) -> Pricing:
    """Return a price, and none of carbon."""
    price = {"value": Decimal(cents) / 100, "unit": "EUR/kWh"}
    return Pricing(FactorsSection.model_validate({"price": price}), LEDGER)


def backlog(number: int, day: int, account: str) -> None:
    """Book a job of some slots of a day, on a node of its own."""
    node, cluster = f"n{number}", "we"[number % 2]
    journal = Journal(f"journal-{number}", node, cluster=cluster, boot_offset=MIDNIGHT - DAY_MS)
    journal.holders = {16: holder(str(number), MIDNIGHT + day * DAY_MS, account=account)}
    at_ms = MIDNIGHT + day * DAY_MS + number * SLOT
    meter = Meter(journal, 1, f"gpu/GPU-{number}", at_ms=at_ms)
    meter.point()
    for slot in range(3):
        meter.window((16, 10**13 + number), (1, 7 * 10**12 + slot), ms=SLOT)
    intake = Intake(LEDGER)
    journal.deliver(intake, NOW)
    intake.commit_sync()


def play(steps: Sequence[tuple[str, int, str]]) -> Pricing:
    """Let things happen; return the price at the end. Closing twice is left out."""
    own, closed = priced(20), set()
    for number, (kind, value, account) in enumerate(steps):
        if kind == "late":
            backlog(number, value, account)
        elif kind == "named":
            cluster = "we"[value % 2]
            info = WorkloadInfo(cluster, "simulated", str(value), str(value), account=account)
            record_knowledge(LEDGER, "simulated", Knowledge([info]), now_ms=NOW)
        elif kind == "priced":
            own = priced(value)
        elif value not in closed:
            closed.add(value)
            begin = MIDNIGHT + value * DAY_MS
            close(LEDGER, own, Period(str(value), "UTC", begin, begin + DAY_MS), NOW)
    return own


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
@example([("late", 0, "a"), ("close", 0, ""), ("named", 0, "b")])
@example([("late", 1, "a"), ("close", 1, ""), ("priced", 30, ""), ("late", 1, "b")])
def test_statements_and_adjustments_are_the_books(steps: Sequence[tuple[str, int, str]]) -> None:
    """Whatever came late, was renamed or priced anew; and to the books' own total."""
    empty(LEDGER)
    own = play(steps)
    begin = MIDNIGHT + DAYS * DAY_MS
    close(LEDGER, own, Period("end", "UTC", begin, begin + DAY_MS), NOW)
    closed = statements(LEDGER)
    assert not broken_links(closed)
    bodies = [one.told() for one in closed]
    for one in closed:
        assert not moved(LEDGER, own, one, bodies)
        now = books(LEDGER, own, one.since_ms, one.until_ms)
        told = stated(one.number, bodies)
        assert write(now.lines) == write(told)
        whole = report(LEDGER, "user", one.since_ms, one.until_ms).total_uj
        assert whole == total(told.values()).energy_uj


LINES = st.builds(
    Line,
    *(st.integers(-(10**12), 10**12) for _ in range(5)),
    by_component_uj=st.dictionaries(st.sampled_from(["gpu", "cpu"]), st.integers(-9, 9)),
    money=st.none() | st.integers(-(10**9), 10**9),
    milligrams=st.none() | st.integers(0, 10**9),
)


@given(LINES)
def test_a_line_is_read_as_it_was_written(line: Line) -> None:
    """Also below zero, as adjustments are; zero parts are not written."""
    row = {"cluster": "c", "kind": "group", "account": "a", **line.told()}
    (found,) = read([json.loads(canonical(row))]).values()
    assert found.told() == line.told()


@given(LINES, LINES)
def test_what_changed_added_to_what_was_is_what_is(now: Line, before: Line) -> None:
    """As far as it is known now."""
    again = before.plus(now.minus(before))
    assert again.energy_uj == now.energy_uj
    assert now.money is None or again.money == now.money
    assert now.milligrams is None or again.milligrams == now.milligrams
