"""The answers about history. Values are floats in the unit that is said beside them."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from wattkeeper.aggregator.answers import Answer, Instant, Microjoules
from wattkeeper.aggregator.telemetry_steps import widened
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.telemetry.base import Aggregation, Metric, Question
from wattkeeper.telemetry.base import Answer as Found

UNITS = {
    Metric.POWER: "watts",
    Metric.POWER_PEAK: "watts",
    Metric.ENERGY: "joules",
    Metric.IDLE_POWER: "watts",
    Metric.TEMPERATURE: "celsius",
    Metric.UTILIZATION: "ratio",
    Metric.MEMORY: "bytes",
    Metric.CLOCK: "hertz",
    Metric.THROTTLED: "ratio",
}


class Series(Answer):
    """One series: a value for each step, null where nothing was metered."""

    labels: dict[str, str]
    values: list[float | None]


class Telemetry(Answer):
    """Series over time. The first step begins at `since`.

    `step_seconds` may be longer than was asked for: never shorter than `resolution_seconds`, the
    coarsest rows that were read (null where none was downsampled). `omitted_series`: how many are
    left out because of `limit`, the smallest ones.
    """

    metric: Metric
    unit: str = Field(description="watts, joules, celsius, ratio, bytes or hertz")
    aggregation: Aggregation
    since: Instant
    until: Instant
    step_seconds: float
    resolution_seconds: float | None
    by: list[str]
    omitted_series: int
    series: list[Series]


class TracePart(Answer):
    """What one component of a job drew in the traced time.

    `mean_watts`: its energy over the time; `peak_watts`: its greatest step; `energy_joules`: what
    the trace adds up to; `ledger_energy_uj`: what the books have of the whole job.
    """

    component: str
    mean_watts: float | None
    peak_watts: float | None
    energy_joules: float
    ledger_energy_uj: Microjoules


class Trace(Telemetry):
    """The power of one run of a job over time; `by` begins with `component`.

    `whole`: the trace is of its whole life so far, so that `energy_joules` and `ledger_energy_uj`
    less `ledger_settled_uj` are the same, but for what one of them does not have yet or any more.
    `ledger_settled_uj`: what its scheduler had to say is its own, which is in no trace of it.
    """

    cluster: str
    job_id: str
    run: int
    runs: int
    name: str | None
    state: str | None
    start: Instant | None
    end: Instant | None
    whole: bool
    components: list[TracePart]
    energy_joules: float
    ledger_energy_uj: Microjoules
    ledger_settled_uj: Microjoules


def told(question: Question, found: Found, by: Sequence[str]) -> dict[str, Any]:
    """Return the fields of `Telemetry` that tell what a store found."""
    since_ms, until_ms = widened(question.since_ms, question.until_ms, found.step_ms)
    return {
        "metric": question.metric,
        "unit": UNITS[question.metric],
        "aggregation": question.aggregation,
        "since": rfc3339(since_ms),
        "until": rfc3339(until_ms),
        "step_seconds": found.step_ms / 1000,
        "resolution_seconds": found.resolution_ms / 1000 or None,
        "by": list(by),
        "omitted_series": found.omitted,
        "series": [Series(labels=dict(s.labels), values=list(s.values)) for s in found.series],
    }
