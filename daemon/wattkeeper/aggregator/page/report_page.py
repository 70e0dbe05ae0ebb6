"""`/report`: energy by account, user and the like; also as one file that needs no network."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field

from wattkeeper.aggregator.endpoint import Query
from wattkeeper.aggregator.page.asking import Asker, Part
from wattkeeper.aggregator.page.charts import Chart, chart
from wattkeeper.aggregator.page.view import View
from wattkeeper.aggregator.page.words import query as query_string
from wattkeeper.ledger.queries.report import DIMENSIONS
from wattkeeper.units import seconds_between

_REPORT_S = 30.0
_OVER_TIME = ("user", "account", "partition", "namespace", "node")
"""Dimensions that the history knows too."""
_DAYS_S = 4 * 86_400
"""Periods from here on are told by the day."""
NOBODYS = {
    "idle": "nobody's: idle",
    "system": "nobody's: system",
    "overhead": "nobody's: overhead",
    "gap": "nobody's: gap",
    "other": "other",
}


class ReportPageQuery(Query):
    """Which report."""

    by: str = Field("account", description=f"one of {', '.join(DIMENSIONS)}, label:KEY, group:KIND")
    since: str = Field("-7d", description="from: 2026-11-01, -30d; whole slots")
    until: str | None = Field(None, description="to, the same way; now")


async def _see(asker: Asker, query: ReportPageQuery, template: str) -> View:
    since, until = query.since or "-7d", query.until or None
    report = await asker.ask("/v1/report", _REPORT_S, by=query.by, since=since, until=until)
    history = Part(None)
    if query.by in _OVER_TIME or query.by.startswith("group"):
        history = await asker.part(
            "/v1/telemetry",
            _REPORT_S,
            5,
            metric="energy",
            by=(report.by,),
            since=report.since,
            until=report.until,
            step=_step(report),
        )
    alone = template == "report_file.html"
    return View(template, partial(_report, query, report, history, alone=alone))


async def see_report(asker: Asker, query: ReportPageQuery) -> View:
    """Ask for a report, and for the same over time."""
    return await _see(asker, query, "report.html")


async def see_file(asker: Asker, query: ReportPageQuery) -> View:
    """Ask for the same, to be one file."""
    return await _see(asker, query, "report_file.html")


def _step(report: Any) -> str:
    lasts_s = seconds_between(report.since, report.until) or 0
    return "1d" if lasts_s >= _DAYS_S else "1h"


def _report(
    query: ReportPageQuery, report: Any, history: Part, *, alone: bool
) -> Mapping[str, Any]:
    rows = sorted(report.rows, key=lambda row: (row.kind != "group", -row.energy_uj))
    return {
        "here": "/report",
        "given": query.model_dump(),
        "dimensions": _offered(query.by),
        "report": report,
        "alone": alone,
        "rows": rows,
        "nobodys": NOBODYS,
        "most_uj": max((row.energy_uj for row in rows), default=0),
        "workload_uj": sum(row.energy_uj for row in rows if row.kind == "group"),
        "jobs": sum(row.jobs for row in rows if row.kind == "group"),
        "chart": _over_time(report, history),
        "chart_problem": history.problem,
        "as_of": report.as_of,
    }


def _offered(by: str) -> Sequence[str]:
    return DIMENSIONS if by in DIMENSIONS else (*DIMENSIONS, by)


def _over_time(report: Any, history: Part) -> Chart | None:
    if history.answer is None or not history.answer.series:
        return None
    each = "day" if history.answer.step_seconds >= 86_400 else "hour"
    asked = {"metric": "energy", "by": report.by, "since": report.since, "until": report.until}

    def name(labels: Mapping[str, str]) -> str:
        whose = labels.get(report.by)
        payer = labels.get("payer", "workload")
        return whose or (NOBODYS.get(payer, "(none)") if payer != "workload" else "(none)")

    source = f"/v1/telemetry{query_string({**asked, 'step': _step(report)})}"
    return chart(history.answer, f"Energy by {each}", name, source, "bars")
