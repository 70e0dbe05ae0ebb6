"""An aggregator with somebody of each role, and jobs of two people."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from tests.aggregator.conftest import Centre, settings
from tests.aggregator.feeding import START_MS, Feeder
from wattkeeper.aggregator.access.tokens import (
    AgentToken,
    ProxyToken,
    ReaderToken,
    Token,
    digest,
    entry,
)
from wattkeeper.aggregator.runtime import Aggregator

SHARED = "the token of all agents"
BOB = {"job_id": "124", "user": "bob", "account": "chemistry", "partition": "cpu", "name": "dock"}
ALICE_TOO = {"job_id": "125", "user": "alice", "account": "chemistry", "partition": "gpu"}
TOKENS: tuple[Token, ...] = (
    ReaderToken(name="alice", sha256=digest("alice"), role="user", user="alice"),
    ReaderToken(
        name="ann", sha256=digest("ann"), role="manager", user="ann", accounts=("chemistry",)
    ),
    ReaderToken(name="oper", sha256=digest("oper"), role="operator"),
    ReaderToken(name="prometheus", sha256=digest("prometheus"), role="scraper"),
    AgentToken(name="node001", sha256=digest("node001"), cluster="west", nodes="node001"),
    ProxyToken(name="relay", sha256=digest("relay")),
)
CALLERS: dict[str, dict[str, str]] = {
    "public": {},
    "user": {"Authorization": "Bearer alice"},
    "manager": {"Authorization": "Bearer ann"},
    "operator": {"Authorization": "Bearer oper"},
    "scraper": {"Authorization": "Bearer prometheus"},
    "agent": {"Authorization": "Bearer node001"},
    "shared": {"Authorization": f"Bearer {SHARED}"},
}
"""Headers by role; each token is its own name."""
ACCESS = {"managers": {"chemistry": ("ann",)}, "operators": ("root",)}


@asynccontextmanager
async def guarded(
    folder: Path, more: dict[str, Any] | None = None, **access: Any
) -> AsyncIterator[Centre]:
    """Run an aggregator with these tokens, without a history; `more`: settings beside `access`."""
    tokens = folder / "tokens.toml"

    def prepare() -> Any:
        tokens.write_text("\n".join(map(entry, TOKENS)))
        tokens.chmod(0o644)
        given = {"tokens_file": tokens, **ACCESS, **access}
        others = {"telemetry": {"url": "none"}, **(more or {})}
        return settings(folder / "data", token=SecretStr(SHARED), access=given, **others)

    clock = [START_MS]
    aggregator = Aggregator(await asyncio.to_thread(prepare), now_ms=lambda: clock[0])
    await aggregator.start()
    async with aiohttp.ClientSession() as session:
        centre = Centre(aggregator, session, clock)
        centre.headers |= CALLERS["shared"]
        yield centre
    await aggregator.stop()


async def two_peoples_jobs(centre: Centre) -> None:
    """Deliver half an hour of a job of alice, one of bob, and one of alice in bob's account."""
    await centre.fed()
    await centre.fed(Feeder(node="node002", journal="j2", raw_id="124", labels=BOB, uuid="GPU-2"))
    await centre.fed(
        Feeder(node="node003", journal="j3", raw_id="125", labels=ALICE_TOO, uuid="GPU-3")
    )


async def ask(
    centre: Centre, who: str, path: str, method: str = "GET", /, **query: str
) -> tuple[int, bytes]:
    """Ask as somebody of a role, or with the token that is called so; return status and body."""
    headers = CALLERS.get(who, {"Authorization": f"Bearer {who}"})
    url = f"{centre.aggregator.url}{path}"
    async with centre.session.request(method, url, params=query, headers=headers) as answer:
        return answer.status, await answer.read()
