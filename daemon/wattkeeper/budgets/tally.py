"""What draws power now in the scope of each budget, and who draws most of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wattkeeper.budgets.scopes import Scopes
from wattkeeper.ledger.queries.spent import NodeNow
from wattkeeper.ledger.queries.whose import Whose
from wattkeeper.model.meter import Component

_WHOLE_PPM = 1_000_000
FORGOTTEN_MS = 86_400_000
"""A node that said nothing for so long, and that no scheduler has, is not waited for any more."""


GOES_ON_MS = 3_600_000
"""For so long a silent node is taken to draw what it drew when it was heard last."""


class MeterSeen(Protocol):
    """A meter as its node showed it last."""

    @property
    def component(self) -> str:
        """What it measures."""

    @property
    def gpu(self) -> int | None:
        """A GPU's index on its node."""

    @property
    def power_mw(self) -> int | None:
        """Its power, None if that is not known."""

    @property
    def holders(self) -> Sequence[int]:
        """Who holds it, by numbers of the journal."""

    @property
    def shares_ppm(self) -> Sequence[int]:
        """Their parts of it, empty if not known."""


class NodeSeen(Protocol):
    """A node as it showed itself last."""

    @property
    def cluster(self) -> str:
        """Its cluster."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def journal(self) -> str:
        """Of which the numbers of holders are."""

    @property
    def seen_ms(self) -> int:
        """When, in UTC milliseconds."""

    @property
    def meters(self) -> Sequence[MeterSeen]:
        """What it showed."""


@dataclass(slots=True)
class Now:
    """One budget now. `heard` of `expected`: meters, or of workloads the nodes they run on.

    `watts`: of what was heard; `silent_watts`: what nodes drew that fell silent within the hour.
    `since_booked_uj`: what was drawn since the books end. By name the watts of jobs, accounts and
    nodes.
    """

    watts: float = 0.0
    heard: int = 0
    expected: int = 0
    silent_nodes: int = 0
    silent_watts: float = 0.0
    since_booked_uj: float = 0.0
    jobs: dict[str, float] = field(default_factory=dict)
    accounts: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, float] = field(default_factory=dict)

    @property
    def coverage(self) -> float | None:
        """The part of what should be heard that is; None where there is nothing to hear."""
        return self.heard / self.expected if self.expected else None


@dataclass(frozen=True, slots=True)
class Names:
    """Whose a holder is, by journal and number; whose a GPU is by grant; who is on silent nodes."""

    holders: Mapping[tuple[str, int], Whose] = field(default_factory=dict)
    grants: Mapping[tuple[str, str, int], Sequence[Whose]] = field(default_factory=dict)
    silent: Mapping[int, Collection[Whose]] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """Adds up nodes. `from_ms`: by budget, when its running interval began (UTC)."""

    scopes: Scopes
    names: Names
    from_ms: Sequence[int]
    now_ms: int
    silent_after_ms: int
    found: list[Now] = field(init=False)

    def __post_init__(self) -> None:
        self.found = [Now() for _ in self.from_ms]

    def add(self, seen: NodeSeen | None, known: NodeNow | None, booked_watts: float | None) -> None:
        """Take a node as it showed itself, as the books have it, or both.

        `booked_watts`: its power by what was booked lately, where another aggregator hears it.
        """
        named = seen or known
        if named is None:
            return
        budgets = self.scopes.of_node(named.cluster, named.node)
        heard = seen is not None and self.now_ms - seen.seen_ms <= self.silent_after_ms
        if not heard and known is not None and known.booked_ms and booked_watts is not None:
            self._add_booked(budgets, known, booked_watts)
            if known.id is not None:  # of its workloads nothing is heard here
                self._add_silent(self.names.silent.get(known.id, ()))
            return
        if not heard and not self._awaited(known):
            return
        watts, metered = _power(seen.meters if seen is not None else ())
        expected = max(metered if heard else 0, _expected(known))
        ends_ms = self._unbooked_until(seen, heard)
        for number in budgets:
            now = self.found[number]
            now.expected += expected
            if heard:
                now.heard += metered
                now.watts += watts
                _put(now.nodes, named.node, watts)
            else:
                now.silent_nodes += 1
                now.silent_watts += watts if self._goes_on(seen) else 0.0
            now.since_booked_uj += watts * 1000 * self._gap_ms(number, known, ends_ms)
        if seen is not None:
            self._add_work(seen, known, budgets, ends_ms, heard=heard)
        elif known is not None and known.id is not None:
            self._add_silent(self.names.silent.get(known.id, ()))

    def _add_booked(self, budgets: Sequence[int], known: NodeNow, watts: float) -> None:
        for number in budgets:
            now = self.found[number]
            now.expected += known.meters
            now.heard += known.meters
            now.watts += watts
            _put(now.nodes, known.node, watts)
            now.since_booked_uj += watts * 1000 * self._gap_ms(number, known, self.now_ms)

    def _awaited(self, known: NodeNow | None) -> bool:
        if known is None:
            return True
        if known.listed:
            return known.expected
        return known.seen_ms is not None and self.now_ms - known.seen_ms < FORGOTTEN_MS

    def _goes_on(self, seen: NodeSeen | None) -> bool:
        return seen is not None and self.now_ms - seen.seen_ms <= GOES_ON_MS

    def _unbooked_until(self, seen: NodeSeen | None, heard: bool) -> int:
        """Return until when a node is known to have drawn what it showed."""
        if seen is None:
            return 0
        return self.now_ms if heard else seen.seen_ms

    def _gap_ms(self, number: int, known: NodeNow | None, until_ms: int) -> int:
        """Return for how long its power is not in the books yet, within the running interval."""
        booked_ms = known.booked_ms if known is not None else None
        if booked_ms is None:
            return 0
        return max(0, until_ms - max(booked_ms, self.from_ms[number]))

    def _add_work(
        self,
        seen: NodeSeen,
        known: NodeNow | None,
        budgets: Sequence[int],
        until_ms: int,
        *,
        heard: bool,
    ) -> None:
        """Take the parts of workloads: those of the node's own budgets say who draws most."""
        present: dict[int, bool] = {}
        for meter in seen.meters:
            if meter.component == Component.HOST or meter.power_mw is None:
                continue
            for whose, part in self._parts(seen, meter):
                if not heard and not self._still_there(known, whose):
                    continue
                watts = meter.power_mw / 1000 * part
                own = self.scopes.of_workload(whose)
                for number in own:
                    now = self.found[number]
                    present[number] = True
                    if heard:
                        now.watts += watts
                        _put(now.nodes, seen.node, watts)
                    elif self._goes_on(seen):
                        now.silent_watts += watts
                    gap_ms = self._gap_ms(number, known, until_ms)
                    now.since_booked_uj += watts * 1000 * gap_ms
                for number in (*own, *budgets) if heard else ():
                    _put(self.found[number].jobs, whose.job, watts)
                    _put(self.found[number].accounts, whose.account, watts)
        for number in present:
            self.found[number].expected += 1
            self.found[number].heard += int(heard)
            self.found[number].silent_nodes += int(not heard)

    def _still_there(self, known: NodeNow | None, whose: Whose) -> bool:
        """Tell whether a workload has not ended since its node fell silent, as far as is known."""
        if known is None or known.id is None:
            return True
        return whose in self.names.silent.get(known.id, ())

    def _add_silent(self, workloads: Iterable[Whose]) -> None:
        numbers = {number for whose in workloads for number in self.scopes.of_workload(whose)}
        for number in numbers:
            self.found[number].expected += 1
            self.found[number].silent_nodes += 1

    def _parts(self, seen: NodeSeen, meter: MeterSeen) -> Iterable[tuple[Whose, float]]:
        """Return whose a meter is, in parts: as its node says, else as was granted.

        What its node saw in the last window; where that is not known, equal parts.
        """
        held = meter.holders
        if not held:
            gpu = -1 if meter.gpu is None else meter.gpu
            granted = self.names.grants.get((seen.cluster, seen.node, gpu), ())
            return [(whose, 1 / len(granted)) for whose in granted]
        shares = [ppm / _WHOLE_PPM for ppm in meter.shares_ppm] or [1 / len(held)] * len(held)
        return [
            (whose, part)
            for holder, part in zip(held, shares, strict=False)
            if (whose := self.names.holders.get((seen.journal, holder))) is not None
        ]


def _power(meters: Iterable[MeterSeen]) -> tuple[float, int]:
    """Return watts, and how many component meters tell theirs; a host sees what others do not."""
    parts_mw = host_mw = metered = 0
    for meter in meters:
        if meter.power_mw is None:
            continue
        if meter.component == Component.HOST:
            host_mw = max(host_mw, meter.power_mw)
        else:
            parts_mw += meter.power_mw
            metered += 1
    return max(parts_mw, host_mw) / 1000, metered


def _expected(known: NodeNow | None) -> int:
    """Return how many component meters a node should have; one at least."""
    if known is None:
        return 1
    gpus = max(known.gpus, known.gpus_expected or 0)
    return max(1, known.meters - known.gpus + gpus)


def _put(sums: dict[str, float], name: str, watts: float) -> None:
    sums[name] = sums.get(name, 0.0) + watts
