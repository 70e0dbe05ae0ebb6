"""`wattkeeper relay`: users of a login node ask an aggregator elsewhere, each for their own."""

import asyncio
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.aggregator.conftest import Centre
from tests.aggregator.roles import guarded
from tests.aggregator.test_unix_socket import ask_as, jobs_of_nobody, listed
from tests.cli.conftest import Run
from tests.e2e.programs import until
from wattkeeper.aggregator.access.relaying import Relay, Way
from wattkeeper.listening.peers import Account
from wattkeeper.tls.client import ClientCertificates

NOBODY = pwd.getpwnam("nobody").pw_uid
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def relaying(folder: Path, url: str, token: str = "relay") -> AsyncIterator[Path]:
    """Run a relay of an aggregator; return its socket."""

    def prepare() -> None:
        place.parent.mkdir(0o755, exist_ok=True)
        (folder / "token").write_text(token)

    place = folder / "run" / "a.sock"
    await asyncio.to_thread(prepare)
    way = Way(url, folder / "token", ClientCertificates())
    async with Relay(way).listening(place):
        yield place


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator with a job of `nobody` and one of bob."""
    async with guarded(tmp_path) as running:
        await jobs_of_nobody(running)
        yield running


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
async def test_each_is_told_what_is_theirs(centre: Centre, tmp_path: Path) -> None:
    """By the kernel's word alone: headers that a user sends are not passed on."""
    async with relaying(tmp_path, centre.aggregator.url) as path:
        for uid, headers, own in (
            (NOBODY, "", {"7"}),
            (NOBODY, "X-Forwarded-User: bob\r\nX-Forwarded-Groups: admins\r\n", {"7"}),
            (0, "", set()),
            (NOBODY, "Authorization: Bearer oper\r\n", {"7", "8"}),
        ):
            status, body = await asyncio.to_thread(ask_as, path, uid, "/v1/jobs", headers)
            assert (200, own) == (status, listed(body))
        asked = ("/v1/jobs/west/8", "/v1/nodes", "/metrics", "/v1/jobs?limit=%30")
        for path_of, expected in zip(asked, (404, 403, 403, 400), strict=True):
            assert expected == (await asyncio.to_thread(ask_as, path, NOBODY, path_of))[0]
    assert not await asyncio.to_thread(path.exists)


async def test_commands_find_the_relay(
    centre: Centre, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any address; what is not one's own is not there."""
    monkeypatch.delenv("WATTKEEPER_URL", raising=False)
    async with relaying(tmp_path, centre.aggregator.url) as path:
        monkeypatch.setattr("wattkeeper.cli.client.SOCKET", path)
        assert 1 == (await command("job", "7")).code
        monkeypatch.setenv("WATTKEEPER_TOKEN", "oper")
        assert 0 == (await command("job", "7")).code
        done = await command("close", "2026-11")
        assert (2, True) == (done.code, "never writes" in done.err)


async def test_an_aggregator_that_does_not_answer(
    command: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Users are told that it is an outage, the log why; once."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        url = f"http://127.0.0.1:{port.getsockname()[1]}"
    async with relaying(tmp_path, url) as path:
        for _ in range(2):
            done = await command("job", "7", "--url", f"unix:{path}")
            assert (3, True) == (done.code, "its log tells why" in done.err)
            assert url.removeprefix("http://") not in done.err
    assert 1 == caplog.text.count("Cannot connect")


async def test_a_token_that_does_not_count(
    centre: Centre, command: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is nothing a user can do anything about."""
    async with relaying(tmp_path, centre.aggregator.url, "another") as path:
        done = await command("job", "7", "--url", f"unix:{path}")
        assert (3, True) == (done.code, "its log tells why" in done.err)
    assert "the relay's token" in caplog.text
    assert "another" not in caplog.text


async def test_paths_that_would_lead_elsewhere(centre: Centre, tmp_path: Path) -> None:
    """An absolute URL, or what would be one behind the aggregator's: the token stays at home."""
    async with relaying(tmp_path, centre.aggregator.url) as path:
        for asked in ("http://127.0.0.1:1/v1/jobs", "@127.0.0.1:1/v1/jobs", "*"):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(f"GET {asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.read(), 20)
            assert b" 40" in head.partition(b"\r\n")[0], head
            writer.close()
            await writer.wait_closed()


async def test_names_as_a_header_holds_them(
    centre: Centre, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that would become another in a header is nobody's; of groups as many as there is room."""
    asked: list[int] = []

    def look_up(uid: int) -> Account:
        asked.append(uid)
        name = " bob" if len(asked) == 1 else "bob"
        return Account(name, frozenset({"a,b", *(f"group{number}" for number in range(5000))}))

    monkeypatch.setattr("wattkeeper.listening.peers.look_up", look_up)
    monkeypatch.setattr("wattkeeper.listening.peers._KEPT_S", 0.0)
    async with relaying(tmp_path, centre.aggregator.url) as path:
        done = await command("job", "8", "--url", f"unix:{path}")
        assert (2, True) == (done.code, "does not know who" in done.err)
        assert 0 == (await command("job", "8", "--url", f"unix:{path}")).code
        assert 1 == (await command("job", "7", "--url", f"unix:{path}")).code


async def test_an_answer_that_breaks_off(tmp_path: Path) -> None:
    """Nobody takes a part of it for all of it."""

    async def half(request: web.Request) -> web.StreamResponse:
        told = web.StreamResponse()
        await told.prepare(request)
        await told.write(b"[" * 1000)
        assert request.transport is not None
        request.transport.abort()
        return told

    app = web.Application()
    app.router.add_get("/v1/jobs", half)
    async with TestServer(app) as server, relaying(tmp_path, str(server.make_url(""))) as path:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await asyncio.wait_for(reader.read(), 20)
        assert not got.endswith(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """As a program: its socket is there, and gone after SIGTERM."""
    (tmp_path / "token").write_text("x")
    path = tmp_path / "a.sock"
    command = [
        sys.executable, "-m", "wattkeeper", "relay", "--url", "http://127.0.0.1:9",
        "--token-file", str(tmp_path / "token"), "--socket", str(path),
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "daemon")}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as program:
        try:
            until("its socket is there", path.is_socket)
            status, body = ask_as(path, os.geteuid(), "/v1/jobs")
            assert 503 == status
            assert "aggregator-unavailable" in json.loads(body)["type"]
            program.send_signal(signal.SIGTERM)
            assert 0 == program.wait(20)
        finally:
            program.kill()
    assert not path.exists()
