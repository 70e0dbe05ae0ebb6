"""Dimensions that only the centre knows: a store's series of holders and nodes, folded into them.

The ledger names a holder's job and user, the configuration a node's rack. So the store is asked
for holders and nodes, in pieces of time that memory can bear, and what it answers is added up.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.telemetry_query import GROUP, STORED, By
from wattkeeper.ledger.queries.holders import DIMENSIONS, HolderKey
from wattkeeper.telemetry.base import SHARED, Aggregation, Answer, Question, Series

MOST_FOLDED = 50_000
"""Series of holders, or of meters, that one piece of time may have."""
PIECE = 60
"""Steps in a piece."""

_HOLDER = ("cluster", "manager", "workload", "birth_ms", "account")
_METER = ("cluster", "node", "meter")
_JOIN: dict[Aggregation, Callable[[Collection[float]], float]] = {
    Aggregation.SUM: sum,
    Aggregation.MEAN: fmean,
    Aggregation.MIN: min,
    Aggregation.MAX: max,
}

Key = tuple[str, ...]
Ask = Callable[[Question], Answer]


def _nameless(_: Collection[HolderKey]) -> dict[HolderKey, dict[str, str]]:
    return {}


@dataclass(frozen=True, slots=True)
class Fold:
    """What an answer's series are by, and what it takes to know it.

    `groups`: by kind, the group of each node. `names`: looks up what the ledger calls holders.
    """

    by: By
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: Callable[[Collection[HolderKey]], Mapping[HolderKey, Mapping[str, str]]] = _nameless

    def answer(self, ask: Ask, question: Question) -> Answer:
        """Answer a question, whose `by` counts for nothing, by the dimensions of this.

        Raises:
            ProblemError: more series than can be folded.

        """
        if not self.by.of_ledger and not self.by.kinds:
            return self._renamed(ask(replace(question, by=self.by.of_store)))
        inner = replace(question, by=self._asked(question), most_series=MOST_FOLDED)
        found: dict[Key, dict[int, float]] = defaultdict(dict)
        steps = (question.until_ms - question.since_ms) // question.step_ms
        resolution_ms = 0
        for first in range(0, steps, PIECE):
            since_ms = question.since_ms + first * question.step_ms
            until_ms = min(question.until_ms, since_ms + PIECE * question.step_ms)
            piece = ask(replace(inner, since_ms=since_ms, until_ms=until_ms))
            if piece.omitted:
                raise _too_many(len(piece.series) + piece.omitted)
            resolution_ms = max(resolution_ms, piece.resolution_ms)
            for key, step, value in self._folded(piece, question):
                found[key][first + step] = value
        return self._answer(question, found, steps, resolution_ms)

    def _asked(self, question: Question) -> tuple[str, ...]:
        """Return what the store is asked for, so that its answer can be added up.

        Each meter by itself where the meters of a group must be told from parts of one meter.
        """
        names = [*self.by.of_store]
        if self.by.kinds:
            names.append("node")
        if self.by.of_ledger:
            names += _HOLDER
        if not self._adds_up(question):
            names += _METER
        return tuple(dict.fromkeys(names))

    def _adds_up(self, question: Question) -> bool:
        """Tell whether values of parts of a group give the group's value."""
        if question.aggregation is Aggregation.MEAN:
            return False
        shared = question.metric in SHARED
        return not self.by.of_ledger or shared is (question.aggregation is Aggregation.SUM)

    def _folded(self, piece: Answer, question: Question) -> Iterator[tuple[Key, int, float]]:
        adds_up, join = self._adds_up(question), _JOIN[question.aggregation]
        for key, members in self._members(piece.series).items():
            columns = [one.values for one in members] if adds_up else _by_meter(members, question)
            for step, values in enumerate(zip(*columns, strict=True)):
                known = [value for value in values if value is not None]
                if known:
                    yield key, step, join(known)

    def _members(self, found: Sequence[Series]) -> dict[Key, list[Series]]:
        holders = [_holder(one.labels) if self.by.of_ledger else None for one in found]
        names = self.names({one for one in holders if one is not None})
        members: dict[Key, list[Series]] = defaultdict(list)
        for series, holder in zip(found, holders, strict=True):
            known = names.get(holder, {}) if holder is not None else {}
            key = tuple(self._label(name, series.labels, known) for name in self.by.names)
            members[key].append(series)
        return members

    def _label(self, name: str, labels: Mapping[str, str], known: Mapping[str, str]) -> str:
        if name in DIMENSIONS:
            # A holder of which the ledger does not know yet is called as its node calls it.
            return known.get(name, labels["workload"] if name == "job" else "")
        if name.startswith(GROUP):
            return self.groups[name.removeprefix(GROUP)].get(labels["node"], "")
        return labels[STORED[name]]

    def _answer(
        self,
        question: Question,
        found: Mapping[Key, Mapping[int, float]],
        steps: int,
        resolution_ms: int,
    ) -> Answer:
        ordered = sorted(found, key=lambda key: (-max(found[key].values()), key))
        most = question.most_series
        series = [
            Series(
                dict(zip(self.by.names, key, strict=True)),
                [found[key].get(step) for step in range(steps)],
            )
            for key in ordered[:most]
        ]
        omitted = max(0, len(ordered) - most)
        return Answer(question.since_ms, question.step_ms, series, resolution_ms, omitted)

    def _renamed(self, answer: Answer) -> Answer:
        series = [
            Series({name: one.labels[STORED[name]] for name in self.by.names}, one.values)
            for one in answer.series
        ]
        return replace(answer, series=series)


def _by_meter(members: Sequence[Series], question: Question) -> list[Sequence[float | None]]:
    """Return the values of each meter: of what is shared, its parts add up to it."""
    meters: dict[Key, list[float | None]] = {}
    for series in members:
        own = tuple(series.labels[name] for name in _METER)
        if own not in meters:
            meters[own] = list(series.values)
            continue
        before = meters[own]
        for step, value in enumerate(series.values):
            known = before[step]
            if known is None or value is None:
                before[step] = value if known is None else known
            elif question.metric in SHARED:
                before[step] = known + value
    return list(meters.values())


def _holder(labels: Mapping[str, str]) -> HolderKey | None:
    """Return the holder of a series, None where it is of what is nobody's."""
    if labels["account"] != "workload":
        return None
    birth_ms = int(labels["birth_ms"])
    return HolderKey(labels["cluster"], labels["manager"], labels["workload"], birth_ms)


def _too_many(series: int) -> ProblemError:
    detail = (
        f"{series:,} series would have to be added up, more than {MOST_FOLDED:,}: ask for a "
        "shorter time or longer steps, or for fewer nodes, jobs or users"
    )
    return ProblemError(400, "too-many-series", detail, "by")
