"""Objects with a history, as etcd keeps it: every change has a version, old ones are compacted."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


class CompactedError(Exception):
    """A version that is no longer remembered."""


@dataclass(frozen=True)
class Kind:
    """A kind of object, as paths name it."""

    group: str
    plural: str


@dataclass(frozen=True)
class Change:
    """One change. `type` is what a watch calls it."""

    version: int
    kind: Kind
    type: str
    object: Object


@dataclass
class Store:
    """All objects of a cluster and the changes since the last compaction."""

    version: int = 1
    compacted: int = 0
    objects: dict[tuple[Kind, str, str], Object] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    listeners: list[Callable[[Change], None]] = field(default_factory=list)
    snapshots: dict[int, dict[Kind, list[Object]]] = field(default_factory=dict)

    def put(self, kind: Kind, item: Object) -> Object:
        """Create or replace an object; return it with its new version."""
        meta = item["metadata"]
        key = (kind, meta.get("namespace", ""), meta["name"])
        known = self.objects.get(key)
        if known is not None and known["metadata"]["uid"] != meta["uid"]:
            raise ValueError(f"{key} exists under another UID")
        self._change(kind, "ADDED" if known is None else "MODIFIED", item, key)
        return self.objects[key]

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object; watches are shown its last state."""
        self._change(kind, "DELETED", self.objects[kind, namespace, name], (kind, namespace, name))

    def compact(self) -> None:
        """Forget all changes so far, and the lists that were being read in chunks."""
        self.compacted = self.version
        self.changes.clear()
        self.snapshots.clear()

    def snapshot(self, kind: Kind, version: int | None = None) -> tuple[int, list[Object]]:
        """Return the objects of a kind now, or at a version that was listed before."""
        if version is None:
            items = [o for (k, _, _), o in sorted(self.objects.items(), key=_key) if k == kind]
            self.snapshots.setdefault(self.version, {})[kind] = items
            return self.version, items
        if version not in self.snapshots or kind not in self.snapshots[version]:
            raise CompactedError
        return version, self.snapshots[version][kind]

    def since(self, kind: Kind, version: int) -> Iterator[Change]:
        """Yield the changes of a kind after a version."""
        if version < self.compacted:
            raise CompactedError
        yield from (c for c in self.changes if c.kind == kind and c.version > version)

    def of(self, kind: Kind) -> list[Object]:
        """Return the objects of a kind that exist."""
        return [item for (own, _, _), item in self.objects.items() if own == kind]

    def _change(self, kind: Kind, type_: str, item: Object, key: tuple[Kind, str, str]) -> None:
        self.version += 1
        fresh = copy.deepcopy(item)
        fresh["metadata"]["resourceVersion"] = str(self.version)
        if type_ == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = fresh
        change = Change(self.version, kind, type_, fresh)
        self.changes.append(change)
        for listener in list(self.listeners):
            listener(change)


def _key(entry: tuple[tuple[Kind, str, str], Object]) -> tuple[str, str]:
    return entry[0][1], entry[0][2]
