"""How deliveries reach the aggregator: over HTTP, or (in a simulation) in the same process."""

import asyncio
import ssl
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from wattkeeper.delivery.wire import CONTENT_TYPE, Ack, Batch, pack
from wattkeeper.flags import ConfigError
from wattkeeper.tls.client import ClientCertificates
from wattkeeper.tls.token import read_token


class UnreachableError(Exception):
    """The aggregator did not take the delivery now; it is tried again. `fix`: what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message}; {fix}" if fix else message)
        self.fix = fix


class RefusedError(Exception):
    """The aggregator will not take this delivery as it is.

    `kind` is the problem's type: `fork`, `two-live-journals`, `too-large`, `invalid`, …
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Transport(Protocol):
    """A way to hand over a batch."""

    async def send(self, batch: Batch) -> Ack:
        """Deliver.

        Raises:
            UnreachableError: try again later.
            RefusedError: not as it is.

        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class _Problem(msgspec.Struct):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""


class HttpTransport:
    """POST /v1/windows. One connection, kept alive between windows.

    The token in `token_file` and `certificates` are taken as they are at each delivery, so that
    they can be renewed at any time; with another certificate the connection is opened anew.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        timeout_s: float,
        *,
        token_file: Path | None = None,
        certificates: ClientCertificates | None = None,
    ) -> None:
        self._url = url.rstrip("/") + "/v1/windows"
        self._token = token
        self._token_file = token_file
        self._certificates = certificates or ClientCertificates()
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None
        self._answered = False

    def show(self, token: str | None) -> None:
        """Show this token from the next delivery on."""
        self._token = token

    async def send(self, batch: Batch) -> Ack:
        """Deliver one batch; see `Transport`."""
        status, answer = await self._post(await asyncio.to_thread(pack, batch))
        if status == 200:
            return self._ack(answer)
        raise _refusal(status, answer)

    async def knock(self) -> None:
        """Find out whether deliveries would be taken, without making one.

        Raises:
            UnreachableError: nobody answers.
            RefusedError: `denied` if the token is wrong.

        """
        status, answer = await self._post(b"")
        if status in (401, 403):
            raise RefusedError("denied", _refusal(status, answer).detail)
        if status == 404:
            raise RefusedError("not-found", f"{self._url}: no aggregator answers there")

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": CONTENT_TYPE}
        try:
            token, context = await asyncio.to_thread(self.credentials)
        except ConfigError as error:
            raise UnreachableError(str(error)) from error
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        session = await self._connected(context)
        try:
            async with session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error
        self._answered = True
        if response.status >= 500 or response.status == 429:
            detail = _refusal(response.status, answer).detail
            raise UnreachableError(f"{self._url}: answered {response.status}: {detail}")
        return response.status, answer

    def credentials(self) -> tuple[str | None, ssl.SSLContext | None]:
        """Return token and certificates as they are now. Blocks.

        Raises:
            ConfigError: one of them cannot be used.

        """
        token = self._token
        if self._token_file is not None:
            token = read_token(self._token_file, "aggregator.token_file")
        tls = self._url.startswith("https:")
        return token, self._certificates.context() if tls else None

    async def _connected(self, context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        if self._session is None or context is not self._context:
            await self.close()
            self._context, self._answered = context, False
            connector = aiohttp.TCPConnector(limit=1, ssl=context or True)
            self._session = aiohttp.ClientSession(timeout=self._timeout, connector=connector)
        return self._session

    def _unreachable(self, error: aiohttp.ClientError | TimeoutError) -> UnreachableError:
        explained = None
        if self._context is not None:
            explained = self._certificates.explain(error, answered=self._answered)
        if explained is not None:
            what, fix = explained
            return UnreachableError(f"{self._url}: {what}", fix)
        if isinstance(error, aiohttp.ServerDisconnectedError) and self._context is None:
            return UnreachableError(
                f"{self._url}: {_reason(error)}", "does it speak TLS? Then write https://"
            )
        return UnreachableError(f"{self._url}: {_reason(error)}")

    def _ack(self, answer: bytes) -> Ack:
        try:
            return msgspec.json.decode(answer, type=Ack)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreachableError(f"{self._url}: not an aggregator's answer: {error}") from error


def _reason(error: aiohttp.ClientError | TimeoutError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or str(error.os_error)
    return str(error) or "no answer in time"


def _refusal(status: int, answer: bytes) -> RefusedError:
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=f"HTTP status {status}")
    kind = problem.type.rpartition("/")[2].rpartition(":")[2]
    return RefusedError("too-large" if status == 413 else kind, problem.detail or problem.title)
