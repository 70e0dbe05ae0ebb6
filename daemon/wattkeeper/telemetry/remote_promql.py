"""Questions as PromQL, in the part of the language that all engines agree on.

Every value of a step is made by a function over the range of the step, never by looking back from
an instant: that would carry a value on for five minutes after its meter has gone.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wattkeeper.telemetry.base import (
    HOLDER_LABELS,
    METER_LABELS,
    SHARED,
    Aggregation,
    Metric,
    Question,
    TelemetryError,
)
from wattkeeper.telemetry.remote_series import (
    CLOCK,
    COVERED,
    ENERGY,
    GREATEST,
    LEAST,
    MEAN,
    MEMORY,
    PLACE_LABELS,
    POWER,
    SHARE,
    SHARE_IDLE,
    TEMPERATURE,
    THROTTLED,
    UTILIZATION,
    bounded,
)

_SPREADS = {
    Metric.TEMPERATURE: TEMPERATURE,
    Metric.UTILIZATION: UTILIZATION,
    Metric.MEMORY: MEMORY,
    Metric.CLOCK: CLOCK,
}
_OVER_METERS = {
    Aggregation.SUM: "sum",
    Aggregation.MEAN: "avg",
    Aggregation.MIN: "min",
    Aggregation.MAX: "max",
}
_HIDDEN_MS = 60_000
"""VictoriaMetrics overwrites the last half minute of answers in steps below a minute: it takes
them for incomplete. So each evaluation stands that much before the time it is about."""
_MOST_TEXT = 6000
"""Bytes of a query for selectors of holders, which stand in it twice at most. VictoriaMetrics takes
16 KiB for all of a query."""
_AROUND = 120
"""Bytes of such a selector beside its matchers."""
_MOST_BIRTHS = 150
_REGEX = re.compile(r"[\\.+*?()|\[\]{}^$]")
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f]")


class QuestionError(TelemetryError):
    """The question is at fault, not the engine: it cannot be asked so."""


@dataclass(frozen=True, slots=True)
class Queries:
    """What to send: the answers to `texts` together are the answer.

    `aggregated`: whether each group's values over meters are one already, so that those of several
    texts are added; else each series is a meter's in a group, by PLACE_LABELS beside the group's.
    `ahead_ms`: an evaluation at `t` is about the step that ends at `t + ahead_ms`.
    """

    texts: Sequence[str]
    aggregated: bool
    ahead_ms: int


def queries(question: Question) -> Queries:
    """Return the queries of a question; none if nothing can be its answer.

    Raises:
        QuestionError: no such label, or an odd step.

    """
    where = question.where or {}
    unknown = {*question.by, *where}.difference(METER_LABELS, HOLDER_LABELS)
    if unknown:
        raise QuestionError(f"there is no label {', '.join(sorted(unknown))}")
    if question.step_ms % 2:
        raise QuestionError(f"a step has an even number of milliseconds, not {question.step_ms}")
    ahead_ms = -(-_HIDDEN_MS // question.step_ms) * question.step_ms
    if not all(where.values()):
        return Queries((), True, ahead_ms)
    writer = _Writer(question, ahead_ms)
    values = [writer.value(chosen) for chosen in _chosen(question)]
    aggregated = len(values) == 1 or (
        question.metric in SHARED and question.aggregation is Aggregation.SUM
    )
    if aggregated:
        function = f"{_OVER_METERS[question.aggregation]} by ({', '.join(question.by)})"
        values = [f"{function} ({value})" for value in values]
    return Queries(values, aggregated, ahead_ms)


_Matchers = Sequence[str]


class _Writer:
    """Writes the value of each meter in each group and step."""

    def __init__(self, question: Question, ahead_ms: int) -> None:
        where = question.where or {}
        self._question = question
        self._range = f"[{question.step_ms}ms] offset -{ahead_ms}ms"
        self._meters = _matchers({k: v for k, v in where.items() if k in METER_LABELS})
        self._covered = f"({self._over('sum', COVERED)} > 0)"

    def value(self, chosen: Sequence[_Matchers]) -> str:
        """Return it for the parts that any of the matchers choose."""
        metric = self._question.metric
        if not self._question.about_parts and metric is not Metric.IDLE_POWER:
            return self._whole()
        by = ", ".join(
            (*PLACE_LABELS, *(name for name in self._question.by if name in HOLDER_LABELS))
        )
        to_meter = f"on ({', '.join(PLACE_LABELS)}) group_left ()"
        if metric not in SHARED:
            there = f"group by ({by}) ({self._parts('present', SHARE, chosen)})"
            return f"{there} * {to_meter} ({self._whole()})"
        joules = self._parts("sum", SHARE, chosen)
        if metric is Metric.IDLE_POWER:
            joules = f"({self._parts('sum', SHARE_IDLE, chosen)}) or ({joules}) * 0"
        joules = f"sum by ({by}) ({joules})"
        return joules if metric is Metric.ENERGY else f"{joules} / {to_meter} {self._covered}"

    def _whole(self) -> str:
        """Return the value of a whole meter."""
        match self._question.metric:
            case Metric.ENERGY:
                return self._over("sum", ENERGY)
            case Metric.POWER:
                return f"{self._over('sum', ENERGY)} / {self._covered}"
            case Metric.THROTTLED:
                return f"{self._over('sum', THROTTLED)} / {self._covered}"
            case Metric.POWER_PEAK:
                return self._over("max", POWER + GREATEST)
        name = _SPREADS[self._question.metric]
        if self._question.aggregation is Aggregation.MIN:
            return self._over("min", name + LEAST)
        if self._question.aggregation is Aggregation.MAX:
            return self._over("max", name + GREATEST)
        return self._over("avg", name + MEAN)

    def _parts(self, function: str, name: str, chosen: Sequence[_Matchers]) -> str:
        return " or ".join(self._over(function, name, matchers) for matchers in chosen)

    def _over(self, function: str, name: str, matchers: _Matchers = ()) -> str:
        selector = f"{name}{{{','.join((*self._meters, *matchers))}}}"
        return f"{function}_over_time({selector}{self._range})"


def _chosen(question: Question) -> Iterator[Sequence[_Matchers]]:
    """Yield matchers of the chosen parts, of which any counts, as many as fit into one query."""
    where = question.where or {}
    others = _matchers({k: v for k, v in where.items() if k in HOLDER_LABELS})
    around = _AROUND + sum(map(len, _matchers(where)))
    if question.holders is None:
        yield [others]
        return
    births: dict[tuple[str, str], list[str]] = defaultdict(list)
    for manager, workload, birth_ms in sorted(question.holders):
        births[manager, workload].append(str(birth_ms))
    together: list[_Matchers] = []
    length = 0
    for (manager, workload), every in births.items():
        for start in range(0, len(every), _MOST_BIRTHS):
            named = {
                "account": ("workload",),
                "manager": (manager,),
                "workload": (workload,),
                "birth_ms": every[start : start + _MOST_BIRTHS],
            }
            matchers = [*_matchers(named), *others]
            size = around + sum(map(len, matchers))
            if together and length + size > _MOST_TEXT:
                yield together
                together, length = [], 0
            together.append(matchers)
            length += size
    if together:
        yield together


def _matchers(where: Mapping[str, Sequence[str]]) -> _Matchers:
    """Return a matcher for each label that wants any of some values; no value is no label."""
    return [_matcher(name, [bounded(value) for value in wanted]) for name, wanted in where.items()]


def _matcher(name: str, wanted: Sequence[str]) -> str:
    if len(wanted) == 1:
        return f"{name}={quoted(wanted[0])}"
    pattern = "|".join(_REGEX.sub(r"\\\g<0>", value) for value in wanted)
    return f"{name}=~{quoted(pattern)}"


def quoted(text: str) -> str:
    """Return a text as a string of PromQL."""
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return '"' + _UNPRINTED.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'
