"""What the ledger and the factors found, as `/v1/report` tells it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wattkeeper.aggregator import report_answers as answers
from wattkeeper.aggregator.pricing import Priced
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.worth_views import factors, valued
from wattkeeper.factors.worth import Worth, worth
from wattkeeper.ledger.queries.accuracy import grade_of
from wattkeeper.ledger.queries.report import Report, ReportRow
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.model.microjoules import joules, kwh

TOP = 12
"""Groups that have a row of their own in a series."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a report was asked for: `step` and `starts` of its series, None without one."""

    timezone: str
    only: Mapping[str, str]
    scope: Scope | None
    step: str | None
    starts: Sequence[int]
    now_ms: int


def report(found: Report, priced: Priced, asked: Asked) -> answers.Report:
    """Return a report with its rows, valued."""
    by = priced.valuation
    seconds = (min(found.until_ms, asked.now_ms) - found.since_ms) / 1000
    worths, whole = worth([by.amount(row.timed_uj) for row in found.rows], by)
    idle, all_idle = worth([by.amount(row.timed_idle_uj) for row in found.rows], by)
    figures = _sums(found.rows) | {"energy_uj": found.total_uj, "workload_uj": found.workload_uj}
    return answers.Report.model_validate(
        {
            "by": found.by,
            "since": rfc3339(found.since_ms),
            "until": rfc3339(found.until_ms),
            "as_of": rfc3339(asked.now_ms),
            "timezone": asked.timezone,
            "only": asked.only,
            "whose": _whose(asked.scope),
            **figures,
            **_derived(figures, seconds, whole, all_idle),
            "jobs": len({job.id for row in found.rows for job in row.by_job}),
            "coverage": found.coverage,
            "currency": priced.currency,
            "factors": factors(priced.factors),
            "rows": [
                _row(row, found.names) | _derived(_sums([row]), seconds, own, unused)
                for row, own, unused in zip(found.rows, worths, idle, strict=True)
            ],
            "series": None if asked.step is None else _series(found, asked),
        }
    )


def _whose(scope: Scope | None) -> dict[str, Any] | None:
    return None if scope is None else {"user": scope.user, "accounts": sorted(scope.accounts)}


def _sums(rows: Sequence[ReportRow]) -> dict[str, Any]:
    """Return what rows and the whole report tell alike, of one row or of all."""
    return {
        "energy_uj": sum(row.energy_uj for row in rows),
        "energy_by_component_uj": _added(row.by_component_uj for row in rows),
        "energy_by_accuracy_uj": _added(row.by_grade_uj for row in rows),
        "allocated_idle_uj": sum(row.allocated_idle_uj for row in rows),
        "gpu_seconds": sum(row.gpu_ms for row in rows) / 1000,
        "allocated_idle_gpu_seconds": sum(row.allocated_idle_gpu_ms for row in rows) / 1000,
    }


def _derived(figures: Mapping[str, Any], seconds: float, own: Worth, idle: Worth) -> dict[str, Any]:
    uj = figures["energy_uj"]
    return {
        "energy_kwh": kwh(uj),
        "allocated_idle_kwh": kwh(figures["allocated_idle_uj"]),
        "mean_watts": joules(uj) / seconds if seconds > 0 else None,
        "accuracy": grade_of(figures["energy_by_accuracy_uj"]),
        **valued(own),
        "allocated_idle_cost": idle.cost,
    }


def _row(row: ReportRow, names: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    by_state: dict[str, int] = {}
    for job in row.by_job:
        by_state[job.state] = by_state.get(job.state, 0) + job.uj
    return {
        **_sums([row]),
        "key": row.key or None,
        "kind": row.kind,
        "jobs": row.jobs,
        "energy_by_account_uj": row.by_account_uj,
        "energy_by_source_uj": row.by_source_uj,
        "energy_by_split_uj": row.by_split_uj,
        "energy_by_state_uj": by_state,
        "energy_of_jobs": _spread(row, names),
    }


def _spread(row: ReportRow, names: Mapping[int, tuple[str, str]]) -> dict[str, Any] | None:
    if not row.by_job:
        return None
    most = row.by_job[-1]
    named = names.get(most.id)
    middle = (len(row.by_job) - 1) // 2, len(row.by_job) // 2
    return {
        "least_uj": row.by_job[0].uj,
        "median_uj": sum(row.by_job[number].uj for number in middle) // 2,
        "most_uj": most.uj,
        "most_job": None if named is None else {"cluster": named[0], "job_id": named[1]},
    }


def _series(found: Report, asked: Asked) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    rest: dict[str, Any] = {"key": None, "kind": "rest", "energy_uj": [0] * len(asked.starts)}
    groups, left = 0, False
    for row in found.rows:
        groups += row.kind == "group"
        if row.kind == "rest" or (row.kind == "group" and groups > TOP):
            into, left = rest["energy_uj"], True
        else:
            rows.append({"key": row.key or None, "kind": row.kind})
            rows[-1]["energy_uj"] = into = [0] * len(asked.starts)
        for at_ms, uj in row.timed_uj.items():
            # The cell of an edge may begin before the first step.
            into[max(0, bisect_right(asked.starts, at_ms) - 1)] += uj
    if left:
        rows.append(rest)
    starts = [rfc3339(at_ms) for at_ms in asked.starts]
    return {"step": asked.step, "starts": starts, "rows": rows}


def _added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for one in parts:
        for name, uj in one.items():
            whole[name] = whole.get(name, 0) + uj
    return dict(sorted(whole.items()))
