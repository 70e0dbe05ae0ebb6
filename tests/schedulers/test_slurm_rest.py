"""slurmrestd: versions, tokens, and every way in which it does not answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.schedulers.slurm_captures import FIXTURES, NOW_MS
from wattkeeper.schedulers.slurm_child import Answer, fetch
from wattkeeper.schedulers.slurm_wire import Done, Request

NOT_FOUND = "Unable find requested URL. Please view /openapi/v3 for API reference."


@dataclass
class Slurmrestd:
    """A server that offers some versions, and says what captures of real ones say."""

    url: str
    versions: tuple[str, ...] = ("v0.0.42", "v0.0.43", "v0.0.44")
    token: str = ""
    files: dict[str, str] = field(default_factory=dict)
    old_queries: bool = False
    nothing: bool = False
    asked: list[str] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as slurmrestd does."""
        self.asked.append(request.path_qs)
        self.users.append(request.headers.get("X-SLURM-USER-NAME"))
        if self.token and request.headers.get("X-SLURM-USER-TOKEN") != self.token:
            return web.Response(status=401, text="Authentication failure")
        if request.path == "/openapi/v3":
            offered: dict[str, Any] = {f"/slurm/{version}/jobs/": {} for version in self.versions}
            return web.json_response({"paths": offered})
        family, version, what = request.path.strip("/").split("/")
        if version not in self.versions:
            return web.Response(status=404, text=NOT_FOUND)
        if what == "ping":
            return web.json_response({"pings": [], "errors": []})
        if self.nothing:
            error = {"description": "Nothing found with query", "error": "Nothing found"}
            return web.json_response({"errors": [error], "jobs": []}, status=500)
        if self.old_queries and "show_duplicates" in request.query:
            error = {"description": "Unknown Query field", "error": "Unspecified error"}
            return web.json_response({"errors": [error], "jobs": []}, status=500)
        return web.FileResponse(FIXTURES / self.files[f"{family}/{what}"])

    async def ask(self, **more: Any) -> tuple[Answer, Done]:
        """Ask it as the aggregator does."""
        usual: dict[str, Any] = {
            "what": "live", "cluster": "demo", "since_ms": 0, "now_ms": NOW_MS, "timeout_s": 20.0,
            "max_bytes": 1 << 30, "rest": self.url,
        }  # fmt: skip
        return await fetch(Request(**(usual | more)))


NEW = {
    "slurm/jobs": "26.05/rest_v0.0.44_jobs.json",
    "slurm/nodes": "26.05/rest_v0.0.45_nodes_drain_down.json",
    "slurmdb/jobs": "26.05/rest_slurmdb_v0.0.44_jobs.json",
}
OLD = {
    "slurm/jobs": "22.05/rest_v0.0.38_jobs.json",
    "slurm/nodes": "22.05/rest_v0.0.38_nodes.json",
    "slurmdb/jobs": "22.05/rest_slurmdb_v0.0.38_jobs.json",
}


@pytest.fixture(params=["unix", "tcp"])
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Slurmrestd]:
    """Serve, through a socket of either kind."""
    found = Slurmrestd("", files=NEW)
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    if request.param == "unix":
        await web.UnixSite(runner, str(tmp_path / "rest.sock")).start()
        found.url = f"unix:{tmp_path / 'rest.sock'}"
    else:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_the_newest_version(server: Slurmrestd) -> None:
    """Found once by going down; then one question for jobs and one for nodes."""
    answer, done = await server.ask()
    assert done.version == "v0.0.44"
    assert 9 == len(answer.runs)
    assert ["n2", "n3", "n7"] == [node.name for node in answer.nodes]
    assert done.slurm_cluster == "demo"
    server.asked.clear()
    await server.ask(version="v0.0.44")
    assert ["/slurm/v0.0.44/nodes/", "/slurm/v0.0.44/jobs/"] == server.asked


async def test_accounts(server: Slurmrestd) -> None:
    """Since an instant, with requeued runs and without steps."""
    answer, _ = await server.ask(what="ended", since_ms=1_795_426_000_999, version="v0.0.44")
    assert {"COMPLETED", "CANCELLED"} == {run.state for run in answer.runs}
    assert 4 == len(answer.runs)
    (asked,) = server.asked
    assert asked.startswith("/slurmdb/v0.0.44/jobs/?start_time=1795426000&skip_steps=true&")
    assert "show_duplicates=true" in asked


async def test_22_05(server: Slurmrestd) -> None:
    """Its own shapes, and its own way to ask."""
    server.versions, server.files, server.old_queries = ("v0.0.36", "v0.0.37", "v0.0.38"), OLD, True
    answer, done = await server.ask()
    assert (done.version, len(answer.nodes)) == ("v0.0.38", 2)
    assert [run for run in answer.runs if run.gpus]
    answer, _ = await server.ask(what="ended", since_ms=1_795_426_000_000, version="v0.0.38")
    assert "NODE_FAIL" in {run.state for run in answer.runs}
    assert server.asked[-1] == "/slurmdb/v0.0.38/jobs/?start_time=uts1795426000&skip_steps=true"


async def test_a_version_that_takes_the_old_query_only(server: Slurmrestd) -> None:
    """23.02 offers v0.0.39; it is asked again in the old way."""
    server.versions, server.old_queries = ("v0.0.39",), True
    answer, _ = await server.ask(what="ended", version="v0.0.39")
    assert answer.runs
    assert 2 == len(server.asked)


async def test_accounts_without_a_run(server: Slurmrestd) -> None:
    """They are an error to some versions, but none to us."""
    server.nothing = True
    answer, _ = await server.ask(what="ended", version="v0.0.44")
    assert answer.runs == []


async def test_an_upgrade(server: Slurmrestd) -> None:
    """The version that was there is gone: another one is found."""
    _, done = await server.ask(version="v0.0.41")
    assert done.version == "v0.0.44"


async def test_a_version_of_the_future(server: Slurmrestd) -> None:
    """None that we know: what it lists as the oldest is the nearest to what we know."""
    server.versions = ("v0.0.47", "v0.0.48")
    _, done = await server.ask()
    assert done.version == "v0.0.47"


async def test_a_token(server: Slurmrestd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file that is read each time, as `scontrol token` writes it, or the environment."""
    server.token = "eyJ.first"
    file = tmp_path / "token"
    file.write_text("SLURM_JWT=eyJ.first\n")
    await server.ask(token_file=str(file), user="slurm")
    assert server.users[-1] == "slurm"
    server.token = "eyJ.second"
    with pytest.raises(OSError, match=r"HTTP 401.*slurm\.token_file"):
        await server.ask(token_file=str(file))
    file.write_text("eyJ.second")
    await server.ask(token_file=str(file))
    monkeypatch.setenv("SLURM_JWT", "eyJ.second")
    await server.ask()
    assert server.users[-1] is None


async def test_no_token_file(server: Slurmrestd, tmp_path: Path) -> None:
    """Says which file."""
    with pytest.raises(OSError, match=r"slurm\.token_file: .*no-token cannot be read"):
        await server.ask(token_file=str(tmp_path / "no-token"))


async def test_nobody_there(tmp_path: Path) -> None:
    """Says where it was looked for."""
    for url in (f"unix:{tmp_path}/none.sock", "http://127.0.0.1:1"):
        with pytest.raises(OSError, match=r"slurmrestd cannot be reached at .*slurm\.rest"):
            await Slurmrestd(url).ask()


@pytest.fixture
async def listening() -> AsyncIterator[list[bytes]]:
    """Listen with a server that says these bytes to whoever connects, and the port it has."""
    says: list[bytes] = []
    hold = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in says[1:]:
            writer.write(part)
            if not part:
                await hold.wait()
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    says.append(str(server.sockets[0].getsockname()[1]).encode())
    yield says
    hold.set()
    server.close()
    await server.wait_closed()


async def said(listening: list[bytes], *parts: bytes, timeout_s: float = 20.0) -> str:
    """Return why there is no answer from a server that says this."""
    listening.extend(parts)
    url = f"http://127.0.0.1:{listening[0].decode()}"
    with pytest.raises(OSError) as caught:
        await Slurmrestd(url).ask(version="v0.0.44", timeout_s=timeout_s)
    return str(caught.value)


async def test_a_hang(listening: list[bytes]) -> None:
    """At the deadline."""
    message = await said(listening, b"", timeout_s=1.0)
    assert "did not answer within 1 s: is slurmctld alive" in message


async def test_a_hang_in_the_middle(listening: list[bytes]) -> None:
    """An answer that stops coming is none."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"jobs": [{"job_id": 1}, '
    assert "did not answer within 1 s" in await said(listening, head, b"", timeout_s=1.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>", "not Slurm's JSON"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"jobs": [{}', "or cut off"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nnope", "HTTP 502 to jobs: nope"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "refuses us (HTTP 403)"),
        (
            b'HTTP/1.1 500 No\r\nContent-Length: 23\r\n\r\n{"description": "Down."}',
            "HTTP 500 to jobs: Down.",
        ),
        (b"", "does not speak HTTP (RemoteDisconnected)"),
    ],
)  # fmt: skip
async def test_garbage(listening: list[bytes], answer: bytes, expected: str) -> None:
    """Each way of not answering is told apart."""
    parts = [answer] if answer else []
    message = await said(listening, *parts)
    assert expected in message


async def test_an_answer_without_end(listening: list[bytes]) -> None:
    """200 MB of a name: it is not read to its end."""
    head = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"jobs": [{"job_id": 1, "name": "'
    message = await said(listening, head, *([b"x" * (4 << 20)] * 50))
    assert "no record ends in it" in message
