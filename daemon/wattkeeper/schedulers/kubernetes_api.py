"""Talks to one API server: chunks of lists, lines of watches, metadata of single objects.

A client library would bring megabytes of code for every kind of object; these three requests with
the fields that are read are all that is needed.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import aiohttp
import msgspec

from wattkeeper.schedulers.kubernetes_access import Access
from wattkeeper.schedulers.kubernetes_errors import (
    ApiError,
    DeniedError,
    ExpiredError,
    MissingError,
    TokenError,
)
from wattkeeper.schedulers.kubernetes_objects import Event, Page, Status, Thing

T = TypeVar("T", bound=Thing)
D = TypeVar("D")

_TIMEOUT_S = 30.0
_GRACE_S = 15.0
"""Seconds beyond its agreed end after which a watch that says nothing counts as broken."""
_LONGEST_LINE = 8 << 20
"""Bytes of one event: etcd keeps objects of 1.5 MB at most, JSON may double that."""
_METADATA = "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """A kind of object of which all are listed and watched.

    `type` is what is read of one. `metadata` asks the server for nothing but metadata.
    """

    path: str
    type: type[T]
    metadata: bool = False
    query: Mapping[str, str] = field(default_factory=dict)

    def headers(self, *, whole_list: bool) -> dict[str, str]:
        """Return what is accepted: a list is asked for in another form than events."""
        if not self.metadata:
            return {"Accept": "application/json"}
        return {"Accept": _METADATA.format(list="List" if whole_list else "")}


class Api:
    """One API server. `find` says how it is reached; it is called in a thread, when needed."""

    def __init__(self, find: Callable[[], Access], timeout_s: float = _TIMEOUT_S) -> None:
        self._find = find
        self._timeout_s = timeout_s
        self._access: Access | None = None
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._finding = asyncio.Lock()

    async def page(self, resource: Resource[T], limit: int, token: str) -> Page[T]:
        """Return the chunk of a list that `token` continues, the first one if it is empty.

        Raises:
            ExpiredError: the token is too old; list from the start.
            ApiError: it cannot be had.

        """
        query = {**resource.query, "limit": str(limit)}
        if token:
            query["continue"] = token
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        headers = resource.headers(whole_list=True)
        async with self._get(resource.path, query, headers, timeout) as answer:
            body = await answer.read()
        page: Page[T] = await asyncio.to_thread(_decoded, body, Page[resource.type])  # type: ignore[name-defined]  # the type is a value here
        return page

    async def watch(
        self, resource: Resource[T], version: str, watch_s: int
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None once the watch stands, then what happens after `version`, for `watch_s`.

        Raises:
            ExpiredError: the version is too old; list again.
            ApiError: the stream cannot be had, broke off, or is no stream of events.

        """
        query = {
            **resource.query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(watch_s),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout_s, sock_read=watch_s + _GRACE_S
        )
        headers = resource.headers(whole_list=False)
        async with self._get(resource.path, query, headers, timeout) as answer:
            yield None
            async for line in _lines(answer.content):
                yield _decoded(line, Event)

    async def thing(self, path: str) -> Thing:
        """Return the metadata of one object.

        Raises:
            MissingError: there is none, or no such kind.
            ApiError: it cannot be had.

        """
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        headers = {"Accept": _METADATA.format(list="")}
        async with self._get(path, {}, headers, timeout) as answer:
            return _decoded(await answer.read(), Thing)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _get(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own, per phase
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        access, session = await self._ready()
        url = access.url + path
        # Compression would cost both sides more than the network between them.
        sent = {**await access.headers(), **headers, "Accept-Encoding": "identity"}
        try:
            async with session.get(
                url,
                params=query,
                headers=sent,
                timeout=timeout,
                ssl=self._tls if self._tls is not None else True,
                server_hostname=access.server_name,
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    if answer.status == 401:
                        self._access = None
                    raise _refusal(path, answer, await answer.read())
                yield answer
        except aiohttp.ClientConnectorError as error:
            self._access = None  # another address, another authority: read them again
            raise ApiError(f"{access.url}: {error.strerror or error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"{url}: {str(error) or 'no answer in time'}") from error

    async def _ready(self) -> tuple[Access, aiohttp.ClientSession]:
        async with self._finding:
            if self._access is None:
                try:
                    access = await asyncio.to_thread(self._find)
                except ApiError:
                    raise
                except OSError as error:
                    raise ApiError(f"kubernetes: {error}") from error
                self._tls = await access.context()
                self._access = access
            if self._session is None:
                self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16))
            return self._access, self._session


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield lines of any length up to the bound (aiohttp's own reader stops at 64 KiB)."""
    rest = bytearray()
    async for chunk in content.iter_any():
        start = len(rest)
        rest += chunk
        while (end := rest.find(b"\n", start)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            start = 0
            if line.strip():
                yield line
        if len(rest) > _LONGEST_LINE:
            raise ApiError(f"an event is longer than {_LONGEST_LINE} bytes")
    if rest.strip():
        raise ApiError("the watch broke off in the middle of an event")


def read_object(event: Event, type_: type[D]) -> D:
    """Return the object of an event.

    Raises:
        ApiError: it is none.

    """
    return _decoded(event.object, type_)


def _decoded(body: bytes | msgspec.Raw, type_: type[D]) -> D:
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError(f"the API server's answer cannot be read: {error}") from error


def refused(status: Status, where: str, retry_after_s: float = 0.0) -> ApiError:
    """Return the error that a status of the API means."""
    said = status.message or status.reason or f"answered {status.code}"
    if status.code == 410:
        return ExpiredError(f"{where}: {said}")
    if status.code == 401:
        return TokenError(f"{where}: the token is not accepted ({said}); check the service account")
    if status.code == 403:
        return DeniedError(
            f"{where}: {said}; grant it, as the ClusterRole in deploy/kubernetes/manifests does"
        )
    if status.code == 404:
        return MissingError(f"{where}: {said}")
    return ApiError(f"{where}: {said}", retry_after_s)


def _refusal(path: str, answer: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        status = Status()  # a proxy's page, or nothing
    status = msgspec.structs.replace(status, code=answer.status)
    after = answer.headers.get("Retry-After", "")
    return refused(status, path, float(after) if after.isdecimal() else 0.0)
