"""How deliveries reach the aggregator: over HTTP, or (in a simulation) in the same process."""

import asyncio
from typing import Protocol

import aiohttp
import msgspec

from wattkeeper.delivery.wire import CONTENT_TYPE, Ack, Batch, pack


class UnreachableError(Exception):
    """The aggregator did not take the delivery now; it is tried again."""


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
    """POST /v1/windows. One connection, kept alive between windows."""

    def __init__(self, url: str, token: str | None, timeout_s: float) -> None:
        self._url = url.rstrip("/") + "/v1/windows"
        self._headers = {"Content-Type": CONTENT_TYPE}
        self.show(token)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def show(self, token: str | None) -> None:
        """Show this token from the next delivery on."""
        self._headers.pop("Authorization", None)
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

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
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, connector=aiohttp.TCPConnector(limit=1)
            )
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{self._url}: {_reason(error)}") from error
        if response.status >= 500 or response.status == 429:
            raise UnreachableError(f"{self._url}: answered {response.status}")
        return response.status, answer

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
