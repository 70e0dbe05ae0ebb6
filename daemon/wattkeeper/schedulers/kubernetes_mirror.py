"""Keeps a copy of all objects of one kind like the API server's: list, then watch, for ever.

The list comes in chunks; the watch goes on from the list's version, and from the newest event or
bookmark after that. When the server has forgotten that version (410), the list is read again, and
what is no longer in it has ended while nobody looked.
"""

import asyncio
import random
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from wattkeeper.schedulers.kubernetes_api import Api, Resource, read_object, refused
from wattkeeper.schedulers.kubernetes_errors import ApiError, ExpiredError
from wattkeeper.schedulers.kubernetes_objects import Event, Status, Thing

T = TypeVar("T", bound=Thing)
T_contra = TypeVar("T_contra", bound=Thing, contravariant=True)

_LARGEST_CHUNK = 5_000


class Store(Protocol[T_contra]):
    """Where a mirror keeps what it is told. Called in the event loop, so each call is short."""

    def put(self, item: T_contra) -> None:
        """Take an object that is new or has changed."""
        ...

    def drop(self, item: T_contra) -> None:
        """Take the last state of an object that was deleted."""
        ...

    def keep_only(self, uids: AbstractSet[str]) -> None:
        """Learn that no others exist now."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an API server is asked.

    `first_s`, `longest_s`: pauses after failures, doubled each time, with jitter. `watch_s`: after
    how long a watch is begun anew. `chunk`: objects in one answer.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    watch_s: int = 150
    chunk: int = 500

    def pause_s(self, failures: int, asked_s: float) -> float:
        """Return how long to wait after so many failures in a row; never less than `asked_s`."""
        longest_s = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        jittered_s = random.uniform(0.5, 1.0) * longest_s  # noqa: S311 -- no secret
        return max(jittered_s, asked_s)


class Mirror(Generic[T]):
    """The copy of one kind of object.

    `tried` is set once it is known whether listing works. `error` is why contact is lost now,
    None while all is well. `version` is that of the copy, None if there is none.
    """

    def __init__(self, api: Api, resource: Resource[T], store: Store[T], pace: Pace) -> None:
        self._api = api
        self._resource = resource
        self._store = store
        self._pace = pace
        self._failures = 0
        self._lost_s: float | None = None
        self.version: str | None = None
        self.synced = False
        self.tried = asyncio.Event()
        self.error: ApiError | None = None

    def lost_s(self) -> float:
        """Return for how many seconds there has been no contact, 0 while there is."""
        now_s = asyncio.get_running_loop().time()
        return 0.0 if self._lost_s is None else now_s - self._lost_s

    async def run(self) -> None:
        """Mirror until cancelled."""
        while True:
            asked_s = 0.0
            try:
                if self.version is None:
                    await self._list()
                await self._watch(self.version or "")
            except ExpiredError as error:
                self._fail(error)
                self.version = None
            except ApiError as error:
                self._fail(error)
                asked_s = error.retry_after_s
            if self._failures:
                await asyncio.sleep(self._pace.pause_s(self._failures, asked_s))

    def _fail(self, error: ApiError) -> None:
        self._failures += 1
        self.error = error
        if self._lost_s is None:
            self._lost_s = asyncio.get_running_loop().time()
        self.tried.set()

    def _hear(self) -> None:
        self.error = None
        self._lost_s = None

    async def _list(self) -> None:
        chunk, token = self._pace.chunk, ""
        seen: set[str] = set()
        while True:
            try:
                page = await self._api.page(self._resource, chunk, token)
            except ExpiredError:
                if not token or chunk >= _LARGEST_CHUNK:
                    raise
                # Compacted while we were listing: from the start, in fewer and larger chunks.
                chunk, token = min(4 * chunk, _LARGEST_CHUNK), ""
                seen.clear()
                continue
            self._hear()
            for item in page.items or ():
                self._store.put(item)
                seen.add(item.metadata.uid)
            token = page.metadata.continue_
            if not token:
                break
        self._store.keep_only(seen)
        self.version = page.metadata.resource_version
        self.synced = True
        self.tried.set()

    async def _watch(self, version: str) -> None:
        began_s = asyncio.get_running_loop().time()
        heard = False
        events = self._api.watch(self._resource, version, self._pace.watch_s)
        try:
            async for event in events:
                if event is None:
                    self._hear()
                    continue
                self._take(event)
                heard, self._failures = True, 0
        finally:
            await events.aclose()
        # A server that ends every watch at once is left alone for longer and longer.
        if heard or asyncio.get_running_loop().time() - began_s >= 1:
            self._failures = 0
        else:
            self._failures += 1

    def _take(self, event: Event) -> None:
        if event.type == "ERROR":
            raise refused(read_object(event, Status), self._resource.path)
        if event.type == "BOOKMARK":
            self._reach(read_object(event, Thing))
            return
        item = read_object(event, self._resource.type)
        if event.type == "DELETED":
            self._store.drop(item)
        elif event.type in {"ADDED", "MODIFIED"}:
            self._store.put(item)
        else:
            raise ApiError(f"{self._resource.path}: unknown kind of event {event.type!r}")
        self._reach(item)

    def _reach(self, item: Thing) -> None:
        # Watching from an empty version would mean from anywhere.
        if not item.metadata.resource_version:
            raise ApiError(f"{self._resource.path}: an event without a version")
        self.version = item.metadata.resource_version
