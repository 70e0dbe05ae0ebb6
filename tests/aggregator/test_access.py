"""Who may ask what: every endpoint by every role, and how callers prove who they are."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.aggregator.conftest import Centre, settings
from tests.aggregator.feeding import START_MS, Feeder
from tests.aggregator.roles import CALLERS, TOKENS, ask, guarded, two_peoples_jobs
from wattkeeper.aggregator.access.callers import Callers
from wattkeeper.aggregator.access.config import AccessSection
from wattkeeper.aggregator.access.gate import Gate
from wattkeeper.aggregator.access.known_tokens import KnownTokens
from wattkeeper.aggregator.access.tokens import ReaderToken, TokensError, digest, entry, parse
from wattkeeper.aggregator.app import problems
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.model.state import State

EVERYBODY = set(CALLERS)
READERS = {"public", "user", "manager", "operator"}
USERS = {"user", "manager", "operator"}
OPERATORS = {"operator"}
SCRAPERS = {"scraper", "operator"}

MAY: dict[tuple[str, str], set[str]] = {
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/static/{name}"): EVERYBODY,
    ("GET", "/openapi.json"): READERS,
    ("GET", "/v1/fleet"): READERS,
    ("GET", "/"): READERS,
    ("GET", "/v1/jobs"): USERS,
    ("GET", "/v1/jobs/{cluster}/{id}"): USERS,
    ("GET", "/v1/jobs/{cluster}/{id}/trace"): USERS,
    ("GET", "/v1/report"): USERS,
    ("GET", "/v1/telemetry"): USERS,
    ("GET", "/v1/budgets"): USERS,
    ("GET", "/jobs"): USERS,
    ("GET", "/jobs/{cluster}/{id}"): USERS,
    ("GET", "/report"): USERS,
    ("GET", "/report.html"): USERS,
    ("GET", "/budgets"): USERS,
    ("GET", "/v1/nodes"): OPERATORS,
    ("GET", "/v1/devices"): OPERATORS,
    ("GET", "/v1/balance"): OPERATORS,
    ("GET", "/v1/findings"): OPERATORS,
    ("GET", "/v1/audit"): OPERATORS,
    ("GET", "/v1/statements"): OPERATORS,
    ("GET", "/v1/statements/{id}"): OPERATORS,
    ("GET", "/v1/statements/{id}/check"): OPERATORS,
    ("GET", "/nodes/{cluster}/{node}"): OPERATORS,
    ("GET", "/health"): OPERATORS,
    ("GET", "/metrics"): SCRAPERS,
    ("GET", "/v1/prometheus/targets"): SCRAPERS,
    ("POST", "/v1/windows"): {"agent", "shared"},
    ("POST", "/v1/statements"): {"operator", "shared"},
    ("POST", "/v1/forget"): OPERATORS,
}
"""Who may ask what, written down once more: what is served and not in here fails the test."""


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator that knows somebody of each role."""
    async with guarded(tmp_path) as running:
        yield running


async def test_every_endpoint_by_every_role(centre: Centre) -> None:
    """401 to those who did not prove anything, 403 to the others, and an answer to who may."""
    await two_peoples_jobs(centre)
    served = set()
    for route in centre.aggregator.app.router.routes():
        assert route.resource is not None
        method = "GET" if route.method == "HEAD" else route.method
        path = route.resource.canonical
        served.add((method, path))
        names = {"cluster": "west", "id": "123", "node": "node001", "name": "page.css"}
        asked = path.format(**names)
        query = {"metric": "power"} if path == "/v1/telemetry" else {}
        for who in CALLERS:
            status, body = await ask(centre, who, asked, route.method, **query)
            writes = method == "POST"
            # The token of all agents says nothing of who reads.
            role = "public" if who == "shared" and not writes else who
            refused = {401 if role == "public" else 403}
            if role in MAY[method, path]:
                assert status not in (401, 403, 500), (who, method, path, body)
            else:
                assert {status} == refused, (who, method, path, body)
    assert set(MAY) == served


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/west/124", "/v1/nodes", "/jobs", "/no"])
async def test_no_cache_tells_one_what_another_asked(centre: Centre, path: str) -> None:
    """Of a proxy that keeps what it passes on; neither answers nor that there is none."""
    url = f"{centre.aggregator.url}{path}"
    async with centre.session.get(url, headers=CALLERS["user"]) as answer:
        assert "private, no-cache" == answer.headers["Cache-Control"]


async def test_what_nobody_declared_is_closed() -> None:
    """A route beside the gate is nobody's."""
    known = KnownTokens(None, Troubles(), lambda: START_MS)
    gate = Gate(Callers(AccessSection(), "127.0.0.1:0", None, known, lambda: START_MS))
    app = web.Application(middlewares=[problems, gate.decide])

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_get("/forgotten", handler)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/forgotten")
        assert 401 == answer.status


@pytest.mark.parametrize(
    ("access", "fleet", "jobs"),
    [
        ({"anonymous": "operator"}, 200, 200),
        ({"anonymous": "public"}, 200, 401),
        ({"anonymous": "none"}, 401, 401),
        ({}, 200, 401),
    ],
)
async def test_who_callers_without_proof_are(
    tmp_path: Path, access: dict[str, Any], fleet: int, jobs: int
) -> None:
    """As it is set; where tokens are set up, the public."""
    async with guarded(tmp_path, **access) as centre:
        assert fleet == (await ask(centre, "public", "/v1/fleet"))[0]
        assert jobs == (await ask(centre, "public", "/v1/jobs"))[0]
        assert 200 == (await ask(centre, "public", "/healthz"))[0]
        assert 401 == (await ask(centre, "public", "/v1/windows", "POST"))[0]
        assert 401 == (await ask(centre, "public", "/v1/statements", "POST"))[0]
        status, page = await ask(centre, "public", "/jobs")
        assert status == jobs
        assert b"<html" in page


@pytest.mark.parametrize(
    ("listen", "access", "expected"),
    [
        ("127.0.0.1:1", {}, "operator"),
        ("[::1]:1", {}, "operator"),
        ("localhost:1", {}, "operator"),
        (":1", {}, "public"),
        ("10.0.0.1:1", {}, "public"),
        ("127.0.0.1:1", {"proxy_from": ("127.0.0.1",)}, "public"),
        ("127.0.0.1:1", {"socket": "/run/wattkeeper/aggregator.sock"}, "public"),
        ("127.0.0.1:1", {"proxy_from": ("127.0.0.1",), "anonymous": "operator"}, "operator"),
    ],
)
def test_the_usual_anonymous(listen: str, access: dict[str, Any], expected: str) -> None:
    """An operator where nobody else can reach it, and nothing tells who is who."""
    assert expected == AccessSection(**access).anonymous_at(listen)


async def test_an_operator_by_default_asks_for_this_machine(tmp_path: Path) -> None:
    """A page whose name was made to mean this machine, and a proxy with a name, are the public."""
    aggregator = Aggregator(settings(tmp_path / "data"))
    await aggregator.start()
    async with aiohttp.ClientSession() as session:
        for host, expected in (
            ("localhost:9746", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("evil.example:9746", 401),
            ("127.0.0.1.evil.example", 401),
            ("", 401),
            ("[", 401),
        ):
            url = f"{aggregator.url}/v1/nodes"
            async with session.get(url, headers={"Host": host}) as answer:
                assert expected == answer.status, host
    await aggregator.stop()


async def test_an_agent_delivers_for_its_own_nodes_only(centre: Centre) -> None:
    """A stolen token is of no use for another node, and for the same name in another cluster."""
    centre.headers |= CALLERS["agent"]
    feeder = Feeder()
    status, _ = await centre.deliver(feeder.batch(feeder.run(1)))
    assert 200 == status
    for other in (Feeder(node="node002", journal="j2"), Feeder(cluster="east", journal="j3")):
        status, problem = await centre.deliver(other.batch(other.run(1)))
        assert (403, "node") == (status, problem["field"])
        assert problem["type"].endswith(":wrong-node")
    metrics = (await ask(centre, "operator", "/metrics"))[1].decode()
    assert 'refused_deliveries_total{reason="wrong-node"} 2.0' in metrics


async def test_refused_tokens_are_counted(centre: Centre) -> None:
    """A delivery that the gate refuses is a refused delivery."""
    assert 401 == (await centre.deliver(Feeder().batch([]), Authorization="Bearer no"))[0]
    assert 403 == (await centre.deliver(Feeder().batch([]), **CALLERS["user"]))[0]
    metrics = (await ask(centre, "operator", "/metrics"))[1].decode()
    assert 'refused_deliveries_total{reason="unauthorized"} 1.0' in metrics
    assert 'refused_deliveries_total{reason="forbidden"} 1.0' in metrics


async def test_tokens_change_without_a_restart(centre: Centre) -> None:
    """Two count while they are changed over; one that expired or was taken out does not."""
    path = centre.aggregator.settings.access.tokens_file
    assert path is not None
    ends = datetime.fromtimestamp(START_MS / 1000 + 3600, UTC)
    new = ReaderToken(
        name="alice 2", sha256=digest("alice2"), role="user", user="alice", expires=ends
    )

    async def become(text: str) -> None:
        await asyncio.to_thread(path.write_text, text)
        await asyncio.to_thread(known.look)

    known = centre.aggregator.callers._tokens
    assert 401 == (await ask(centre, "alice2", "/v1/jobs"))[0]
    await become("\n".join(map(entry, (*TOKENS, new))))
    assert [200, 200] == [(await ask(centre, who, "/v1/jobs"))[0] for who in ("alice", "alice2")]
    await become("this is no TOML")
    assert [200, 200] == [(await ask(centre, who, "/v1/jobs"))[0] for who in ("alice", "alice2")]
    finding = await _finding(centre)
    assert (State.FAILING, True) == (finding["state"], "is no TOML" in finding["detail"])
    await become(entry(new) + entry(TOKENS[2]))
    assert [401, 200] == [(await ask(centre, who, "/v1/jobs"))[0] for who in ("alice", "alice2")]
    finding = await _finding(centre)
    assert (State.OK, True) == (finding["state"], "14 days: alice 2" in finding["detail"])
    centre.clock[0] += 3_600_000
    status, body = await ask(centre, "alice2", "/v1/jobs")
    assert (401, True) == (status, b"has expired" in body)


async def _finding(centre: Centre) -> Any:
    _, body = await ask(centre, "operator", "/v1/findings")
    (found,) = [one for one in json.loads(body)["findings"] if one["subject"] == "access"]
    return found


async def test_a_tokens_file_is_read_again_by_itself(centre: Centre) -> None:
    """Within seconds."""
    path = centre.aggregator.settings.access.tokens_file
    assert path is not None
    await asyncio.to_thread(path.write_text, "")
    async with asyncio.timeout(20):
        while (await ask(centre, "alice", "/v1/jobs"))[0] != 401:
            await asyncio.sleep(0.2)


def _as_proxy(user: str, groups: str = "") -> dict[str, str]:
    return {"X-Forwarded-User": user, "X-Forwarded-Groups": groups}


async def _jobs(centre: Centre, headers: Any) -> tuple[int, set[str]]:
    url = f"{centre.aggregator.url}/v1/jobs"
    async with centre.session.get(url, headers=headers) as answer:
        body = await answer.json(content_type=None)
        return answer.status, {job["job_id"] for job in body.get("jobs", ())}


async def test_a_trusted_proxy_says_who_asks(tmp_path: Path) -> None:
    """User, manager, operator by name and by group; without its header, nobody."""
    access: dict[str, Any] = {"proxy_from": ("127.0.0.0/8", "::1"), "operator_groups": ("admins",)}
    async with guarded(tmp_path, **access) as centre:
        await two_peoples_jobs(centre)
        every = {"123", "124", "125"}
        for user, groups, expected in (
            ("alice", "students", {"123", "125"}),
            ("ann", "", {"124", "125"}),
            ("carl", "", set()),
            ("root", "", every),
            ("eve", "students, admins", every),
        ):
            assert (200, expected) == await _jobs(centre, _as_proxy(user, groups))
        assert 401 == (await _jobs(centre, {}))[0]
        assert 401 == (await _jobs(centre, _as_proxy("")))[0]
        twice = [("X-Forwarded-User", "alice"), ("X-Forwarded-User", "root")]
        assert 401 == (await _jobs(centre, twice))[0]


async def test_a_header_from_elsewhere_counts_for_nothing(tmp_path: Path) -> None:
    """Whoever is not the proxy stays who they are."""
    async with guarded(tmp_path, proxy_from=("10.0.0.0/8",)) as centre:
        await two_peoples_jobs(centre)
        assert 401 == (await _jobs(centre, _as_proxy("root")))[0]
        told = await _jobs(centre, CALLERS["user"] | _as_proxy("root"))
        assert (200, {"123", "125"}) == told


async def test_a_proxys_token_vouches_for_as_much_as_it_may(centre: Centre) -> None:
    """Anybody up to a manager: an operator's name makes no operator."""
    await two_peoples_jobs(centre)
    token = {"Authorization": "Bearer relay"}
    assert (200, {"123", "125"}) == await _jobs(centre, token | _as_proxy("alice"))
    assert (200, {"124", "125"}) == await _jobs(centre, token | _as_proxy("ann"))
    assert (200, set()) == await _jobs(centre, token | _as_proxy("root"))
    assert 401 == (await _jobs(centre, token))[0]


async def test_no_secret_is_told(centre: Centre) -> None:
    """A token that is shown does not come back."""
    for path in ("/v1/jobs", "/v1/windows", "/metrics"):
        _, body = await ask(centre, "wrong-secret", path)
        assert b"wrong-secret" not in body


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[token]", "is no TOML"),
        ('[[token]]\nname = "x"', "token number 1"),
        ('[[token]]\nkind = "king"\nname = "x"\nsha256 = "' + "0" * 64 + '"', "king"),
        ('[[token]]\nkind = "reader"\nname = "x"\nrole = "user"\nsha256 = "secret"', "sha256"),
        (entry(TOKENS[0]) + entry(TOKENS[0]), "two tokens have the name alice"),
        (entry(TOKENS[0]).replace('user = "alice"', ""), "user is missing"),
        (entry(TOKENS[1]).replace('"manager"', '"user"'), "accounts belong to role manager"),
        (entry(TOKENS[4]).replace('nodes = "node001"', 'nodes = "node[1"'), "host list"),
        (entry(TOKENS[0]) + "expires = 2027-01-01T00:00:00", "expires"),
        (entry(TOKENS[0]) + "until = 1", "until"),
    ],
)
def test_tokens_files_that_cannot_be_used(text: str, said: str) -> None:
    """Each says which entry, and what is wrong."""
    with pytest.raises(TokensError, match=re.escape(said)):
        parse(text)


def test_a_tokens_file_that_others_may_write(tmp_path: Path) -> None:
    """Anybody could make a token of their own in it."""
    path = tmp_path / "tokens.toml"
    path.write_text(entry(TOKENS[0]))
    path.chmod(0o666)
    troubles = Troubles()
    known = KnownTokens(path, troubles, lambda: START_MS)
    known.look()
    assert known.find("alice") is None
    assert "chmod go-w" in known.findings()[0].detail


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    words,
    words,
    st.lists(words, min_size=1, max_size=3),
    st.none() | st.integers(0, 1 << 33),
)
def test_what_is_written_is_read(
    name: str, user: str, accounts: list[str], expires: int | None
) -> None:
    """Every kind of token, whatever people and accounts are called."""
    ends = None if expires is None else datetime.fromtimestamp(expires, UTC)
    odd = ReaderToken(
        name=f"{name} (odd)", sha256="0" * 64, expires=ends, role="manager", user=user,
        accounts=tuple(accounts),
    )  # fmt: skip
    made = [*TOKENS, odd]
    assert made == parse("\n".join(map(entry, made)))
