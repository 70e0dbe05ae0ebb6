"""The pods that run, and those that ended and have not been told of yet."""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.kubernetes_objects import Pod
from wattkeeper.schedulers.kubernetes_owners import Link, Owner, link
from wattkeeper.schedulers.kubernetes_pods import Naming, deadline_ms, ended, placed, workload


@dataclass(slots=True)
class Entry:
    """One pod: what is told of it and what is known of its owners.

    `listed`: it still exists at the API. `deadline_ms`: when it was to be gone, once it is being
    deleted. `owned`: the owners are known for certain; `pending`: there is one still to fetch.
    """

    info: WorkloadInfo
    link: Link
    version: str
    deadline_ms: int | None = None
    listed: bool = True
    owned: bool = False
    pending: bool = False

    def name(self, owner: Owner) -> None:
        """Take the owners as they are known now."""
        self.owned = owner.certain
        array = f"{self.info.namespace}/{owner.array}" if owner.array else ""
        told = (owner.kind, owner.name, array, owner.queue)
        info = self.info
        if told != (info.owner_kind, info.owner_name, info.array, info.partition):
            kind, name, array, queue = told
            self.info = replace(
                info, owner_kind=kind, owner_name=name, array=array, partition=queue
            )


class Roster:
    """The store of pods.

    A pod that ended is kept until it was told; after that only its version is, while the API
    still lists it, so that a new listing does not tell it again. `now_ms`: UTC.
    """

    def __init__(self, naming: Naming, now_ms: Callable[[], int]) -> None:
        self._naming = naming
        self._now_ms = now_ms
        self._running: dict[str, Entry] = {}
        self._ended: dict[str, Entry] = {}
        self._told: dict[str, str] = {}

    def put(self, item: Pod) -> None:
        """Take a pod that exists."""
        uid = item.metadata.uid
        if not placed(item) or self._told.get(uid) == item.metadata.resource_version:
            return
        entry = self._entry(item)
        if not ended(item):
            self._running[uid] = entry
            return
        if entry.info.end_ms is None:
            known = self._ended.get(uid)
            noticed_ms = self._now_ms() if known is None else known.info.end_ms
            entry.info = replace(entry.info, end_ms=noticed_ms)
        self._end(uid, entry)

    def drop(self, item: Pod) -> None:
        """Take the last state of a pod that was deleted."""
        uid = item.metadata.uid
        if self._told.pop(uid, None) is not None or not placed(item):
            return
        if uid in self._ended:
            self._ended[uid].listed = False
            return
        self._remove(uid, self._entry(item))

    def keep_only(self, uids: AbstractSet[str]) -> None:
        """Learn which pods exist: the others ended while nobody looked."""
        for uid in self._running.keys() - uids:
            self._remove(uid, self._running[uid])
        for uid in self._ended.keys() - uids:
            self._ended[uid].listed = False
        for uid in self._told.keys() - uids:
            del self._told[uid]

    def entries(self) -> Iterator[Entry]:
        """Yield what is to be told now.

        A static pod that its node announced anew has both ended and begun: the last word is that
        it runs.
        """
        yield from self._ended.values()
        yield from self._running.values()

    def link(self, uid: str) -> Link | None:
        """Return the owner of a pod that owns others."""
        entry = self._running.get(uid) or self._ended.get(uid)
        return None if entry is None else entry.link

    def endings(self) -> dict[str, Entry]:
        """Return the pods that ended and were not told yet, by UID."""
        return dict(self._ended)

    def settle(self, told: dict[str, Entry]) -> None:
        """Forget endings that have been told, unless more has become known since."""
        for uid, entry in told.items():
            if self._ended.get(uid) is entry:
                del self._ended[uid]
                if entry.listed:
                    self._told[uid] = entry.version

    def _entry(self, pod: Pod) -> Entry:
        uid = pod.metadata.uid
        entry = Entry(
            workload(pod, self._naming),
            link(pod.metadata),
            pod.metadata.resource_version,
            deadline_ms=deadline_ms(pod),
        )
        known = self._running.get(uid) or self._ended.get(uid)
        if known is not None and known.link == entry.link:
            # Its owners are who they were: a pod changes often, they do not.
            entry.owned = known.owned
            was = known.info
            entry.info = replace(
                entry.info,
                owner_kind=was.owner_kind,
                owner_name=was.owner_name,
                array=was.array,
                partition=was.partition,
            )
        return entry

    def _remove(self, uid: str, entry: Entry) -> None:
        """End a pod that is gone: at its own end, else at its deadline, at the latest now."""
        info, now_ms = entry.info, self._now_ms()
        if info.end_ms is None:
            gone_ms = now_ms if entry.deadline_ms is None else min(entry.deadline_ms, now_ms)
            entry.info = replace(info, state="deleted", end_ms=gone_ms)
        entry.listed = False
        self._end(uid, entry)

    def _end(self, uid: str, entry: Entry) -> None:
        self._running.pop(uid, None)
        self._ended[uid] = entry
