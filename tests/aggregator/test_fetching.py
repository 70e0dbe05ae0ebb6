"""Factors are fetched from a real server: what is kept, and what is said if it does not answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import START_MS
from wattkeeper.aggregator.fetching import MAX_BYTES, FetchError, Fetching
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.factors.settings import CarbonSection, FactorsSection
from wattkeeper.ledger.factor_values import kept_factor
from wattkeeper.model.microjoules import UJ_PER_KWH

HOUR = 3_600_000


@dataclass
class Source:
    """An endpoint that says what it is told to."""

    url: str = ""
    answer: Callable[[], web.Response] = field(default=lambda: web.json_response({}))
    headers: list[Any] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer."""
        self.headers.append(request.headers)
        return self.answer()

    def section(self, **more: Any) -> CarbonSection:
        """Return the settings that fetch from it."""
        paths = {"value_path": "carbonIntensity", "time_path": "datetime"}
        return CarbonSection.model_validate({"url": self.url, **paths, **more})


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    """Run the endpoint."""
    own = Source()
    app = web.Application()
    app.router.add_get("/latest", own.handle)
    async with TestServer(app) as server:
        own.url = str(server.make_url("/latest"))
        yield own


def hour(number: int, grams: float) -> Callable[[], web.Response]:
    """Return an answer for an hour from the start."""
    body = {"carbonIntensity": grams, "datetime": rfc3339(START_MS + number * HOUR)}
    return lambda: web.json_response(body)


async def fetch(centre: Centre, section: CarbonSection) -> int:
    """Fetch once."""
    with ThreadPoolExecutor(1) as writer:
        own = Fetching(
            FactorsSection(carbon=section),
            centre.aggregator.ledger,
            leads=lambda: True,
            troubles=Troubles(),
            writer=writer,
            now_ms=lambda: centre.clock[0],
        )
        return await own.fetch(centre.session, "carbon", section)


async def test_the_aggregator_fetches_by_itself(centre: Centre, source: Source) -> None:
    """Soon after its start; a report uses it, and says whose word it is."""
    source.answer = hour(0, 300.5)
    await centre.fed()
    settings = centre.aggregator.settings
    await centre.aggregator.stop()
    priced = FactorsSection(carbon=source.section(source="Grid & Co", holds="20m"))
    centre.aggregator.settings = settings.model_copy(update={"factors": priced})
    await centre.aggregator_again()
    query = {"since": rfc3339(START_MS), "until": rfc3339(START_MS + HOUR // 2)}
    async with asyncio.timeout(10):
        while (body := (await centre.get("/v1/report", **query))[1])["carbon_g"] is None:
            await asyncio.sleep(0.02)
    grams = int(body["energy_uj"]) / UJ_PER_KWH * 300.5
    assert float(body["carbon_g"]) == pytest.approx(grams)
    (factor,) = body["factors"]
    assert (["Grid & Co"], "fetched") == (factor["sources"], factor["how"])
    # From 20 minutes on it is only the last one known: a third of both slots together.
    assert factor["estimated_ratio"] == body["carbon_estimated_ratio"] == pytest.approx(1 / 3)
    _, told = await centre.get("/v1/findings")
    assert {"ok"} == {one["state"] for one in told["findings"]}


async def test_a_source_that_fails_is_told(centre: Centre, source: Source) -> None:
    """In the findings, with why; energy is valued by the fallback, as estimated."""
    source.answer = lambda: web.Response(status=401)
    await centre.fed()
    settings = centre.aggregator.settings
    await centre.aggregator.stop()
    priced = FactorsSection(carbon=source.section(value=400))
    centre.aggregator.settings = settings.model_copy(update={"factors": priced})
    await centre.aggregator_again()
    async with asyncio.timeout(10):
        while True:
            _, told = await centre.get("/v1/findings")
            (found,) = (one for one in told["findings"] if one["subject"] == "factors/carbon")
            if found["state"] == "failing":
                break
            await asyncio.sleep(0.02)
    assert "answers 401 Unauthorized" in found["detail"]
    _, body = await centre.get("/v1/report", since="-1h")
    assert (1.0, "400") == (body["carbon_estimated_ratio"], body["factors"][0]["mean"])


async def test_the_same_hour_is_kept_once(centre: Centre, source: Source) -> None:
    """What is told again changes nothing; the next hour is new."""
    centre.clock[0] = START_MS + 2 * HOUR
    for answer, new in ((hour(0, 300), 1), (hour(0, 310), 0), (hour(1, 320), 1), (hour(9, 1), 0)):
        source.answer = answer
        assert new == await fetch(centre, source.section())
    ledger = centre.aggregator.ledger
    values = await asyncio.to_thread(
        kept_factor, ledger, "carbon", "g/kWh", START_MS, START_MS + 9 * HOUR
    )
    assert [300, 320] == [value.rate // 10**9 for value in values]
    assert {"127.0.0.1"} == {value.source for value in values}


async def test_tokens_are_read_for_every_request(
    centre: Centre, source: Source, tmp_path: Path
) -> None:
    """As a bearer, or in the header that a service wants."""
    source.answer = hour(0, 300)
    path = tmp_path / "token"
    for token, header, shown in (
        ("one", "Authorization", "Bearer one"),
        ("two", "auth-token", "two"),
    ):
        path.write_text(f"{token}\n", "utf-8")
        await fetch(centre, source.section(token_file=path, token_header=header))
        assert shown == source.headers[-1][header]
    path.unlink()
    with pytest.raises(FetchError, match="cannot be read"):
        await fetch(centre, source.section(token_file=path))


@pytest.mark.parametrize("token", ["one\ntwo", "one\x00two", "one\rtwo", "one\x1b[31mtwo"])
async def test_a_token_that_is_no_header(
    centre: Centre, source: Source, tmp_path: Path, token: str
) -> None:
    """Is told, as a source that fails is, and never sent."""
    path = tmp_path / "token"
    path.write_bytes(token.encode())
    with pytest.raises(FetchError, match="one line of text"):
        await fetch(centre, source.section(token_file=path))
    assert not source.headers


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda: web.Response(status=302, headers={"Location": "http://elsewhere/"}),
            "answers 302",
        ),
        (lambda: web.Response(body=b" " * (MAX_BYTES + 1)), "more than 4 MiB"),
        (lambda: web.Response(text="<html>"), "is no JSON"),
        (lambda: web.json_response({"error": "x"}), "there is error"),
        (hour(0, -5), "not below 0"),
    ],
)
async def test_answers_that_cannot_be_used(
    centre: Centre, source: Source, answer: Callable[[], web.Response], said: str
) -> None:
    """Nothing is kept of them, and no token follows a redirection."""
    source.answer = answer
    with pytest.raises(FetchError, match=said):
        await fetch(centre, source.section())
    assert 1 == len(source.headers)


async def test_nobody_answers(centre: Centre, unused_tcp_port: int, source: Source) -> None:
    """The message names host and port, and not what may be a key."""
    section = source.section(url=f"http://127.0.0.1:{unused_tcp_port}/?api_key=s3cret")
    with pytest.raises(FetchError, match=f"127.0.0.1:{unused_tcp_port}") as told:
        await fetch(centre, section)
    assert "s3cret" not in str(told.value)


async def test_a_proxy_of_the_environment(
    centre: Centre, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is used as curl does, but for what `no_proxy` names."""
    source.answer = hour(0, 300)
    monkeypatch.setenv("http_proxy", source.url.removesuffix("/latest"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert 1 == await fetch(centre, source.section())
    await fetch(centre, source.section(url="http://grid.invalid/latest"))
    assert "grid.invalid" == source.headers[-1]["Host"]
