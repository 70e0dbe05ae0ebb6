"""The audit log: who read about others, and who changed what."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.aggregator.conftest import Centre, settings
from tests.aggregator.feeding import START_MS
from tests.aggregator.roles import ask, guarded, two_peoples_jobs
from tests.aggregator.test_identities import ask_to_forget
from tests.aggregator.test_statements import TODAY, TOMORROW
from wattkeeper.aggregator.auditing import _MOST_KINDS, CHANGES, READS
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.ledger import audit
from wattkeeper.ledger.store import LedgerError
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.state import State

TELL_OF_NOBODY = {
    "/healthz", "/static/{name}", "/openapi.json", "/metrics", "/v1/nodes", "/v1/balance",
    "/v1/findings", "/v1/statements", "/v1/statements/{id}", "/v1/statements/{id}/check", "/health",
    "/v1/prometheus/targets", "/v1/windows",
}  # fmt: skip


async def log(centre: Centre, **query: str) -> list[dict[str, Any]]:
    """Return the entries, but for those about reading the log itself."""
    await centre.aggregator.auditing.flush()
    pages = await asyncio.to_thread(
        audit.entries, centre.aggregator.ledger, 0, centre.clock[0] + DAY_MS, query, 2_000
    )
    return [
        {"who": one.who, "act": one.act, "what": one.what, "result": one.result, "times": one.times}
        for one in reversed(pages)
        if one.act not in ("audit", "configuration")
    ]


async def test_every_path_is_watched_or_tells_of_nobody(tmp_path: Path) -> None:
    """What is served and in neither list fails."""
    async with guarded(tmp_path) as centre:
        routes = centre.aggregator.app.router.routes()
        served = {route.resource.canonical for route in routes if route.resource is not None}
    assert served == {*READS, *CHANGES} | TELL_OF_NOBODY
    assert not READS.keys() & TELL_OF_NOBODY


async def test_who_read_what(tmp_path: Path) -> None:
    """Of operators and managers every question about jobs, of others what was refused."""
    async with guarded(tmp_path) as centre:
        await two_peoples_jobs(centre)
        await ask(centre, "operator", "/v1/jobs/west/123")
        await ask(centre, "manager", "/v1/report", by="user", account="chemistry")
        await ask(centre, "user", "/v1/jobs/west/123")
        await ask(centre, "user", "/v1/devices")
        await ask(centre, "public", "/v1/jobs/west/123")
        await ask(centre, "operator", "/v1/balance")
        entries = await log(centre)
        assert [tuple(one.values())[:4] for one in entries] == [
            ("oper", "job", "west/123", "200"),
            ("ann", "report", "account=chemistry by=user", "200"),
            ("alice", "devices", "", "403"),
        ]
        status, body = await ask(centre, "operator", "/v1/audit", act="job")
        assert (status, b'"address":"127.0.0.1"' in body) == (200, True)
        assert (await ask(centre, "manager", "/v1/audit"))[0] == 403


async def test_what_is_alike_is_one_entry_an_hour(tmp_path: Path) -> None:
    """And one after it that tells how often; the disk is not filled by asking."""
    async with guarded(tmp_path) as centre:
        for _ in range(5):
            await ask(centre, "operator", "/v1/jobs")
        assert [one["times"] for one in await log(centre)] == [1]
        centre.clock[0] += 3_600_000
        assert [one["times"] for one in await log(centre)] == [1, 4]
        await ask(centre, "operator", "/v1/jobs")
        assert [one["times"] for one in await log(centre)] == [1, 4, 1]
        for number in range(_MOST_KINDS + 20):
            centre.aggregator.auditing._enter(audit.Entry(0, "x", "", "", "job", str(number), ""))
        entries = await log(centre)
        assert (entries[-1]["act"], len(entries)) == ("many", _MOST_KINDS + 3)


async def test_changes(tmp_path: Path) -> None:
    """Who closed a period or had somebody forgotten, who tried to, and no name that is erased."""
    async with guarded(tmp_path) as centre:
        await two_peoples_jobs(centre)
        await ask(centre, "operator", "/v1/jobs", user="alice")
        assert (await ask_to_forget(centre, "ann", user="alice"))[0] == 403
        _, done = await ask_to_forget(centre, "oper", user="alice")
        centre.clock[0] = TOMORROW
        url, headers = f"{centre.aggregator.url}/v1/statements", {"Authorization": "Bearer oper"}
        async with centre.session.post(url, json={"period": TODAY}, headers=headers) as answer:
            assert answer.status == 201
        called = done["pseudonym"]
        assert [tuple(one.values())[:4] for one in await log(centre)] == [
            ("oper", "jobs", f"user={called}", "200"),
            ("ann", "forget", "", "403"),
            ("oper", "forget", f"2 runs are of {called} now", "200"),
            ("oper", "close", f"{TODAY}: statement 1", "201"),
        ]


async def test_configuration(tmp_path: Path) -> None:
    """Factors and rights that are others than at the last start, and tokens that came or went."""
    tokens = tmp_path / "tokens.toml"

    def changed(aggregator: Aggregator) -> list[str]:
        with aggregator.ledger.reading() as connection:
            found = connection.execute(sa.text("SELECT what FROM audit ORDER BY id")).all()
        return [row.what for row in found]

    async with guarded(tmp_path, operators=("root",)) as centre:
        await centre.aggregator.auditing.look()
    price = {"value": "0.21", "unit": "EUR/kWh"}
    access = {"tokens_file": tokens, "operators": ("root", "eve")}
    found: list[str] = []
    for value in ("0.21", "0.25"):
        factors = {"price": price | {"value": value}}
        chosen = await asyncio.to_thread(
            settings, tmp_path / "data", access=access, factors=factors
        )
        aggregator = Aggregator(chosen, now_ms=lambda: START_MS)
        await aggregator.start()
        await aggregator.auditing.look()
        found = await asyncio.to_thread(changed, aggregator)
        await aggregator.stop()
    assert "access.operators: root -> root, eve" in found
    assert found[-1] == "factors.price.value: 0.21 -> 0.25"
    assert sum("token oper:" in one for one in found) == 1


async def test_a_ledger_that_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told; entries wait, so many, and are written when it is back."""
    async with guarded(tmp_path) as centre:
        auditing = centre.aggregator.auditing
        monkeypatch.setattr("wattkeeper.aggregator.auditing._MOST_WAITING", 2)

        def fails(*_: object) -> None:
            raise LedgerError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(audit, "append", fails)
            for path in ("/v1/jobs", "/v1/report?by=user", "/v1/fleet"):
                assert (await ask(centre, "operator", path))[0] == 200
            await auditing.flush()
            (told,) = auditing.findings()
            assert (told.state, "2 entries" in told.detail) == (State.FAILING, True)
        assert len(await log(centre)) == 2
        (told,) = auditing.findings()
        assert (told.state, "1 entries were lost" in told.detail) == (State.STALE, True)


async def test_old_entries_go(tmp_path: Path) -> None:
    """After `retention.audit`; the log itself is read by operators only."""
    async with guarded(tmp_path) as centre:
        await ask(centre, "operator", "/v1/jobs")
        assert await log(centre)
        centre.clock[0] += 397 * DAY_MS
        await centre.aggregator.auditing.expire()
        assert not await log(centre)
