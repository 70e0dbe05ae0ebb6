"""The control groups of pods, watched: when each pod really began and ended on its node."""

import threading
import time
from collections.abc import Collection
from pathlib import Path

from tests.kube.node import CGROUPFS
from tests.slurm.edges import Edge

_LOOK_S = 0.004


class Lives:
    """Looks at the groups of pods that are announced, all the time, until it is closed."""

    def __init__(self) -> None:
        self._groups: dict[str, list[Path]] = {}
        self._looked_ns: dict[str, int] = {}
        self.begun: dict[str, Edge] = {}
        self.ended: dict[str, Edge] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def announce(self, uid: str, *, guaranteed: bool) -> None:
        """Watch for a pod that its node does not know yet."""
        level = "" if guaranteed else "besteffort/"
        self._looked_ns[uid] = _now_ns()
        # Complete before the thread sees it. One that has no pods is no kubelet's.
        self._groups[uid] = [
            place / f"{level}pod{uid}" for place in CGROUPFS.glob("*/kubepods") if place.is_dir()
        ]

    def pids(self, uid: str) -> set[int]:
        """Return the processes of a pod, as the machine numbers them."""
        return {
            int(pid)
            for file in self._groups[uid][0].rglob("cgroup.procs")
            for pid in file.read_text().split()
        }

    def over(self, uids: Collection[str]) -> bool:
        """Tell whether these pods have come and gone."""
        return self.ended.keys() >= set(uids)

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            for uid in list(self._groups):
                self._look(uid)

    def _look(self, uid: str) -> None:
        """A group is made and removed in one hierarchy after the other."""
        before_ns = _now_ns()
        there = [group.is_dir() for group in self._groups[uid]]
        after_ns = _now_ns()
        if uid not in self.begun and all(there):
            self.begun[uid] = Edge(self._looked_ns[uid], after_ns)
        elif uid in self.begun and uid not in self.ended and not any(there):
            self.ended[uid] = Edge(self._looked_ns[uid], after_ns)
        if any(there) == all(there):
            self._looked_ns[uid] = before_ns


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
