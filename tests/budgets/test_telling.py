"""Alerts reach their receiver: after failures, over restarts, with their ends."""

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from wattkeeper.budgets.alerts import Links
from wattkeeper.budgets.telling import Receiver, Teller, TellError
from wattkeeper.ledger import breaches
from wattkeeper.ledger.breaches import Breach, Told
from wattkeeper.ledger.store import Ledger

NOW = 1_800_000_000_000
DETAIL = (
    '{"kind":"demand","scope":"fleet","limit":400000000,'
    '"top":[{"kind":"job","name":"7","watts":1200.0}]}'
)


@dataclass
class Inbox:
    """A receiver; `status` is what it answers, 400 where `refuses` is in what it is told."""

    status: int = 200
    refuses: str | None = None
    bodies: list[Any] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take an alert, or not."""
        self.tokens.append(request.headers.get("Authorization"))
        body = await request.json()
        odd = self.refuses is not None and self.refuses in json.dumps(body)
        status = 400 if odd else self.status
        if status < 300:
            self.bodies.append(body)
        return web.Response(status=status, text="no room")


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """Run a receiver."""
    inbox = Inbox()
    app = web.Application()
    app.router.add_post("/{tail:.*}", inbox.take)
    async with TestServer(app) as server:
        inbox.url = str(server.make_url("")).rstrip("/")
        yield inbox


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a ledger."""
    opened = Ledger.open(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Run what blocks."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def teller(
    ledger: Ledger,
    pool: ThreadPoolExecutor,
    inbox: Inbox,
    via: Literal["alertmanager", "webhook"] = "webhook",
    **more: Any,
) -> Teller:
    """Return one that begins, as after a restart."""
    return Teller(ledger, Receiver(via, [inbox.url], **more), pool, lambda: NOW)


def reach(ledger: Ledger, budget: str = "site", level: str = "hard") -> Breach:
    """Let a budget reach a level."""
    return breaches.reach(ledger, budget, level, NOW - 60_000, 1.04, 0.9, DETAIL)


async def test_a_webhook_hears_of_both_ends_once(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """In the format of Alertmanager's; what was told is not told again after a restart."""
    breach = reach(ledger)
    first = teller(ledger, pool, inbox)
    assert await first.tell()
    assert not await first.tell()
    assert not await teller(ledger, pool, inbox).tell()
    (body,) = inbox.bodies
    (alert,) = body["alerts"]
    assert (body["version"], body["status"], body["groupLabels"]) == (
        "4", "firing", {"budget": "site"},
    )  # fmt: skip
    assert alert["labels"] == {
        "alertname": "WattkeeperPowerBudgetExceeded", "budget": "site", "kind": "demand",
        "level": "hard", "severity": "page", "part": "power",
    }  # fmt: skip
    assert (alert["startsAt"], alert["endsAt"]) == (
        "2027-01-15T07:59:00.000Z", "0001-01-01T00:00:00Z",
    )  # fmt: skip
    assert "104 % of its 400 kW" in alert["annotations"]["summary"]
    assert "job 7 (1,200 W)" in alert["annotations"]["description"]
    assert "Only 90 %" in alert["annotations"]["description"]
    breaches.leave(ledger, [breach.id], NOW)
    again = teller(ledger, pool, inbox)
    assert await again.tell()
    assert not await again.tell()
    assert ("resolved", "2027-01-15T08:00:00.000Z") == (
        inbox.bodies[1]["status"], inbox.bodies[1]["alerts"][0]["endsAt"],
    )  # fmt: skip
    assert inbox.bodies[1]["alerts"][0]["fingerprint"] == alert["fingerprint"]


async def test_a_failure_is_tried_again_later(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """Not at once; what the answer said is told, and nothing is lost."""
    reach(ledger)
    inbox.status = 500
    one = teller(ledger, pool, inbox)
    with pytest.raises(TellError, match="answered 500 no room"):
        await one.tell()
    assert not await one.tell()
    assert (one.counts.failures, one.counts.waiting, one.counts.sent) == (1, 1, 0)
    one._retry_s = asyncio.get_running_loop().time()
    with pytest.raises(TellError):
        await one.tell()
    assert one._retry_s > asyncio.get_running_loop().time() + 1.5
    inbox.status = 200
    one._retry_s = 0
    assert await one.tell()
    assert (one.counts.sent, one.counts.waiting, len(inbox.bodies)) == (1, 0, 1)


async def test_alertmanager_is_told_what_goes_on(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """Again and again, with an end that comes by itself; and its real end."""
    breach = reach(ledger)
    one = teller(
        ledger, pool, inbox, "alertmanager", links=Links("http://here", "http://wiki/runbook")
    )
    assert await one.tell()
    assert not await one.tell()
    one._repeat_s = 0
    assert await one.tell()
    breaches.leave(ledger, [breach.id], NOW - 1000)
    assert await teller(ledger, pool, inbox, "alertmanager").tell()
    assert [
        (alert["startsAt"], alert["endsAt"]) for (alert,) in inbox.bodies
    ] == [
        ("2027-01-15T07:59:00.000Z", "2027-01-15T08:04:00.000Z"),
        ("2027-01-15T07:59:00.000Z", "2027-01-15T08:04:00.000Z"),
        ("2027-01-15T07:59:00.000Z", "2027-01-15T07:59:59.000Z"),
    ]  # fmt: skip
    assert inbox.bodies[0][0]["generatorURL"] == "http://here"
    runbook = inbox.bodies[0][0]["annotations"]["runbook_url"]
    assert runbook == "http://wiki/runbook#wattkeeperpowerbudgetexceeded"
    assert not await teller(ledger, pool, inbox, "alertmanager").tell()


async def test_one_alertmanager_of_a_cluster_is_enough(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """It tells the others; that one is away is no failure."""
    reach(ledger)
    receiver = Receiver("alertmanager", [inbox.url, "http://127.0.0.1:9"])
    assert await Teller(ledger, receiver, pool, lambda: NOW).tell()
    assert len(inbox.bodies) == 1
    assert [Told.REACHED] == [one.told for one in breaches.reached_now(ledger)]


async def test_a_token(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox, tmp_path: Path
) -> None:
    """Of a file that is read each time; one that cannot be used says which key it is of."""
    reach(ledger)
    path = tmp_path / "token"
    one = teller(ledger, pool, inbox, token_file=path)
    with pytest.raises(TellError, match=r"alerts\.token_file"):
        await one.tell()
    for odd in ("s3cret\nanother\n", "s3\0cret", "s3cr\u00e9t"):
        path.write_text(odd)
        one._retry_s = 0
        with pytest.raises(TellError, match=r"alerts\.token_file") as told:
            await one.tell()
        assert "s3c" not in str(told.value)
    path.write_text("s3cret\n")
    one._retry_s = 0
    assert await one.tell()
    assert inbox.tokens == ["Bearer s3cret"]


async def test_budgets_are_told_apart(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """A message each, with all levels of it; not of one about which nothing is new."""
    reach(ledger, "a", "warn")
    one = teller(ledger, pool, inbox)
    assert await one.tell()
    reach(ledger, "b", "forecast")
    reach(ledger, "b", "hard")
    assert await one.tell()
    assert [("a", 1), ("b", 2)] == [
        (body["groupLabels"]["budget"], len(body["alerts"])) for body in inbox.bodies
    ]


async def test_one_that_is_refused_holds_up_no_other(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """The failure is told; what the receiver took is not told again."""
    for name in ("a", "odd", "z"):
        reach(ledger, name)
    inbox.refuses = "odd"
    one = teller(ledger, pool, inbox)
    with pytest.raises(TellError, match="400"):
        await one.tell()
    assert ["a", "z"] == [body["groupLabels"]["budget"] for body in inbox.bodies]
    assert (one.counts.sent, one.counts.waiting, one.counts.failures) == (2, 1, 1)
    inbox.refuses, one._retry_s = None, 0
    assert await one.tell()
    assert inbox.bodies[2]["groupLabels"] == {"budget": "odd"}


@pytest.mark.parametrize("via", ["alertmanager", "webhook"])
async def test_an_end_comes_before_what_goes_on(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox, via: Literal["alertmanager", "webhook"]
) -> None:
    """Left and reached again while nobody was told: both have the same labels, the last counts."""
    breaches.leave(ledger, [reach(ledger).id], NOW - 30_000)
    breaches.reach(ledger, "site", "hard", NOW - 10_000, 1.04, 0.9, DETAIL)
    assert await teller(ledger, pool, inbox, via).tell()
    (body,) = inbox.bodies
    alerts = body["alerts"] if via == "webhook" else body
    assert ["2027-01-15T07:59:00.000Z", "2027-01-15T07:59:50.000Z"] == [
        one["startsAt"] for one in alerts
    ]


async def test_what_is_long_over_is_told_no_more(
    ledger: Ledger, pool: ThreadPoolExecutor, inbox: Inbox
) -> None:
    """An hour later nobody wants to hear of what they never heard of; a day later of nothing."""
    unheard, heard = reach(ledger, "a"), reach(ledger, "b")
    breaches.tell(ledger, [heard.id], Told.REACHED)
    breaches.leave(ledger, [unheard.id, heard.id], NOW - 7_200_000)
    assert await teller(ledger, pool, inbox).tell()
    assert ["b"] == [body["groupLabels"]["budget"] for body in inbox.bodies]


async def test_tls(ledger: Ledger, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """The receiver's certificate is checked against `ca`; without it nothing is sent."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "receiver.pem", tmp_path / "receiver.key"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    )
    await asyncio.to_thread(subprocess.run, command.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    reach(ledger)
    inbox = Inbox()
    app = web.Application()
    app.router.add_post("/{tail:.*}", inbox.take)
    server = TestServer(app, scheme="https", host="localhost")
    await server.start_server(ssl=context)
    inbox.url = f"https://localhost:{server.port}"
    try:
        with pytest.raises(TellError, match="certificate"):
            await teller(ledger, pool, inbox).tell()
        with pytest.raises(TellError, match=r"alerts\.ca"):
            await teller(ledger, pool, inbox, ca=tmp_path / "none.pem").tell()
        assert await teller(ledger, pool, inbox, ca=certificate).tell()
    finally:
        await server.close()
    assert len(inbox.bodies) == 1
