"""The rules by which a holder belongs to a run, and an answer means one. Nothing is stored here.

Ids that no other run will have decide (SLUID, pod UID), then restart counts and starts that both
sides know, then the scheduler's times. Only where no scheduler has spoken do lives that touch.
What comes out depends on what is known alone, never on the order in which it became known.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from wattkeeper.ledger.runs import SAME_START_MS, TOUCH_MS, Held, Run, counts_differ
from wattkeeper.schedulers.base import WorkloadInfo

CLOCKS_MS = 2_000
"""Clocks of nodes and schedulers differ by so much without being wrong."""
_MOVED_MS = 3_600_000
"""Slurm moves a start to when the nodes that it had to power up were ready."""
_ALWAYS = 1 << 61
_MOST_RUNS = 100
"""Runs of one number, the newest, that a holder may be of where no id tells."""


def meant(runs: Sequence[Run], info: WorkloadInfo) -> Run | None:
    """Return which of a scheduler's runs an answer is about, None if it is about another one."""
    fitting = []
    for run in runs:
        if _is_same(run, info):
            return run
        ids_differ = run.other_id and info.other_id and run.other_id != info.other_id
        differ = ids_differ or counts_differ(run.token, info.run)
        if run.raw_id == info.raw_id and not differ:
            fitting.append(run)
    fitting.sort(key=lambda run: (run.start_ms or 0, run.id))
    return next((run for run in reversed(fitting) if _may_start(run, info)), None)


def _is_same(run: Run, info: WorkloadInfo) -> bool:
    if info.other_id and run.other_id == info.other_id:
        return True
    return bool(info.run) and not info.run.isdecimal() and run.token == info.run


def _may_start(run: Run, info: WorkloadInfo) -> bool:
    if run.start_ms is None or info.start_ms is None:
        return True
    late_ms = info.start_ms - run.start_ms
    if abs(late_ms) < SAME_START_MS:
        return True
    same = run.token == info.run and run.token.isdecimal()
    return same and run.end_ms is None and 0 < late_ms < _MOVED_MS


@dataclass(slots=True)
class Cluster:
    """Holders that are one run as far as anybody can tell without a scheduler."""

    holders: list[Held] = field(default_factory=list)
    number: str = ""
    end_ms: int = 0
    uniques: set[str] = field(default_factory=set)
    starts: set[int] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)

    def takes(self, held: Held) -> bool:
        """Tell whether a holder that was born later may be of this run.

        Jobs of two numbers are two, also where a node gives them an id in common.
        """
        if held.number and self.number and held.number != self.number:
            return False
        if held.uniques and self.uniques:
            return not held.uniques.isdisjoint(self.uniques)
        if any(counts_differ(token, held.token) for token in self.tokens):
            return False
        start = held.start_ms
        if start is not None and any(abs(start - own) >= SAME_START_MS for own in self.starts):
            return False
        return held.birth_ms <= self.end_ms + TOUCH_MS

    def add(self, held: Held) -> None:
        """Take a holder in."""
        self.holders.append(held)
        self.number = self.number or held.number
        self.end_ms = max(self.end_ms, held.birth_ms, held.seen_ms)
        self.uniques |= held.uniques
        self.tokens |= {held.token} - {""}
        if held.start_ms is not None:
            self.starts.add(held.start_ms)


class _Gathered:
    """Clusters, found by what they have in common with a holder.

    Ids are what nodes say: whoever says that thousands of jobs are one costs no more than they do.
    """

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []
        self._by_unique: dict[str, Cluster] = {}
        self._by_number: dict[str, list[Cluster]] = {}

    def put(self, held: Held) -> None:
        """Put a holder into the newest cluster that takes it, or into one of its own."""
        fit = next((one for one in self._near(held) if one.takes(held)), None)
        if fit is None:
            fit = Cluster()
            self.clusters.append(fit)
            self._by_number.setdefault(held.number, []).append(fit)
        elif held.number and not fit.number:
            self._by_number.setdefault(held.number, []).append(fit)
        fit.add(held)
        self._by_unique.update(dict.fromkeys(held.uniques, fit))

    def _near(self, held: Held) -> Iterator[Cluster]:
        for unique in sorted(held.uniques & self._by_unique.keys()):
            yield self._by_unique[unique]
        if held.number:
            yield from self._newest(held.number)
            yield from self._newest("")
        else:
            yield from islice(reversed(self.clusters), _MOST_RUNS)

    def _newest(self, number: str) -> Iterator[Cluster]:
        return islice(reversed(self._by_number.get(number, [])), _MOST_RUNS)


def gather(holders: Iterable[Held]) -> list[Cluster]:
    """Put holders of one id together whose lives touch, and nothing says that they are two."""
    gathered = _Gathered()
    for held in sorted(holders, key=lambda held: (held.birth_ms, held.id)):
        gathered.put(held)
    return gathered.clusters


def assign(runs: Sequence[Run], holders: Sequence[Held]) -> dict[int, Run]:
    """Return, by holder, the run of the scheduler's to which it belongs; others are left out."""
    lives = _lives(runs)
    by_id: dict[str, list[int]] = {}
    for at, life in enumerate(lives):
        for one in {life.run.raw_id, life.run.other_id} - {""}:
            by_id.setdefault(one, []).append(at)
    found: dict[int, Run] = {}
    homes: set[tuple[int, int]] = set()
    rest: list[tuple[Held, list[_Life]]] = []
    for held in holders:
        near = {at for one in (held.raw_id, held.other_id) for at in by_id.get(one, ())}
        fitting = [lives[at] for at in sorted(near) if lives[at].fits(held)]
        fitting = [life for life in fitting if life.is_same(held)] or fitting
        started = [life for life in fitting if life.started_with(held)]
        around = [life for life in started or fitting if life.distance_ms(held) <= CLOCKS_MS]
        if around:
            own = max(around, key=partial(_fitness, held))
            found[held.id] = own.run
            homes.add((id(own.run), held.node))
        elif fitting:
            rest.append((held, started or fitting))
    for held, fitting in rest:
        nearest = min(fitting, key=lambda life: life.distance_ms(held))
        # A run is on a node once: what is born there after its end is another one.
        other = (id(nearest.run), held.node) in homes or nearest.distance_ms(held) > TOUCH_MS
        if nearest.started_with(held) or nearest.is_same(held) or not other:
            found[held.id] = nearest.run
    return found


def _fitness(held: Held, life: "_Life") -> tuple[int, int, int]:
    """Return how well one of several lives fits. Of a short one only the birth may be known."""
    return life.overlap_ms(held), -life.distance_ms(held), life.start_ms


@dataclass(frozen=True, slots=True)
class _Life:
    run: Run
    start_ms: int
    end_ms: int

    def fits(self, held: Held) -> bool:
        """Tell whether nothing that both know says no, where an id of theirs is the same."""
        run = self.run
        if held.uniques and run.uniques:
            return self.is_same(held)
        if counts_differ(run.token, held.token):
            return False
        if run.start_ms is None or held.start_ms is None:
            return True
        # A start that was moved, by powering nodes up, is still inside the life.
        moved = self.distance_ms(held) <= CLOCKS_MS
        return moved or self.started_with(held)

    def is_same(self, held: Held) -> bool:
        """Tell whether both have an id that no other run has."""
        return not held.uniques.isdisjoint(self.run.uniques)

    def started_with(self, held: Held) -> bool:
        """Tell whether the node was told the very start of this run."""
        if self.run.start_ms is None or held.start_ms is None:
            return False
        return abs(self.run.start_ms - held.start_ms) < SAME_START_MS

    def distance_ms(self, held: Held) -> int:
        """Return by how much the holder was born outside of this life, 0 if inside."""
        return max(self.start_ms - held.birth_ms, held.birth_ms - self.end_ms, 0)

    def overlap_ms(self, held: Held) -> int:
        """Return how much of the holder's life lies in this one."""
        return max(0, min(held.seen_ms, self.end_ms) - max(held.birth_ms, self.start_ms))


def _lives(runs: Sequence[Run]) -> list[_Life]:
    """Return from when to when each run lived; one that nobody saw ending did at the next start."""
    ordered = sorted(runs, key=lambda run: (run.start_ms or 0, run.id), reverse=True)
    lives: list[_Life] = []
    next_ms: dict[str, int] = {}
    for run in ordered:
        start_ms = -_ALWAYS if run.start_ms is None else run.start_ms
        last_ms = next_ms.get(run.raw_id, _ALWAYS)
        end_ms = last_ms if run.end_ms is None else min(run.end_ms, max(last_ms, start_ms))
        lives.append(_Life(run, start_ms, max(start_ms, end_ms)))
        if run.start_ms is not None:
            next_ms[run.raw_id] = run.start_ms
    return lives
