"""Fetches owners of pods that are not mirrored: one request each, a few at a time, asked once."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from wattkeeper.schedulers.kubernetes_api import Api
from wattkeeper.schedulers.kubernetes_errors import ApiError, DeniedError, MissingError
from wattkeeper.schedulers.kubernetes_objects import OwnerReference
from wattkeeper.schedulers.kubernetes_owners import Links, link, path_of

_log = logging.getLogger(__name__)

_AT_ONCE = 4
_FORGIVE_S = 600.0
"""After how long an owner that could not be had is asked for again."""
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """An owner to fetch, and the namespace that it is in."""

    owner: OwnerReference
    namespace: str


class Fetcher:
    """Brings owners into `links`, and remembers for a while which cannot be had."""

    def __init__(self, api: Api, links: Links) -> None:
        self._api = api
        self._links = links
        self._gone: dict[str, float] = {}
        self._denied: dict[tuple[str, str], float] = {}

    def hopeless(self, owner: OwnerReference) -> bool:
        """Tell whether it was asked for lately in vain."""
        now_s = asyncio.get_running_loop().time()
        kind = (owner.group, owner.kind)
        return now_s < max(self._gone.get(owner.uid, 0.0), self._denied.get(kind, 0.0))

    async def fetch(self, wanted: Iterable[Wanted]) -> bool:
        """Fetch these. False if the API server does not answer: then try again later."""
        queue = iter(wanted)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work(queue)) for _ in range(_AT_ONCE)]
        return all(worker.result() for worker in workers)

    async def _work(self, queue: Iterable[Wanted]) -> bool:
        for wanted in queue:
            if self.hopeless(wanted.owner):
                continue  # its kind was denied meanwhile
            try:
                await self._one(wanted)
            except ApiError:
                return False
        return True

    async def _one(self, wanted: Wanted) -> None:
        owner = wanted.owner
        until_s = asyncio.get_running_loop().time() + _FORGIVE_S
        try:
            found = await self._api.thing(path_of(owner, wanted.namespace))
        except DeniedError as error:
            if (owner.group, owner.kind) not in self._denied:
                _log.warning("kubernetes: owners are named by labels of their pods: %s", error)
            self._denied[owner.group, owner.kind] = until_s
            return
        except MissingError:
            self._give_up(owner, until_s)
            return
        if found.metadata.uid == owner.uid:
            self._links.keep(owner.uid, link(found.metadata))
        else:
            self._give_up(owner, until_s)  # another one has taken its name

    def _give_up(self, owner: OwnerReference, until_s: float) -> None:
        self._gone[owner.uid] = until_s
        while len(self._gone) > _MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]
