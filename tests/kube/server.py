"""An API server of Kubernetes over HTTP: lists in chunks, watches, metadata, tokens and rights.

It forgets (410, as a status or as an event), cuts streams in the middle of an object, lets
continue tokens expire, refuses, and is slow, all when a test says so.
"""

import asyncio
import itertools
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.kube.rbac import Right, rights
from tests.kube.store import Change, CompactedError, Kind, Object, Store

PODS = Kind("", "pods")
NODES = Kind("", "nodes")
CORE = frozenset(("", "apps", "batch"))
_PARTIAL = "as=PartialObjectMetadata"


@dataclass(frozen=True)
class Refusal:
    """An answer that the next request gets instead of its own."""

    code: int
    retry_after: str | None = None
    body: bytes = b""


@dataclass(frozen=True)
class Request:
    """What a request wanted, and with which query."""

    right: Right
    query: dict[str, str]
    accept: str


@dataclass
class ApiServer:
    """The server's mind. `second_s` is how long its seconds last.

    `expiring`: what happens while a list is read, each time just before its continuation expires.
    `waiting`: requests that `delay_s` holds up. `sent`: UIDs of pods that were ever shown to
    somebody with the node that they were given.
    """

    store: Store = field(default_factory=Store)
    token: str = "first"
    allowed: frozenset[Right] = field(default_factory=rights)
    installed: frozenset[str] = CORE
    second_s: float = 1.0
    gone_as_event: bool = False
    bookmarks: bool = True
    delay_s: float = 0.0
    refusals: deque[Refusal] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    cuts: deque[int] = field(default_factory=deque)
    sent: set[str] = field(default_factory=set)
    expiring: deque[Callable[[], object]] = field(default_factory=deque)
    url: str = ""
    waiting: int = 0
    _streams: "set[Stream]" = field(default_factory=set)

    def rights_used(self) -> frozenset[Right]:
        """Return what was asked for, whether granted or not."""
        return frozenset(request.right for request in self.requests)

    def count(self, verb: str, resource: str) -> int:
        """Return how often something was asked for."""
        return sum(
            (request.right.verb, request.right.resource) == (verb, resource)
            for request in self.requests
        )

    def watching(self, kind: Kind) -> bool:
        """Tell whether somebody watches a kind of object."""
        return any(stream.kind == kind for stream in self._streams)

    def bookmark(self) -> None:
        """Tell every watch the newest version."""
        if self.bookmarks:
            for stream in self._streams:
                stream.queue.put_nowait(None)

    def sever(self) -> None:
        """Break every watch off."""
        for stream in self._streams:
            stream.abort()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer anything."""
        if self.delay_s:
            self.waiting += 1
            await asyncio.sleep(self.delay_s)
            self.waiting -= 1
        if self.refusals:
            refusal = self.refusals.popleft()
            headers = {} if refusal.retry_after is None else {"Retry-After": refusal.retry_after}
            return web.Response(status=refusal.code, headers=headers, body=refusal.body)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        kind, namespace, name = _parts(request.path)
        watch = request.query.get("watch") == "true"
        verb = "get" if name else "watch" if watch else "list"
        right = Right(verb, kind.group, kind.plural)
        accept = request.headers.get("Accept", "")
        self.requests.append(Request(right, dict(request.query), accept))
        if right not in self.allowed:
            where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
            return _status(
                403,
                "Forbidden",
                f'{kind.plural} is forbidden: User "system:serviceaccount:w:a" cannot {verb} '
                f'resource "{kind.plural}" in API group "{kind.group}"{where}',
            )
        if kind.group not in self.installed:
            return _status(404, "NotFound", "the server could not find the requested resource")
        if name:
            return self._get(kind, namespace, name, accept)
        if watch:
            return await self._watch(request, kind, accept)
        return self._list(request, kind, accept)

    def _get(self, kind: Kind, namespace: str, name: str, accept: str) -> web.Response:
        item = self.store.objects.get((kind, namespace, name))
        if item is None:
            return _status(404, "NotFound", f'{kind.plural} "{name}" not found')
        return web.json_response(_shown(item, accept))

    def _list(self, request: web.Request, kind: Kind, accept: str) -> web.Response:
        if _PARTIAL in accept and _PARTIAL + "List" not in accept:
            return _status(406, "NotAcceptable", "a list cannot be shown as PartialObjectMetadata")
        token = request.query.get("continue", "")
        start, version = 0, None
        if token:
            if self.expiring:
                self.expiring.popleft()()
                self.store.compact()
            at, _, offset = token.partition("/")
            version, start = int(at), int(offset)
        try:
            version, items = self.store.snapshot(kind, version)
        except CompactedError:
            return _status(410, "Expired", "The provided continue parameter is too old")
        items = [item for item in items if _selected(item, request.query.get("labelSelector", ""))]
        limit = int(request.query.get("limit", "0")) or len(items)
        chunk = items[start : start + limit]
        self._note(kind, chunk)
        meta = {"resourceVersion": str(version)}
        if start + limit < len(items):
            meta["continue"] = f"{version}/{start + limit}"
        shown = [_shown(item, accept) for item in chunk]
        return web.json_response({"kind": "List", "metadata": meta, "items": shown or None})

    async def _watch(self, request: web.Request, kind: Kind, accept: str) -> web.StreamResponse:
        if _PARTIAL + "List" in accept:
            return _status(406, "NotAcceptable", "an event holds no list")
        response = web.StreamResponse()
        stream = Stream(kind, request, response, accept)
        try:
            past = list(self.store.since(kind, int(request.query["resourceVersion"])))
        except CompactedError:
            text = f"too old resource version: {request.query['resourceVersion']}"
            if not self.gone_as_event:
                return _status(410, "Expired", text)
            await response.prepare(request)
            await response.write(_line("ERROR", _status_object(410, "Expired", text)))
            return response
        for change in past:
            stream.take(change)
        self.store.listeners.append(stream.take)
        self._streams.add(stream)
        try:
            async with asyncio.timeout(int(request.query["timeoutSeconds"]) * self.second_s):
                await self._stream(stream)
        except (TimeoutError, ConnectionError):
            pass  # the agreed end, or nobody listens any more
        finally:
            self.store.listeners.remove(stream.take)
            self._streams.discard(stream)
        return response

    async def _stream(self, stream: "Stream") -> None:
        response = stream.response
        await response.prepare(stream.request)
        while True:
            change = await stream.queue.get()
            if stream.aborted:
                raise ConnectionResetError
            if change is None:
                meta = {"resourceVersion": str(self.store.version)}
                await response.write(_line("BOOKMARK", {"metadata": meta}))
                continue
            line = _line(change.type, _shown(change.object, stream.accept))
            if self.cuts and stream.kind == PODS:
                await response.write(line[: self.cuts.popleft() % len(line)])
                stream.abort()
                raise ConnectionResetError
            await response.write(line)
            self._note(stream.kind, [change.object])

    def _note(self, kind: Kind, items: Sequence[Object]) -> None:
        if kind == PODS:
            placed = (item for item in items if item["spec"].get("nodeName"))
            self.sent.update(item["metadata"]["uid"] for item in placed)


@dataclass(eq=False)
class Stream:
    """One open watch."""

    kind: Kind
    request: web.Request
    response: web.StreamResponse
    accept: str
    queue: "asyncio.Queue[Change | None]" = field(default_factory=asyncio.Queue)
    aborted: bool = False

    def take(self, change: Change) -> None:
        """Queue a change of this kind."""
        if change.kind == self.kind:
            self.queue.put_nowait(change)

    def abort(self) -> None:
        """Break the connection off."""
        self.aborted = True
        self.queue.put_nowait(None)
        if self.request.transport is not None:
            self.request.transport.abort()


@asynccontextmanager
async def serving(server: ApiServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    """Serve on a port of loopback."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    host = TestServer(app, scheme="http" if tls is None else "https")
    await host.start_server(shutdown_timeout=0.1, ssl=tls)
    server.url = str(host.make_url("")).rstrip("/")
    try:
        yield server
    finally:
        server.sever()
        await host.close()


_uids = itertools.count(1)


def uid() -> str:
    """Return a UID that no other object has."""
    return f"00000000-0000-4000-8000-{next(_uids):012x}"


def _parts(path: str) -> tuple[Kind, str, str]:
    """Return kind, namespace and name of a path."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    return Kind(group, rest[0]), namespace, rest[1] if len(rest) > 1 else ""


def _selected(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _shown(item: Object, accept: str) -> Object:
    if _PARTIAL not in accept:
        return item
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": item["metadata"],
    }


def _line(type_: str, item: Any) -> bytes:
    return json.dumps({"type": type_, "object": item}).encode() + b"\n"


def _status_object(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_status_object(code, reason, message), status=code)
