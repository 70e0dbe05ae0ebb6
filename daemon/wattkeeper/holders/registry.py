"""One view of all holders: marks, cgroups and processes that mean one job become one holder."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wattkeeper.holders.base import (
    ActivitySource,
    Claim,
    EdgeSource,
    HolderEdge,
    HolderKey,
    HolderSource,
)
from wattkeeper.holders.merging import merge
from wattkeeper.holders.paths import SLURM
from wattkeeper.holders.precedence import Conflict, Word, settle
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding, State

_MARKS = "marks"
_FIX_CONFLICT = (
    "the scheduler's word is booked; see whether gres.conf, prolog and ConstrainDevices agree"
)


class HolderRegistry:
    """Merges holder sources; itself one.

    The same (manager, raw id), seen in several ways, is one `HolderKey`: that of whichever way
    saw it first, kept while any still sees it. A Slurm mark with a SLUID and a cgroup named by
    job id are one job too. Where one way gives a job a second birth it is another run, with a key
    of its own, unless an open mark says that the run goes on: without an extern step each step of
    an allocation has a cgroup of its own. A start mark of another run takes what is still there
    to that one. Labels of a later source win, so marks come last.
    `remembered` is what `remember()` gave before a restart.
    """

    name = "holders"

    def __init__(
        self, sources: Sequence[HolderSource], remembered: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._sources = tuple(sources)
        self._keys: dict[HolderKey, HolderKey] = {}
        self._ways: dict[HolderKey, set[str]] = {}
        for entry in remembered:
            key = HolderKey(*entry["key"])
            self._keys[HolderKey(*entry["seen"])] = key
            self._ways[key] = set(entry["ways"])
        self._claims: dict[str, tuple[Claim, ...]] = {}
        self._infos: dict[HolderKey, HolderInfo] = {}
        self._fresh: tuple[HolderEdge, ...] = ()
        self.conflicts: tuple[Conflict, ...] = ()

    async def look(self) -> None:
        """Let every source look, one after the other, then merge."""
        # In order: processes take the births that the cgroups have just found.
        for source in self._sources:
            await source.look()
        before = dict(self._keys)
        self._identify()
        names = before | self._keys
        self._fresh = tuple(
            replace(edge, key=names.get(edge.key, edge.key))
            for source in self._sources
            if isinstance(source, EdgeSource)
            for edge in source.fresh()
        )
        self._infos = self._merge_infos()
        self._claims = self._merge_claims()

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return the merged claims by meter, as of the last look.

        The stronger word goes before the weaker (see `precedence`), and what is allocated before
        what is only seen (see `merging`). What was not believed is in `conflicts`.
        """
        return self._claims

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return what is known of every holder, under its merged key."""
        return self._infos

    def findings(self) -> Sequence[Finding]:
        """Return the findings of every source, and where they disagree."""
        found = [finding for source in self._sources for finding in source.findings()]
        if self.conflicts:
            one = self.conflicts[0]
            rivals = ", ".join(key.raw_id for key in one.against) or "what its mark says"
            detail = (
                f"{len(self.conflicts)} claims contradict each other, such as {one.meter}: "
                f"{one.kind} say {one.holder.raw_id}, against {rivals}"
            )
            found.append(Finding("holders/conflicts", State.FAILING, detail, _FIX_CONFLICT))
        return found

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return what began or ended after an instant of this boot."""
        return [
            replace(edge, key=self.key(edge.key))
            for source in self._sources
            if isinstance(source, EdgeSource)
            for edge in source.edges(since_boot_ns)
        ]

    def fresh(self) -> Sequence[HolderEdge]:
        """Return what the last look found to have begun or ended, and when it really did."""
        return self._fresh

    async def close(self) -> None:
        """Close every source, all of them at once."""
        await asyncio.gather(*(source.close() for source in self._sources))

    def key(self, seen: HolderKey) -> HolderKey:
        """Return the merged key of a key as one source gives it, such as that of a mark's edge."""
        return self._keys.get(seen, seen)

    def remember(self) -> list[dict[str, Any]]:
        """Return, ready for JSON, what lets merged holders keep their keys over a restart."""
        return [
            {"seen": _parts(seen), "key": _parts(key), "ways": sorted(self._ways[key])}
            for seen, key in self._keys.items()
        ]

    def _identify(self) -> None:
        """Map every key that a source gives to one key per run of a job."""
        seen = {
            (key, source.name): info
            for source in self._sources
            for key, info in source.infos().items()
        }
        marked = self._marked()
        over, gone = self._over(seen, marked), self._gone()
        present = {key for key, _ in seen}
        known = {key: merged for key, merged in self._keys.items() if key in present}
        self._keys = {key: run for key, run in known.items() if run not in over or key in gone}
        seeing: dict[HolderKey, set[str]] = {}
        for key, way in seen:
            if key in self._keys:
                seeing.setdefault(self._keys[key], set()).add(way)
        self._ways = {
            run: ways if run in marked else self._ways[run] | ways for run, ways in seeing.items()
        }
        owners: dict[tuple[str, str], list[HolderKey]] = {}
        # Known keys first, so that a new one finds the run that it belongs to.
        order = {
            (key, way): (key not in self._keys, key in known, key.birth_ms, way)
            for key, way in seen
        }
        for key, way in sorted(seen, key=order.__getitem__):
            info = seen[key, way]
            others = over if key not in gone else set()
            merged = self._keys.get(key) or self._join(way, info, owners, others) or key
            self._keys[key] = merged
            self._ways.setdefault(merged, set()).add(way)
            for identity in _identities(info):
                owners.setdefault(identity, []).append(merged)

    def _join(
        self,
        way: str,
        info: HolderInfo,
        owners: Mapping[tuple[str, str], list[HolderKey]],
        over: set[HolderKey],
    ) -> HolderKey | None:
        """Return the run that a newly seen key belongs to: one that this way has not seen yet."""
        runs = (run for identity in _identities(info) for run in owners.get(identity, ()))
        return next((run for run in runs if way not in self._ways[run] and run not in over), None)

    def _gone(self) -> set[HolderKey]:
        """Return what the last look found ended."""
        return {
            edge.key
            for source in self._sources
            if isinstance(source, EdgeSource)
            for edge in source.fresh()
            if not edge.started
        }

    def _merge_infos(self) -> dict[HolderKey, HolderInfo]:
        labels: dict[HolderKey, dict[str, str]] = {}
        for source in self._sources:
            for key, info in source.infos().items():
                # A source may have seen more since the keys were merged: that is for the next look.
                if key in self._keys:
                    labels.setdefault(self._keys[key], {}).update(info.labels)
        return {
            key: HolderInfo(key.manager, key.raw_id, key.birth_ms, known)
            for key, known in labels.items()
        }

    def _merge_claims(self) -> dict[str, tuple[Claim, ...]]:
        by_meter: dict[str, list[Word]] = {}
        for source in self._sources:
            for meter, claims in source.claims().items():
                by_meter.setdefault(meter, []).extend(
                    Word(source.name, self._under_merged_key(claim)) for claim in claims
                )
        listed = {
            meter
            for source in self._sources
            if isinstance(source, ActivitySource)
            for meter in source.listed()
        }
        marked, pods = self._marked(), self._pods()
        conflicts: list[Conflict] = []
        merged = {}
        for meter, words in by_meter.items():
            standing, against = settle(meter, words, marked, pods)
            conflicts += against
            merged[meter] = merge(standing, all_seen=meter in listed)
        self.conflicts = tuple(conflicts)
        return merged

    def _under_merged_key(self, claim: Claim) -> Claim:
        return claim if claim.holder is None else replace(claim, holder=self.key(claim.holder))

    def _marked(self) -> set[HolderKey]:
        """Return the holders of which an open mark speaks."""
        marked: set[HolderKey] = set()
        for source in self._sources:
            if source.name == _MARKS:
                fresh = source.fresh() if isinstance(source, EdgeSource) else ()
                ended = {edge.key for edge in fresh if not edge.started}
                marked |= {self.key(key) for key in source.infos().keys() - ended}
        return marked

    def _over(
        self, seen: Mapping[tuple[HolderKey, str], HolderInfo], marked: set[HolderKey]
    ) -> set[HolderKey]:
        """Return the marked runs that are over, of jobs of which a mark has just begun another."""
        begun = {
            edge.key
            for source in self._sources
            if source.name == _MARKS and isinstance(source, EdgeSource)
            for edge in source.fresh()
            if edge.started and edge.key in marked
        }
        if not begun:
            return set()
        names = {
            name for (key, _), info in seen.items() if key in begun for name in _identities(info)
        }
        runs = {
            self.key(key)
            for (key, way), info in seen.items()
            if not names.isdisjoint(_identities(info))
            if way == _MARKS or _MARKS in self._ways.get(self.key(key), ())
        }
        return runs - marked

    def _pods(self) -> dict[HolderKey, str]:
        """Return the pod in which each Slurm job runs, of those that run in one."""
        return {
            key: info.labels["pod_uid"]
            for key, info in self._infos.items()
            if key.manager == SLURM and "pod_uid" in info.labels
        }


def _identities(info: HolderInfo) -> list[tuple[str, str]]:
    """Return the names by which one job can be known: Slurm's have a job id and a SLUID."""
    names = [info.raw_id]
    if info.manager == SLURM:
        names += [info.labels[label] for label in ("sluid", "job_id") if label in info.labels]
    return [(info.manager, name) for name in dict.fromkeys(names)]


def _parts(key: HolderKey) -> list[str | int]:
    return [key.manager, key.raw_id, key.birth_ms]
