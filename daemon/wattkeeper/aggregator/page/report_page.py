"""`/report`: energy by account, user and the like; also as one file that needs no network."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from wattkeeper.aggregator.page.asking import Asker
from wattkeeper.aggregator.page.charts import Chart, energy_chart
from wattkeeper.aggregator.page.view import View
from wattkeeper.aggregator.page.words import query as query_string
from wattkeeper.aggregator.reporting import ReportQuery
from wattkeeper.ledger.queries.report import DIMENSIONS
from wattkeeper.units import seconds_between

_REPORT_S = 30.0
_FEW_S = 3 * 86_400
_ROWS = 500
"""Rows of the page; the file has all."""
_PARTS = ("gpu", "cpu", "dram", "host")
NOBODYS = {
    "idle": "nobody's: idle",
    "system": "nobody's: system",
    "overhead": "nobody's: overhead",
    "gap": "nobody's: gap",
    "other": "other",
    "rest": "all others",
}


async def _see(asker: Asker, query: ReportQuery, template: str) -> View:
    """Ask for a report by the day; where that would be a few bars only, by the hour."""
    asked: dict[str, Any] = {name: value or None for name, value in query.model_dump().items()}
    asked["series"] = query.series or "day"
    report = await asker.ask("/v1/report", _REPORT_S, **asked)
    if query.series is None and (seconds_between(report.since, report.until) or 0) < _FEW_S:
        asked["series"] = "hour"
        report = await asker.ask("/v1/report", _REPORT_S, **asked)
    return View(template, partial(_report, asked, report, alone=template == "report_file.html"))


async def see_report(asker: Asker, query: ReportQuery) -> View:
    """Ask for a report, with its energy over time."""
    return await _see(asker, query, "report.html")


async def see_file(asker: Asker, query: ReportQuery) -> View:
    """Ask for the same, to be one file."""
    return await _see(asker, query, "report_file.html")


def _report(asked: Mapping[str, Any], report: Any, *, alone: bool) -> Mapping[str, Any]:
    rows = sorted(report.rows, key=lambda row: (row.kind != "group", -row.energy_uj))
    return {
        "here": "/report",
        "given": asked,
        "dimensions": _offered(asked["by"]),
        "report": report,
        "alone": alone,
        "rows": rows if alone else rows[:_ROWS],
        "left": 0 if alone else max(0, len(rows) - _ROWS),
        "name": _name,
        "parts": [part for part in _PARTS if part in report.energy_by_component_uj],
        "most_uj": max((row.energy_uj for row in rows), default=0),
        "chart": _chart(asked, report),
        "as_of": report.as_of,
    }


def _offered(by: str) -> Sequence[str]:
    return DIMENSIONS if by in DIMENSIONS else (*DIMENSIONS, by)


def _chart(asked: Mapping[str, Any], report: Any) -> Chart | None:
    if not report.series or not report.series.rows:
        return None
    source = f"/v1/report{query_string(asked)}"
    return energy_chart(report, f"Energy by {report.series.step}", _name, source)


def _name(row: Any) -> str:
    return NOBODYS[row.kind] if row.kind != "group" else row.key or "(none)"
