"""Kubernetes: pods and their owners, by list and watch from one API server."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from wattkeeper.schedulers.base import Knowledge
from wattkeeper.schedulers.kubernetes_access import Access
from wattkeeper.schedulers.kubernetes_api import Api, Resource
from wattkeeper.schedulers.kubernetes_errors import ApiError, DeniedError
from wattkeeper.schedulers.kubernetes_fetch import Fetcher, Wanted
from wattkeeper.schedulers.kubernetes_mirror import Mirror, Pace
from wattkeeper.schedulers.kubernetes_nodes import Inventory
from wattkeeper.schedulers.kubernetes_objects import Node, Pod, Thing
from wattkeeper.schedulers.kubernetes_owners import MIRRORED, Link, Links, MirroredLinks, resolve
from wattkeeper.schedulers.kubernetes_pods import Naming
from wattkeeper.schedulers.kubernetes_roster import Entry, Roster

_log = logging.getLogger(__name__)

_LOST_INTERVALS = 4
"""Intervals without contact after which answers would be too old to be given."""
_SYNC_S = 30.0
"""How long the first answer waits for the first listing."""
_FETCH_S = 10.0
"""How long one answer may wait for owners."""
_AT_ONCE = 500
"""Pods that are looked at before others get their turn in the event loop."""


class KubernetesScheduler:
    """The pods, owners and nodes of one cluster.

    `find` says how the API server is reached. `node_selector`: the nodes of the inventory, as the
    API takes label selectors; empty for all. `node_labels`: those that are kept. `now_ms`: UTC.
    """

    name = "kubernetes"

    def __init__(
        self,
        find: Callable[[], Access],
        naming: Naming,
        *,
        interval_s: float = 15.0,
        node_selector: str = "",
        node_labels: Collection[str] = (),
        pace: Pace | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.interval_s = interval_s
        pace = Pace() if pace is None else pace
        self._api = Api(find)
        self._now_ms = now_ms
        self._roster = Roster(naming, now_ms)
        self._links = Links()
        self._inventory = Inventory(naming.cluster, node_labels)
        selected = {"labelSelector": node_selector} if node_selector else {}
        nodes = Resource("/api/v1/nodes", Node, query=selected)
        self._pods = Mirror(self._api, Resource("/api/v1/pods", Pod), self._roster, pace)
        self._nodes = Mirror(self._api, nodes, self._inventory, pace)
        self._mirrors: dict[str, Mirror[Any]] = {"pods": self._pods, "nodes": self._nodes}
        for (_, kind), path in MIRRORED.items():
            owners = Resource(path, Thing, metadata=True)
            store = MirroredLinks(self._links)
            self._mirrors[kind] = Mirror(self._api, owners, store, pace)
        self._fetcher = Fetcher(self._api, self._links)
        self._tasks: list[asyncio.Task[None]] = []
        self._since_ms: int | None = None
        self._answered: dict[str, Entry] = {}
        self._troubled: set[str] = set()

    async def start(self) -> None:
        """Begin to list and watch."""
        for kind, mirror in self._mirrors.items():
            task = asyncio.create_task(mirror.run(), name=f"kubernetes {kind}")
            self._tasks.append(task)

    async def ask(self, since_ms: int) -> Knowledge:
        """Return every pod that runs, and those that ended and were not told yet.

        An answer counts as taken once a question about another time follows.

        Raises:
            ApiError: the pods were never listed, or for too long nothing was heard of them.

        """
        await self._contact()
        if since_ms != self._since_ms:
            self._roster.settle(self._answered)
        self._since_ms = since_ms
        self._answered = {}
        # What changes while owners are fetched is for the next answer.
        asked_ms = self._now_ms()
        entries, endings = list(self._roster.entries()), self._roster.endings()
        await self._name(entries)
        self._answered = {uid: entry for uid, entry in endings.items() if not entry.pending}
        nodes = self._inventory.nodes() if self._nodes.synced else None
        infos = [entry.info for entry in entries]
        return Knowledge(infos, complete_ms=asked_ms, nodes=nodes)

    async def close(self) -> None:
        """Stop watching and close the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._api.close()

    async def _contact(self) -> None:
        """Wait for the first listings; raise while the copy of pods is missing or too old."""
        for task in self._tasks:
            if task.done():
                task.result()  # a mistake of ours: let it be seen
        try:
            async with asyncio.timeout(_SYNC_S):
                for mirror in self._mirrors.values():
                    await mirror.tried.wait()
        except TimeoutError as error:
            raise ApiError("kubernetes: the first listing is not through yet") from error
        if not self._pods.synced:
            raise self._pods.error or ApiError("kubernetes: pods have not been listed yet")
        if self._lost(self._pods):
            lost_s = self._pods.lost_s()
            raise ApiError(f"kubernetes: no contact for {lost_s:.0f} s: {self._pods.error}")
        self._note_troubles()

    def _lost(self, mirror: Mirror[Any]) -> bool:
        return mirror.lost_s() > _LOST_INTERVALS * self.interval_s

    def _note_troubles(self) -> None:
        """Log once what is missing beside the pods, and once when it is back."""
        for kind, mirror in self._mirrors.items():
            denied = isinstance(mirror.error, DeniedError)
            if (denied or self._lost(mirror)) and kind not in self._troubled:
                self._troubled.add(kind)
                _log.warning("kubernetes: %s are not known: %s", kind, mirror.error)
            elif mirror.error is None and kind in self._troubled:
                self._troubled.discard(kind)
                _log.info("kubernetes: %s are known again", kind)

    async def _name(self, entries: Sequence[Entry]) -> None:
        """Find out whose the pods are, fetching owners that are not known."""
        try:
            async with asyncio.timeout(_FETCH_S):
                while wanted := await self._resolve(entries):
                    if not await self._fetcher.fetch(wanted):
                        return
        except TimeoutError:
            return  # the next answer names the rest

    async def _resolve(self, entries: Sequence[Entry]) -> list[Wanted]:
        """Name the pods as far as owners are known; return the owners to fetch for more."""
        wanted: dict[str, Wanted] = {}
        for number, entry in enumerate(entries):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            if entry.owned:
                continue
            owner = resolve(entry.link, entry.info.name, self._find)
            entry.name(owner)
            missing = owner.missing
            entry.pending = missing is not None and not self._fetcher.hopeless(missing)
            if missing is not None and entry.pending:
                wanted[missing.uid] = Wanted(missing, entry.info.namespace)
        return list(wanted.values())

    def _find(self, uid: str) -> Link | None:
        found = self._links.find(uid)
        return self._roster.link(uid) if found is None else found
