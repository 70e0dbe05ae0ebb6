"""What a store has to answer, worked out row by row in plain Python."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from wattkeeper.model.window import Spread
from wattkeeper.telemetry.base import (
    METER_LABELS,
    SHARED,
    Aggregation,
    Answer,
    Metric,
    Part,
    Place,
    Question,
    Row,
    Series,
)

_STATS = {
    Metric.TEMPERATURE: ("temperature_mc", 1e3),
    Metric.UTILIZATION: ("utilization_ppm", 1e6),
    Metric.MEMORY: ("memory_used_bytes", 1.0),
    Metric.CLOCK: ("clock_khz", 1e-3),
}


def answer(rows: Sequence[Row], question: Question) -> Answer:
    """Answer a question over all rows, whatever their order."""
    cells: dict[tuple[int, Place], list[Row]] = defaultdict(list)
    for row in rows:
        if _meter_fits(row.place, question.where or {}):
            step = (row.end_ms - 1 - question.since_ms) // question.step_ms
            if 0 <= step < (question.until_ms - question.since_ms) // question.step_ms:
                cells[step, row.place].append(row)
    found: dict[tuple[str, ...], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (step, place), of_meter in cells.items():
        for group, parts in _groups(place, of_meter, question):
            value = _value(of_meter, parts, question)
            if value is not None:
                found[group][step].append(value)
    steps = (question.until_ms - question.since_ms) // question.step_ms
    series = [
        Series(
            dict(zip(question.by, group, strict=True)),
            [_join(by_step.get(step, ()), question.aggregation) for step in range(steps)],
        )
        for group, by_step in sorted(found.items())
    ]
    series.sort(key=lambda one: -max(v for v in one.values if v is not None))
    most = question.most_series
    return Answer(question.since_ms, question.step_ms, series[:most], 0, max(0, len(series) - most))


def _meter_fits(place: Place, where: Mapping[str, tuple[str, ...]]) -> bool:
    return all(getattr(place, k) in wanted for k, wanted in where.items() if k in METER_LABELS)


def _part_fits(part: Part, question: Question) -> bool:
    if question.holders is not None:
        if part.account != "workload":
            return False
        if (part.manager, part.workload, part.birth_ms) not in question.holders:
            return False
    where = question.where or {}
    return all(str(getattr(part, k)) in v for k, v in where.items() if k not in METER_LABELS)


def _groups(
    place: Place, rows: Sequence[Row], question: Question
) -> Iterator[tuple[tuple[str, ...], list[Part] | None]]:
    if not question.about_parts:
        yield tuple(getattr(place, name) for name in question.by), None
        return
    groups: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    for row in rows:
        for part in row.parts:
            if _part_fits(part, question):
                key = tuple(
                    str(getattr(place if name in METER_LABELS else part, name))
                    for name in question.by
                )
                groups[key].append(part)
    yield from groups.items()


def _value(rows: Sequence[Row], parts: Sequence[Part] | None, question: Question) -> float | None:
    metric = question.metric
    covered_s = sum(row.covered_ms for row in rows) / 1e3
    if metric in SHARED:
        of = [part for row in rows for part in row.parts] if parts is None else parts
        uj = sum(part.idle_uj if metric is Metric.IDLE_POWER else part.uj for part in of)
        if metric is Metric.ENERGY:
            return uj / 1e6
        return uj / 1e6 / covered_s if covered_s else None
    if metric is Metric.THROTTLED:
        throttled = [
            r.stats.throttled_ms for r in rows if r.stats and r.stats.throttled_ms is not None
        ]
        return sum(throttled) / 1e3 / covered_s if throttled and covered_s else None
    if metric is Metric.POWER_PEAK:
        peaks = [r.stats.power_mw.greatest for r in rows if r.stats and r.stats.power_mw]
        return max(peaks) / 1e3 if peaks else None
    name, unit = _STATS[metric]
    spreads: list[Spread] = [s for r in rows if r.stats and (s := getattr(r.stats, name))]
    if not spreads:
        return None
    if question.aggregation is Aggregation.MIN:
        return min(s.least for s in spreads) / unit
    if question.aggregation is Aggregation.MAX:
        return max(s.greatest for s in spreads) / unit
    return sum(s.mean for s in spreads) / len(spreads) / unit


def _join(values: Sequence[float], aggregation: Aggregation) -> float | None:
    if not values:
        return None
    match aggregation:
        case Aggregation.SUM:
            return sum(values)
        case Aggregation.MEAN:
            return sum(values) / len(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.MAX:
            return max(values)
