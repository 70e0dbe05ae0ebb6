"""Commands run as a user runs them, against a real aggregator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from tests.aggregator.conftest import Centre, centre, fresh
from tests.aggregator.past import Past
from wattkeeper.cli.main import main

__all__ = ["centre", "fresh"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `wattkeeper ARGS…`."""
    monkeypatch.setattr("wattkeeper.cli.client.FILES", ())
    monkeypatch.setattr("wattkeeper.cli.client.SOCKET", Path("/nowhere.sock"))

    async def go(*args: str) -> Outcome:
        capsys.readouterr()
        code = await asyncio.to_thread(main, args)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return go


@pytest.fixture
def run(centre: Centre, command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the aggregator that WATTKEEPER_URL names."""
    monkeypatch.setenv("WATTKEEPER_URL", centre.aggregator.url)
    return command


@pytest.fixture
async def recall(fresh: Past, command: Run, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Run a command against an aggregator with a history."""
    with ThreadPoolExecutor(2) as pool:
        async with TestServer(fresh.app(pool)) as server:
            monkeypatch.setenv("WATTKEEPER_URL", str(server.make_url("")))
            yield command
