"""Where clients ask, and how they prove who they are."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.roles import guarded, two_peoples_jobs
from tests.cli.conftest import Run
from wattkeeper.cli import client


@pytest.fixture
async def known(
    tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Centre]:
    """Run an aggregator that knows its callers, and whose client.toml is in the test's folder."""
    monkeypatch.setattr(client, "FILES", (tmp_path / "client.toml",))
    monkeypatch.setattr(client, "SOCKET", tmp_path / "a.sock")
    async with guarded(tmp_path, socket=tmp_path / "a.sock") as centre:
        await two_peoples_jobs(centre)
        yield centre


async def test_a_token_is_shown(
    known: Centre, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of WATTKEEPER_TOKEN, else that of the file that client.toml names."""
    monkeypatch.setenv("WATTKEEPER_URL", known.aggregator.url)
    done = await command("job", "124")
    assert (2, True) == (done.code, "WATTKEEPER_TOKEN" in done.err)
    monkeypatch.setenv("WATTKEEPER_TOKEN", "alice")
    assert 0 == (await command("job", "123")).code
    missing = await command("job", "124")
    assert (1, "") == (missing.code, missing.out)
    assert missing.err == (await command("job", "999")).err.replace("999", "124")
    assert ", of jobs of alice\n" in (await command("report", "--since", "-2h")).out
    monkeypatch.delenv("WATTKEEPER_TOKEN")
    text = f'token_file = "{tmp_path}/token"\n'
    await asyncio.to_thread((tmp_path / "client.toml").write_text, text)
    done = await command("job", "123")
    assert (2, True) == (done.code, "token_file" in done.err)
    await asyncio.to_thread((tmp_path / "token").write_text, "ann\n")
    assert [1, 0] == [(await command("job", job)).code for job in ("123", "124")]


async def test_the_socket_is_asked_where_it_is(
    known: Centre, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any address: the aggregator's own user sees everything."""
    monkeypatch.delenv("WATTKEEPER_URL", raising=False)
    done = await command("jobs", "--all", "--format", "csv", "--since", "2027-01-15")
    assert (0, 4) == (done.code, len(done.out.splitlines())), done.err
    done = await command("job", "123", "--url", f"unix:{known.aggregator.settings.access.socket}")
    assert 0 == done.code


async def test_nobody_at_the_socket(command: Run, tmp_path: Path) -> None:
    """It is an outage as any other."""
    done = await command("job", "123", "--url", f"unix:{tmp_path}/none.sock")
    assert (3, True) == (done.code, "no aggregator answers at unix:" in done.err)
