"""A question as SQL: constants of this module put together; every text of a user is a parameter."""

from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.telemetry.base import (
    HOLDER_LABELS,
    METER_LABELS,
    SHARED,
    Aggregation,
    Metric,
    Question,
)
from wattkeeper.telemetry.duck_folding import parts_of
from wattkeeper.telemetry.duck_schema import HOLDER, SPREADS, Resolution

_VALUES = {
    Metric.POWER: ("sum(energy_uj::DOUBLE) / nullif(1e3 * sum(covered_ms), 0)", {"energy_uj"}),
    Metric.IDLE_POWER: ("sum(idle_uj::DOUBLE) / nullif(1e3 * sum(covered_ms), 0)", {"idle_uj"}),
    Metric.ENERGY: ("sum(energy_uj::DOUBLE) / 1e6", {"energy_uj"}),
    Metric.POWER_PEAK: ("max(power_max_mw) / 1e3", {"power_max_mw"}),
    Metric.THROTTLED: ("sum(throttled_ms) / nullif(sum(covered_ms), 0)", {"throttled_ms"}),
}
"""Value of a meter in a step, and the columns that it is made of. A double holds the sum of a meter
exactly for as long as it has used less than 9 GJ, and is summed twice as fast as 128 bits."""
_PART_VALUES = {
    Metric.POWER: "uj / nullif(1e3 * covered_ms, 0)",
    Metric.IDLE_POWER: "idle_uj / nullif(1e3 * covered_ms, 0)",
    Metric.ENERGY: "uj / 1e6",
}
"""Value of the chosen parts of a meter in a step."""
_SPREAD_OF = {
    Metric.TEMPERATURE: ("temperature_mc", "1e3"),
    Metric.UTILIZATION: ("utilization_ppm", "1e6"),
    Metric.MEMORY: ("memory_used_bytes", "1.0"),
    Metric.CLOCK: ("clock_khz", "1e-3"),
}
_JOINED = {
    Aggregation.SUM: "sum(value)",
    Aggregation.MEAN: "avg(value)",
    Aggregation.MIN: "min(value)",
    Aggregation.MAX: "max(value)",
}
_PART_COLUMNS = {"start_ms", "end_ms", "energy_uj", "idle_uj", "shares", *HOLDER}
_IN_HOT = {"windows": "1"}
_IN_FILES = {"start_ms": "epoch_ms(start_time)", "end_ms": "epoch_ms(end_time)"}


@dataclass(frozen=True, slots=True)
class Reach:
    """What a question reads. `resolutions`: of the files, none if there are none.

    `places`: whether it keeps itself to some meters; `nodes`: to how many nodes the reader of files
    keeps itself, 0 is to all.
    """

    resolutions: Sequence[Resolution]
    places: bool
    nodes: int


def question_sql(question: Question, reach: Reach) -> str:
    """Return the query: labels of `by`, list of steps, list of their values, number of series.

    Parameters: `since_ms`, `until_ms`, `step_ms`, `most`, `places`, `node_0`…,
    `files_<resolution>`, `where_<label>`, and `managers`, `workloads`, `births` of the holders.
    """
    value, columns = _value(question)
    if question.about_parts:
        columns = columns | _PART_COLUMNS
    found = f"""
        SELECT place, step, {value} AS value, sum(covered_ms) AS covered_ms
        FROM rows GROUP BY place, step
    """
    if question.about_parts:
        found = _found_parts(question, found)
    elif (question.metric, question.aggregation) == (Metric.ENERGY, Aggregation.SUM):
        # A sum of sums needs none for each meter before.
        found = "SELECT place, step, energy_uj::DOUBLE / 1e6 AS value FROM rows"
    by = "".join(f"{name}, " for name in question.by)
    places = "" if set(question.by).isdisjoint(METER_LABELS) else "JOIN place USING (place)"
    return f"""
        WITH rows AS ({_rows(sorted(columns | {"covered_ms"}), reach)}),
        found AS ({found}),
        joined AS (
            SELECT {by} step, {_JOINED[question.aggregation]} AS value
            FROM found {places} WHERE value IS NOT NULL GROUP BY {by} step
        ),
        series AS (
            SELECT {by} list(step ORDER BY step) AS steps, list(value ORDER BY step) AS line,
                max(value) AS greatest
            FROM joined GROUP BY ALL
        )
        SELECT {by} steps, line, count(*) OVER () FROM series WHERE greatest IS NOT NULL
        ORDER BY {", ".join(("greatest DESC", *question.by))} LIMIT $most
    """


def held_sql(question: Question, reach: Reach) -> str:
    """Return the query: number and node of each meter of which the question chooses parts.

    With the parameters of `question_sql`.
    """
    rows = _rows(sorted(_PART_COLUMNS), reach)
    return f"""
        WITH rows AS ({rows})
        SELECT DISTINCT place, node FROM ({_parts(question)}) JOIN place USING (place)
    """


def _value(question: Question) -> tuple[str, set[str]]:
    if question.metric not in _SPREAD_OF:
        return _VALUES[question.metric]
    field, unit = _SPREAD_OF[question.metric]
    least, mean, greatest = SPREADS[field]
    if question.aggregation is Aggregation.MIN:
        return f"min({least}) / {unit}", {least}
    if question.aggregation is Aggregation.MAX:
        return f"max({greatest}) / {unit}", {greatest}
    weight = f"sum(windows) FILTER ({mean} IS NOT NULL)"
    return f"sum({mean} * windows) / {weight} / {unit}", {mean, "windows"}


def _rows(columns: Sequence[str], reach: Reach) -> str:
    """Return the rows of the question with the step that each belongs to."""
    chosen = "AND place IN (SELECT unnest($places::INTEGER[]))" if reach.places else ""
    hot = f"""
        SELECT place, (end_ms - 1 - $since_ms) // $step_ms AS step,
            {", ".join(f"{_IN_HOT.get(name, name)} AS {name}" for name in columns)}
        FROM hot WHERE end_ms > $since_ms AND end_ms <= $until_ms {chosen}
    """
    if reach.nodes:
        chosen += f" AND node IN ({', '.join(f'$node_{at}' for at in range(reach.nodes))})"
    files = [
        f"""
        SELECT place, (epoch_ms(end_time) - 1 - $since_ms) // $step_ms AS step,
            {", ".join(f"{_IN_FILES.get(name, name)} AS {name}" for name in columns)}
        FROM read_parquet($files_{resolution:d})
        WHERE end_time > make_timestamp_ms($since_ms)::TIMESTAMPTZ
            AND end_time <= make_timestamp_ms($until_ms)::TIMESTAMPTZ {chosen}
        """
        for resolution in reach.resolutions
    ]
    return " UNION ALL ".join((hot, *files))


def _parts(question: Question) -> str:
    """Return the chosen parts of the rows."""
    conditions = [
        f"{name}::VARCHAR IN (SELECT unnest($where_{name}::VARCHAR[]))"
        for name in question.where or ()
        if name in HOLDER_LABELS
    ]
    if question.holders is not None:
        conditions.append(
            "account = 'workload' AND (manager, workload, birth_ms) IN "
            "(SELECT unnest($managers::VARCHAR[]), unnest($workloads::VARCHAR[]), "
            "unnest($births::BIGINT[]))"
        )
    parts = parts_of("rows", "place, step")
    return f"SELECT * FROM ({parts}) WHERE {' AND '.join(conditions) or 'true'}"


def _found_parts(question: Question, cells: str) -> str:
    """Return the values of the chosen parts of each meter in each step."""
    by = "".join(f"{name}, " for name in question.by if name in HOLDER_LABELS)
    labels = by.replace("birth_ms", "birth_ms::VARCHAR AS birth_ms")
    value = _PART_VALUES[question.metric] if question.metric in SHARED else "value"
    return f"""
        SELECT place, step, {by} {value} AS value FROM (
            SELECT place, step, {labels} sum(uj::DOUBLE) AS uj, sum(idle_uj::DOUBLE) AS idle_uj
            FROM ({_parts(question)}) GROUP BY ALL
        ) JOIN ({cells}) USING (place, step)
    """
