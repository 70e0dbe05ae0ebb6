"""The power of one job over time, beside what the books have of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from wattkeeper.aggregator import telemetry_answers as answers
from wattkeeper.aggregator import times
from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.telemetry_asking import Asking
from wattkeeper.aggregator.telemetry_fold import Fold
from wattkeeper.aggregator.telemetry_query import By, Values
from wattkeeper.aggregator.telemetry_steps import length
from wattkeeper.ledger.queries.holders import Held, held_by
from wattkeeper.ledger.queries.job import Job, job
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.window import Split
from wattkeeper.telemetry.base import Answer, Metric, Question

PARTS = ("node", "meter", "device", "gpu", "model")
"""What a trace may be taken apart by, beside the component."""
_MOST_COMPONENTS = 16


class TraceQuery(Query):
    """Which job, and how finely."""

    cluster: str = Field(description="cluster of the job")
    id: str = Field(description="its id, as its scheduler calls it")
    run: int | None = Field(None, ge=1, description="which run of it; the newest")
    step: str | None = Field(None, description="10s, 5m, 1h; what suits the time")
    by: Values = Field((), description=f"beside the component, by {', '.join(PARTS)}")
    since: str | None = Field(None, description="not its whole life, but from: -1h, 2026-11-23")
    until: str | None = Field(None, description="to, the same way")
    limit: int = Field(100, ge=1, le=10_000, description="series at most, the greatest")


@dataclass(frozen=True, slots=True)
class _Life:
    """A run, its holders, and what of its life is traced. `seen_ms`: up to when it is known."""

    job: Job
    held: Held
    since_ms: int
    until_ms: int
    seen_ms: int
    whole: bool


def trace(
    asking: Asking, ledger: Ledger, query: TraceQuery, scope: Scope | None, now_ms: int
) -> answers.Trace:
    """Return the trace of a job; one beyond the scope is not there.

    Raises:
        ProblemError: no such job, or time; the store does not answer.

    """
    by = _by(query.by)
    life = _life(ledger, query, scope, now_ms)
    question = Question(
        metric=Metric.POWER,
        since_ms=life.since_ms,
        until_ms=life.until_ms,
        step_ms=length(query.step, life.since_ms, life.until_ms),
        where={"cluster": (life.job.cluster,), "node": life.held.nodes},
        holders=frozenset((key.manager, key.raw_id, key.birth_ms) for key in life.held.keys),
        most_series=query.limit,
    )
    shown = asking.over(Fold(by), question)
    summed = replace(question, step_ms=shown.step_ms, most_series=_MOST_COMPONENTS)
    whole = Fold(By(("component",)))
    told = by == whole.by and not shown.omitted
    power = shown if told else asking.over(whole, summed)
    energy = asking.over(whole, replace(summed, metric=Metric.ENERGY))
    return _answer(life, question, shown, by, _parts(life, power, energy))


def _by(names: Sequence[str]) -> By:
    for name in names:
        if name not in (*PARTS, "component"):
            detail = f"by: {name[:80]!r} is none of {', '.join(PARTS)}"
            raise ProblemError(400, "bad-parameter", detail, "by")
    return By(tuple(dict.fromkeys(("component", *names))))


def _life(ledger: Ledger, query: TraceQuery, scope: Scope | None, now_ms: int) -> _Life:
    found = job(ledger, query.cluster, query.id, query.run, scope)
    which = f"job {query.id[:80]} of cluster {query.cluster[:80]}"
    if found is None:
        raise ProblemError(404, "unknown-job", f"no {which} is in the books", "id")
    held = held_by(ledger, found.id)
    begins = [at for at in (found.start_ms, held.first_ms) if at is not None]
    if not begins:
        raise ProblemError(404, "not-started", f"{which} has not started yet", "id")
    # The node's word about its end may be later than the scheduler's: an epilog takes its time.
    seen_ms = max(begins[0], found.end_ms or 0, held.last_ms or 0)
    first_ms, last_ms = min(begins), seen_ms if found.end_ms is not None else now_ms
    since_ms = _clipped(query.since, "since", now_ms, first_ms)
    until_ms = _clipped(query.until, "until", now_ms, last_ms)
    since_ms, until_ms = max(since_ms, first_ms), min(until_ms, last_ms)
    if until_ms < since_ms:
        life = f"{times.rfc3339(first_ms)} to {times.rfc3339(last_ms)}"
        raise ProblemError(400, "bad-period", f"{which} ran from {life}", "since")
    whole = since_ms == first_ms and until_ms == last_ms
    return _Life(found, held, since_ms, max(until_ms, since_ms + 1), seen_ms, whole)


def _clipped(text: str | None, field: str, now_ms: int, usual_ms: int) -> int:
    return usual_ms if text is None else times.parse(text, now_ms, field)


def _parts(life: _Life, power: Answer, energy: Answer) -> list[answers.TracePart]:
    peaks: dict[str, float] = {}
    for series in power.series:
        if values := [value for value in series.values if value is not None]:
            peaks[series.labels["component"]] = max(values)
    joules: dict[str, float] = defaultdict(float)
    for series in energy.series:
        joules[series.labels["component"]] += sum(v for v in series.values if v is not None)
    elapsed_s = (_known_ms(life, power) - life.since_ms) / 1000
    booked = life.job.energy_by_component_uj
    return [
        answers.TracePart(
            component=name,
            mean_watts=joules[name] / elapsed_s if elapsed_s > 0 and name in joules else None,
            peak_watts=peaks.get(name),
            energy_joules=joules.get(name, 0.0),
            ledger_energy_uj=booked.get(name, 0),
        )
        for name in sorted({*joules, *booked}, key=lambda name: -joules.get(name, 0.0))
    ]


def _known_ms(life: _Life, power: Answer) -> int:
    """Return up to when something is known: the newest windows of a running job are on their way.

    The books may be behind the history.
    """
    ends = (
        power.since_ms + (at + 1) * power.step_ms
        for series in power.series
        for at, value in enumerate(series.values)
        if value is not None
    )
    return min(life.until_ms, max(life.seen_ms, max(ends, default=0)))


def _answer(
    life: _Life,
    question: Question,
    shown: Answer,
    by: By,
    parts: list[answers.TracePart],
) -> answers.Trace:
    found = life.job
    return answers.Trace(
        **answers.told(question, shown, by.names),
        cluster=found.cluster,
        job_id=found.job_id,
        run=found.run,
        runs=found.runs,
        name=found.name or None,
        state=found.state or None,
        start=None if found.start_ms is None else times.rfc3339(found.start_ms),
        end=None if found.end_ms is None else times.rfc3339(found.end_ms),
        whole=life.whole,
        components=parts,
        energy_joules=sum(part.energy_joules for part in parts),
        ledger_energy_uj=found.energy_uj,
        ledger_settled_uj=found.energy_by_split_uj.get(Split.SETTLED.name.lower(), 0),
    )
