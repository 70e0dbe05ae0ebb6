"""An aggregator whose ledger is on PostgreSQL: asked the same, it answers the same."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.aggregator.conftest import Centre, settings, started
from tests.aggregator.feeding import START_MS, Feeder
from wattkeeper.aggregator.opening import StartError
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, NodeInfo, WorkloadInfo

pytestmark = pytest.mark.postgresql

QUESTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/v1/fleet", {}),
    ("/v1/nodes", {}),
    ("/v1/jobs", {}),
    ("/v1/jobs", {"id": "100-130", "state": "running", "since": "-1h"}),
    ("/v1/jobs/west/123", {}),
    ("/v1/jobs/west/999", {}),
    ("/v1/balance", {"since": "-1h"}),
    *(
        ("/v1/report", {"by": by, "since": "-48h"})
        for by in ("user", "account", "partition", "qos", "owner", "name", "node", "label:team")
    ),
    ("/v1/report", {"by": "user", "since": "-15m"}),
    ("/v1/budgets", {}),
    ("/v1/prometheus/targets", {}),
    ("/v1/jobs", {"user": "\0"}),
)


BUDGETS = {
    "site": {"watts": "700W", "raise_after": "0s"},
    "physics": {"demand": "400W", "account": "physics", "inside": "site", "raise_after": "0s"},
    "month": {"energy": "1MWh", "inside": "site"},
    "job": {"energy": "100Wh", "job": "124", "per": "day"},
}


@asynccontextmanager
async def opened(
    folder: Path, session: aiohttp.ClientSession, ledger: dict[str, Any]
) -> AsyncIterator[Centre]:
    """Run an aggregator with budgets."""
    clock = [START_MS]
    own = await asyncio.to_thread(
        settings, folder, ledger=ledger, telemetry={"url": "none"}, budgets=BUDGETS
    )
    async with started(Aggregator(own, now_ms=lambda: clock[0])) as aggregator:
        yield Centre(aggregator, session, clock)


async def live(centre: Centre) -> list[Any]:
    """Let a fleet deliver, a scheduler speak, and ask everything."""
    await centre.fed(windows=300)
    other = {"job_id": "124", "user": "bob", "account": "chemistry", "name": "fold"}
    await centre.fed(Feeder(node="n2", journal="j2", raw_id="124", labels=other, uuid="GPU-2"))
    told = WorkloadInfo(
        "west", "slurm", "123", "123", account="physics", state="RUNNING", start_ms=START_MS,
        labels={"qos": "high", "team": "x"},
    )  # fmt: skip
    nodes = (NodeInfo("west", "node001", 1, "IDLE"), NodeInfo("west", "n9", 8, "DOWN"))
    knowledge = Knowledge([told], START_MS + 1, nodes=nodes)
    await asyncio.to_thread(record_knowledge, centre.aggregator.ledger, "slurm", knowledge)
    assert await centre.aggregator.settle()
    assert await centre.aggregator.budgeting.assess()
    answers = [await centre.get(path, **query) for path, query in QUESTIONS]
    text = await centre.text("/metrics")
    return [*answers, [line for line in text.splitlines() if "timestamp" not in line]]


async def test_both_databases_answer_alike(
    tmp_path: Path, new_url: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    """Every endpoint and `/metrics`, to the last digit; no password is logged."""
    caplog.set_level(logging.INFO)
    answered = []
    secret = tmp_path / "ledger.url"
    secret.write_text(new_url().replace("postgres@", "postgres:s3cret@") + "\n")
    async with aiohttp.ClientSession() as session:
        for name, ledger in (("sqlite", {}), ("postgresql", {"url_file": secret})):
            async with opened(tmp_path / name, session, ledger) as centre:
                answered.append(await live(centre))
    for ours, theirs in zip(*answered, strict=True):
        assert ours == theirs
    assert answered[0][len(QUESTIONS) - 1][0] == 400
    assert "ledger postgresql+psycopg://postgres:***@" in caplog.text
    assert "s3cret" not in caplog.text


async def test_an_embedded_history_cannot_be_shared(
    tmp_path: Path, new_url: Callable[[], str]
) -> None:
    """It would hold a part of the windows: the second aggregator is told whose it is."""
    url = {"url": new_url()}
    embedded = Aggregator(settings(tmp_path / "a", ledger=url))
    other = Aggregator(settings(tmp_path / "b", ledger=url, telemetry={"url": "none"}))
    async with started(embedded):
        with pytest.raises(StartError, match=r"ledger\.url: .*/a uses this ledger too.*telemetry"):
            await other.start()
        assert embedded.lease.token == 1
    async with started(Aggregator(other.settings)) as again:
        assert again.lease.token == 2


async def test_budgets_of_several_aggregators(tmp_path: Path, new_url: Callable[[], str]) -> None:
    """One judges, of nodes that deliver to the other by what is booked; both answer."""
    url = {"url": new_url()}
    async with (
        aiohttp.ClientSession() as session,
        opened(tmp_path / "a", session, url) as leads,
        opened(tmp_path / "b", session, url) as other,
    ):
        feeders = [
            (leads, Feeder()),
            (other, Feeder(node="n2", journal="j2", raw_id="9", uuid="GPU-2")),
        ]
        for _ in range(3):
            for centre, feeder in feeders:
                await centre.fed(feeder, windows=12)
            assert await leads.aggregator.budgeting.assess()
        assert not await other.aggregator.budgeting.assess()
        status, body = await leads.get("/v1/budgets", name="site")
        assert status == 200
        (site,) = body["budgets"]
        assert (site["watts"], site["coverage"], site["silent_nodes"]) == (1000.0, 1.0, 0)
        assert (site["state"], len(site["history"])) == ("hard", 2)
        status, theirs = await other.get("/v1/budgets", name="site")
        assert (status, theirs["budgets"]) == (200, [site])
