"""From marks in any order to who holds what: the rules, without files or clocks."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from wattkeeper.holders.base import HolderKey
from wattkeeper.holders.marks import Mark

_MOST_ENDED = 1024
Identity = tuple[str, str]


class Hold(msgspec.Struct, frozen=True):
    """One run of one job, from its start mark on.

    `start` is the mark that opened it, which gives the birth; `latest` the newest start mark of
    the same run, which gives GPUs and labels. `lived`: its cgroup has been seen.
    """

    start: Mark
    latest: Mark
    lived: bool = False

    @property
    def key(self) -> HolderKey:
        """The holder, born with the first mark."""
        return HolderKey(self.start.manager, self.start.raw_id, self.start.wall_ms)

    @property
    def names(self) -> tuple[str, ...]:
        """The ids by which its cgroup may be called: SLUID or job id."""
        known = (self.latest.labels.get(label) for label in ("sluid", "job_id"))
        return tuple(dict.fromkeys([self.start.raw_id, *(name for name in known if name)]))

    @property
    def devices(self) -> frozenset[int | str]:
        """Indices and UUIDs that the run holds."""
        return frozenset(self.latest.gpus) | frozenset(self.latest.uuids)


@dataclass(frozen=True, slots=True)
class Edge:
    """A hold that began or ended, at its mark's own time and not when the mark was found."""

    hold: Hold
    started: bool
    boot_ns: int


class Saved(msgspec.Struct, frozen=True):
    """What the book keeps over a restart. `ended`: manager, raw id and boot_ns of last ends."""

    boot_id: str
    holds: tuple[Hold, ...] = ()
    ended: tuple[tuple[str, str, int], ...] = ()


class MarkBook:
    """The open holds of this boot. Applying the same marks again changes nothing.

    An end without a start is counted and keeps a late start from opening. A doubled start leaves
    the birth and renews GPUs and labels, unless restart count or start time say that it is
    another run: then the run before is closed. A doubled end, an end older than the newest start
    and a start older than the last end are counted and change nothing. A start on a GPU whose
    holder never ended (a missed epilog) closes that holder, if neither shares the GPU. Marks of
    another boot are counted only: their jobs died with it.
    """

    def __init__(self, boot_id: str, saved: Saved | None = None) -> None:
        self.boot_id = boot_id
        self.ignored: Counter[str] = Counter()
        self._holds: dict[Identity, Hold] = {}
        self._ended: dict[Identity, int] = {}
        if saved is not None and saved.boot_id == boot_id:
            self._holds = {(h.start.manager, h.start.raw_id): h for h in saved.holds}
            self._ended = {(manager, raw_id): at for manager, raw_id, at in saved.ended}

    @property
    def holds(self) -> tuple[Hold, ...]:
        """The open holds."""
        return tuple(self._holds.values())

    def saved(self) -> Saved:
        """Return what to keep over a restart."""
        ended = tuple((manager, raw_id, at) for (manager, raw_id), at in self._ended.items())
        return Saved(self.boot_id, self.holds, ended)

    def apply(self, marks: Iterable[Mark]) -> list[Edge]:
        """Apply marks in the order of their own times; return the edges that they make."""
        edges: list[Edge] = []
        for mark in sorted(marks, key=lambda mark: mark.boot_ns):
            if mark.boot_id != self.boot_id:
                self.ignored["other_boot"] += 1
            elif mark.kind == "start":
                edges += self._start(mark)
            else:
                edges += self._end(mark)
        return edges

    def live(self, hold: Hold) -> None:
        """Note that a hold's cgroup has been seen."""
        identity = (hold.start.manager, hold.start.raw_id)
        self._holds[identity] = msgspec.structs.replace(hold, lived=True)

    def lapse(self, hold: Hold, boot_ns: int) -> Edge:
        """End a hold whose epilog was missed."""
        self.ignored["missed_epilog"] += 1
        return self._shut(hold, boot_ns)

    def _start(self, mark: Mark) -> list[Edge]:
        identity = (mark.manager, mark.raw_id)
        before = self._holds.get(identity)
        rivals = self._rivals(mark)
        newest = max((rival.latest.boot_ns for rival in rivals), default=mark.boot_ns)
        if self._ended.get(identity, -1) >= mark.boot_ns or newest > mark.boot_ns:
            self.ignored["late_start"] += 1
            return []
        if before is not None and mark.boot_ns <= before.latest.boot_ns:
            self.ignored["doubled_start"] += 1
            return []
        edges = [self._close(rival, mark) for rival in rivals]
        if before is not None and _same_run(before.latest, mark):
            self.ignored["doubled_start"] += 1
            self._holds[identity] = Hold(before.start, mark, before.lived)
            return edges
        if before is not None:
            edges.append(self._close(before, mark))
            # The run before ends where this one begins: only an older start is late now.
            self._ended[identity] = mark.boot_ns - 1
        hold = self._holds[identity] = Hold(mark, mark)
        return [*edges, Edge(hold, started=True, boot_ns=mark.boot_ns)]

    def _end(self, mark: Mark) -> list[Edge]:
        identity = (mark.manager, mark.raw_id)
        hold = self._holds.get(identity)
        if hold is None:
            self.ignored["end_only"] += 1
            self._note_end(identity, mark.boot_ns)
            return []
        if mark.boot_ns < hold.latest.boot_ns:
            self.ignored["early_end"] += 1
            return []
        return [self._close(hold, mark)]

    def _rivals(self, mark: Mark) -> list[Hold]:
        """Return the other holds that cannot be true together with this start."""
        if mark.shared:
            return []
        wanted = {*mark.gpus, *mark.uuids}
        return [
            hold
            for identity, hold in self._holds.items()
            if identity != (mark.manager, mark.raw_id)
            and not hold.latest.shared
            and wanted & hold.devices
        ]

    def _close(self, hold: Hold, by: Mark) -> Edge:
        return self._shut(hold, by.boot_ns)

    def _shut(self, hold: Hold, boot_ns: int) -> Edge:
        identity = (hold.start.manager, hold.start.raw_id)
        del self._holds[identity]
        self._note_end(identity, boot_ns)
        return Edge(hold, started=False, boot_ns=boot_ns)

    def _note_end(self, identity: Identity, boot_ns: int) -> None:
        self._ended[identity] = max(boot_ns, self._ended.pop(identity, -1))
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]


def _same_run(one: Mark, other: Mark) -> bool:
    """Tell a doubled prolog from a requeued job that kept its id."""
    return all(
        one.labels.get(label) == other.labels.get(label)
        for label in ("restart_count", "start_time")
        if label in one.labels and label in other.labels
    )
