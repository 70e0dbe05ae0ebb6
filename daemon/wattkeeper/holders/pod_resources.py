"""Holders by the kubelet's word: which pod was given which GPU, kernel or no kernel."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.holders.cgroups import Life
from wattkeeper.holders.edge_log import EdgeLog
from wattkeeper.holders.paths import KUBERNETES
from wattkeeper.holders.pod_answers import DeniedError, MissingError
from wattkeeper.holders.pod_claims import claims
from wattkeeper.holders.pod_devices import GpuMap, GpuPod
from wattkeeper.holders.pod_listing import PodListing
from wattkeeper.holders.pod_names import PodName, PodNames
from wattkeeper.holders.pod_view import PodView
from wattkeeper.model.clock import NS_PER_MS, NS_PER_S, Clock
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import MeterInfo, Partition
from wattkeeper.model.state import Finding, State

_YOUNG_NS: Final = 5 * NS_PER_S
"""How long a new pod is asked for at every look: DRA tells its devices once it is prepared."""
_NONE: Final = frozenset[str]()
_FIX_MISSING = "mount the kubelet's pod-resources folder and set kubernetes.pod_resources"
_FIX_NAMES = "mount the host's /var/log/pods and set kubernetes.pod_logs"
_FIX_UNREAD = "compare with `nvidia-smi -L`; after a MIG change restart the device plugin"


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the rest of the agent knows of this node. Each is called at every look, without I/O.

    `pods`: by UID the pods that have a cgroup, None while cgroups cannot be seen. `died_ns`: when
    the cgroup of (manager, raw id) went, in boot time, None if not seen. `gpus`: the meters of
    the GPUs. `partitions`: MIG instances by UUID.
    """

    pods: Callable[[], Mapping[str, Life] | None]
    died_ns: Callable[[str, str], int | None]
    gpus: Callable[[], Sequence[MeterInfo]]
    partitions: Callable[[], Mapping[str, Partition]]


class PodResources:
    """Claims on GPUs from a pod's birth to the end of its cgroup; each `allocated`.

    `socket` is the kubelet's `kubelet.sock`, `pod_logs` the folder of its pods' logs. The kubelet
    also lists pods that have ended: a claim ends with the pod's cgroup. Where the folder of logs
    cannot be read, a pod is the holder `<namespace>/<name>` instead of its UID, born when first
    seen; `remembered` is what `remember()` gave before a restart in this boot. `wanted`: there has
    to be a kubelet, so that none is a failure.
    """

    name = "pod-resources"

    def __init__(
        self,
        socket: Path,
        pod_logs: Path,
        view: NodeView,
        clock: Clock,
        remembered: Mapping[str, Any] | None = None,
        *,
        wanted: bool = False,
    ) -> None:
        self._view = view
        self._wanted = wanted
        self._clock = clock
        known = remembered or {}
        self._listing = PodListing(socket, clock, known.get("listing"))
        self._names = PodNames(pod_logs)
        self._seen_ns: dict[str, int] = {}
        self._sighted_ms: dict[str, int] = dict(known.get("sighted", {}))
        self._seen = PodView()
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._edges = EdgeLog()

    async def look(self) -> None:
        """Ask the kubelet if it is time or pods have come; see which of its pods live."""
        alive = self._view.pods()
        if alive is not None and any(self._names.name(uid) is None for uid in alive):
            await asyncio.to_thread(self._names.scan)
        await self._listing.refresh(self._young(alive), self._living(alive or {}))
        if alive is None and any(not self._names.uids(_name(p)) for p in self._listing.pods):
            await asyncio.to_thread(self._names.scan)
        before, self._seen = self._seen, self._judge(alive)
        self._claims = claims(self._seen.held)
        self._note_edges(before, alive or {})

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the claims by meter, as of the last look."""
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return every listed pod that lives, also those without a GPU, with its name."""
        return self._seen.infos

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return holds that began with their pod's cgroup or ended with it since an instant."""
        return self._edges.since(since_boot_ns)

    def fresh(self) -> Sequence[HolderEdge]:
        """Return what the last look found: births are older than the kubelet's answer."""
        return self._edges.fresh

    def remember(self) -> dict[str, Any]:
        """Return, ready for JSON, the kubelet's last word, and births of pods without a UID."""
        return {"listing": self._listing.remember(), "sighted": dict(self._sighted_ms)}

    def counts(self) -> dict[str, int]:
        """Return how many GPU devices pods may be given, were given, and of which is unclear.

        Empty while the kubelet has said nothing.
        """
        if self._listing.listed_ns is None:
            return {}
        offered = self._listing.allocatable
        found = {} if offered is None else {"allocatable": len(offered)}
        return {**found, "allocated": len(self._seen.given), "unclear": len(self._seen.unread)}

    def findings(self) -> Sequence[Finding]:
        """Return how the kubelet answers, and what of it could not be used."""
        found = [self._own_finding()]
        if self._names.trouble and self._seen.held:
            detail = f"{self._names.trouble}: pods are known by name only, not by UID"
            found.append(Finding("pod-resources/names", State.FAILING, detail, _FIX_NAMES))
        if self._seen.unread:
            detail = f"not certain which GPU these are: {_counted(self._seen.unread)}"
            found.append(Finding("pod-resources/devices", State.FAILING, detail, _FIX_UNREAD))
        if self._seen.foreign:
            detail = f"held by pods, but not metered by pod: {_counted(self._seen.foreign)}"
            found.append(Finding("pod-resources/others", State.ABSENT, detail))
        allocatable = self._allocatable()
        if allocatable:
            found.append(Finding("pod-resources/allocatable", State.OK, allocatable))
        return found

    async def close(self) -> None:
        """Give up on a question that is still open."""
        await self._listing.close()

    def _young(self, alive: Mapping[str, Life] | None) -> list[PodName | None]:
        """Return the names of the pods that have just come and are not known to hold a device."""
        now_ns = self._clock.boot_ns()
        self._seen_ns = {uid: self._seen_ns.get(uid, now_ns) for uid in alive or ()}
        settled = {_name(pod): pod.as_of_ns for pod in self._listing.pods if pod.equipped}
        young: list[PodName | None] = []
        for uid, seen_ns in self._seen_ns.items():
            name = self._names.name(uid)
            known_ns = None if name is None else settled.get(name)
            known = known_ns is not None and alive is not None and alive[uid].born_ns <= known_ns
            if now_ns - seen_ns < _YOUNG_NS and not known:
                young.append(name)
        return young

    def _living(self, alive: Mapping[str, Life]) -> dict[PodName, int]:
        """Return when the living pods were born, the newest of a name."""
        born = sorted((life.born_ns, uid) for uid, life in alive.items())
        named = ((self._names.name(uid), born_ns) for born_ns, uid in born)
        return {name: born_ns for name, born_ns in named if name is not None}

    def _judge(self, alive: Mapping[str, Life] | None) -> PodView:
        view = PodView()
        gpus = GpuMap(self._view.gpus(), self._view.partitions())
        listed = set()
        for pod in self._listing.pods:
            key = self._key(pod, alive)
            if key is not None:
                view.take(key, pod, gpus)
                listed.add(key.raw_id)
        if listed:
            self._sighted_ms = {k: ms for k, ms in self._sighted_ms.items() if k in listed}
        return view

    def _note_edges(self, before: PodView, alive: Mapping[str, Life]) -> None:
        """Note when holds really began and ended: a pod has its GPUs for as long as it lives."""
        self._edges.begin()
        was, now = before.meters(), self._seen.meters()
        for key in was.keys() | now.keys():
            then, there = was.get(key, _NONE), now.get(key, _NONE)
            more, fewer = there - then, then - there
            life = alive.get(key.raw_id)
            if more and life is not None:
                self._edges.add([HolderEdge(key, True, life.born_ns, tuple(sorted(more)))])
            if fewer:
                died_ns = None if life else self._view.died_ns(key.manager, key.raw_id)
                at_ns = self._clock.boot_ns() if died_ns is None else died_ns
                self._edges.add([HolderEdge(key, False, at_ns, tuple(sorted(fewer)))])

    def _key(self, pod: GpuPod, alive: Mapping[str, Life] | None) -> HolderKey | None:
        """Return whose devices these are, None if the pod has ended or has no cgroup yet."""
        uids = self._names.uids(_name(pod))
        if alive is not None:
            # A pod of a StatefulSet comes back under its name: what was said before its birth is
            # not about it, and what is said after is about the newest.
            living = [u for u in uids if u in alive and alive[u].born_ns <= pod.as_of_ns]
            if living:
                uid = max(living, key=lambda known: (alive[known].born_ns, known))
                return alive[uid].key
            if uids or not self._names.trouble:
                return None
        elif len(uids) == 1:
            return self._sighted(uids[0])
        return self._sighted(f"{pod.namespace}/{pod.name}")

    def _sighted(self, raw_id: str) -> HolderKey:
        """Return the key of a pod without a cgroup to be seen: born when it was first listed."""
        birth_ms = self._sighted_ms.setdefault(raw_id, self._clock.wall_ns() // NS_PER_MS)
        return HolderKey(KUBERNETES, raw_id, birth_ms)

    def _own_finding(self) -> Finding:
        listing, trouble = self._listing, self._listing.trouble
        listed = f"{len(self._seen.infos)} pods, {len(self._seen.held)} of them with GPUs"
        if trouble is None:
            if listing.listed_ns is None:
                return Finding(self.name, State.STALE, "asked the kubelet, no answer yet")
            return Finding(self.name, State.OK, listed)
        if listing.pods and not isinstance(trouble, DeniedError):
            detail = f"{trouble}; as of {listing.age_ns() // NS_PER_S} s ago {listed}"
            return Finding(self.name, State.STALE, detail, trouble.fix)
        if self._wanted and isinstance(trouble, MissingError):
            return Finding(self.name, State.FAILING, str(trouble), _FIX_MISSING)
        return Finding(self.name, trouble.state, str(trouble), trouble.fix)

    def _allocatable(self) -> str:
        """Say which GPUs pods may be given, and which of them nobody holds."""
        offered = self._listing.allocatable
        if not offered:
            return ""
        given = {called.partition(" ")[2] for called in self._seen.given}
        free = sorted(offered - given)
        detail = f"{len(offered)} GPU devices allocatable, {len(free)} of them free"
        return f"{detail}: {_some(free)}" if free else detail


def _name(pod: GpuPod) -> PodName:
    return pod.namespace, pod.name


def _counted(counts: Counter[str]) -> str:
    return _some([f"{name} ({n} pods)" if n > 1 else name for name, n in sorted(counts.items())])


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return ", ".join(word[:100] for word in words[:4]) + more
