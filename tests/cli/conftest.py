"""Commands run as a user runs them, against a real aggregator."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from tests.aggregator.conftest import Centre, centre
from wattkeeper.cli.main import main

__all__ = ["centre"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def run(centre: Centre, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `wattkeeper ARGS…` against the aggregator that WATTKEEPER_URL names."""
    monkeypatch.setenv("WATTKEEPER_URL", centre.aggregator.url)
    monkeypatch.setattr("wattkeeper.cli.client.FILES", ())

    async def go(*args: str) -> Outcome:
        capsys.readouterr()
        code = await asyncio.to_thread(main, args)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return go
