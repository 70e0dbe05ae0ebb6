"""Asks an aggregator elsewhere for the users of this machine, who are known by a unix socket."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from wattkeeper.aggregator.access.config import GROUPS_HEADER, USER_HEADER
from wattkeeper.aggregator.problem import ProblemError, respond
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.flags import ConfigError
from wattkeeper.listening import door
from wattkeeper.listening.connection import Limits
from wattkeeper.listening.keeper import Keeper
from wattkeeper.listening.peers import Account, Accounts, uid_of
from wattkeeper.listening.turns import Turns
from wattkeeper.listening.unix_door import UnixDoor
from wattkeeper.tls.client import ClientCertificates
from wattkeeper.tls.token import read_token

LIMITS = Limits(connections=512, per_address=32)
_AT_ONCE = 8
"""Questions of one user that are asked at a time; more wait for their turn."""
_PATIENCE_S = 150.0
"""For an answer, all of it: more than the aggregator takes for the longest one."""
_CONNECT_S = 10.0
_PIECE = 1 << 16
_MOST_OF_GROUPS = 4096
"""Bytes of names of groups that are told."""
_ASKED = ("Accept", "Accept-Encoding", "If-None-Match")
_ANSWERED = (
    "Cache-Control", "Content-Encoding", "Content-Type", "ETag", "Vary", "X-Content-Type-Options",
    "Content-Security-Policy",
)  # fmt: skip
_METHODS = ("GET", "HEAD")
_TROUBLE = "aggregator"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """How the aggregator is reached: its URL, a proxy's token, whom to believe."""

    url: str
    token_file: Path
    certificates: ClientCertificates
    user_header: str = USER_HEADER
    groups_header: str = GROUPS_HEADER


class Relay:
    """Passes questions on, and answers back piece by piece. It asks, and never writes.

    Who shows a token of their own asks with that.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._accounts = Accounts()
        self._troubles = Troubles()
        self._turns = Turns(_AT_ONCE)

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Serve at a socket.

        Raises:
            SocketError: it cannot be made.

        """
        keeper = Keeper(LIMITS, Counter())
        app = web.Application(middlewares=[keeper.hurry])
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = door.runner(app, keeper, shutdown_s=5)
        await runner.setup()
        try:
            await UnixDoor(runner, path, keeper).start()
            yield
        finally:
            await runner.cleanup()
            self._accounts.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        uid = uid_of(request.transport)
        assert uid is not None
        try:
            if request.method not in _METHODS:
                raise ProblemError(405, "method-not-allowed", "this relay asks, and never writes")
            async with asyncio.timeout(_PATIENCE_S), self._turns.turn(uid):
                return await self._pass_on(request, await self._account(uid))
        except ProblemError as problem:
            return respond(problem)
        except TimeoutError:
            return respond(ProblemError(503, "too-slow", "the aggregator does not answer in time"))

    async def _account(self, uid: int) -> Account:
        try:
            account = await self._accounts.of(uid)
        except TimeoutError as error:
            detail = f"this machine does not tell who uid {uid} is; try again"
            raise ProblemError(503, "accounts-unavailable", detail) from error
        name = account.name
        # A header loses the spaces around it: it would be somebody else's name.
        if not name.isprintable() or name != name.strip() or not name:
            detail = f"this machine does not know who uid {uid} is"
            raise ProblemError(403, "forbidden", detail)
        return account

    async def _pass_on(self, request: web.Request, account: Account) -> web.StreamResponse:
        url = self._target(request)
        try:
            headers = await asyncio.to_thread(self._headers, request.headers, account)
            https = self._way.url.startswith("https:")
            tls = await asyncio.to_thread(self._way.certificates.context) if https else True
        except ConfigError as error:
            raise self._failed(str(error)) from error
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        try:
            async with (
                aiohttp.ClientSession(
                    timeout=timeout,
                    auto_decompress=False,
                    connector=aiohttp.TCPConnector(ssl=tls),
                    skip_auto_headers=("User-Agent", "Accept-Encoding"),
                ) as session,
                session.request(
                    request.method, url, headers=headers, allow_redirects=False
                ) as answer,
            ):
                if answer.status == 401 and "Authorization" not in request.headers:
                    raise self._failed("it does not take the relay's token")
                self._troubles.recovered(_TROUBLE)
                return await _tell(request, answer)
        except aiohttp.ClientError as error:
            explained = self._way.certificates.explain(error) or (str(error),)
            raise self._failed("; ".join(filter(None, explained))) from error

    def _target(self, request: web.Request) -> URL:
        # As it came, and never another host's: `//x` and `@x` would be, behind an address.
        asked = request.raw_path
        if not asked.startswith("/"):
            raise ProblemError(400, "bad-parameter", "ask for a path that begins with /")
        return URL(f"{self._way.url}{asked}", encoded=True)

    def _headers(self, given: Mapping[str, str], account: Account) -> dict[str, str]:
        passed = {name: given[name] for name in _ASKED if name in given}
        if own := given.get("Authorization"):
            return passed | {"Authorization": own}
        return passed | {
            "Authorization": f"Bearer {read_token(self._way.token_file, 'token_file')}",
            self._way.user_header: account.name,
            self._way.groups_header: _told(account.groups),
        }

    def _failed(self, why: str) -> ProblemError:
        """Note for the log, once, what is no business of who asks."""
        self._troubles.failed(_TROUBLE, why)
        detail = "the relay of this machine gets no answer of the aggregator; its log tells why"
        return ProblemError(503, "aggregator-unavailable", detail)


def _told(groups: Iterable[str]) -> str:
    """Return groups for a header, as many as it holds: each can only add to what somebody may."""
    kept: list[str] = []
    left = _MOST_OF_GROUPS
    for one in sorted(groups):
        size = len(one.encode()) + 1
        if size <= left and one.isprintable() and "," not in one:
            kept.append(one)
            left -= size
    return ",".join(kept)


async def _tell(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
    told = web.StreamResponse(status=answer.status, headers=headers)
    await told.prepare(request)
    whole = False
    try:
        async for piece in answer.content.iter_chunked(_PIECE):
            await told.write(piece)
        await told.write_eof()
        whole = True
    finally:
        # What was begun cannot become an error: it ends so that nobody takes a part for all of it.
        if not whole and request.transport is not None:
            request.transport.abort()
    return told
