"""`/v1/report`: who used how much, what it cost, and what it emitted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import Field

from wattkeeper.aggregator import periods, report_answers, report_views, times
from wattkeeper.aggregator.access.roles import USERS
from wattkeeper.aggregator.endpoint import Endpoint, Query
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.groups import is_group, kind_of
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.ledger.queries.report import DIMENSIONS, FILTERS, check_dimension, report
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model import grid

LIMIT_S = 60.0
"""How long a report may take. Its threads are its own: long ones hold up no other answer."""
_THREADS = 2


class ReportQuery(Query):
    """Which report."""

    by: str = Field("account", description=f"one of {', '.join(DIMENSIONS)}, label:KEY, group:KIND")
    since: str | None = Field(
        None,
        description="from this slot on: 2026-11-23T20:15:00Z, 2026-11-23, -24h; "
        "7 days before until",
    )
    until: str | None = Field(None, description="up to the end of this slot; now")
    period: str | None = Field(
        None,
        description="instead: 2026, 2026-Q1, 2026-03, 2026-W10, 2026-03-14, today, yesterday, "
        "this-month, last-month, this-year",
    )
    timezone: str = Field(
        "UTC", description="whose days and months they are: Europe/Berlin", max_length=100
    )
    series: Literal["hour", "day", "month"] | None = Field(
        None, description="tell the energy of each hour, day or month too"
    )
    cluster: str | None = Field(None, description="of this cluster only")
    user: str | None = Field(None, description="of jobs of this user only")
    account: str | None = Field(None, description="of jobs of this account only")
    partition: str | None = Field(None, description="of jobs of this partition only")
    limit: int = Field(
        10_000, ge=1, le=100_000, description="rows of groups, the largest; all others are one row"
    )


class Reporting:
    """Answers questions for reports, in threads of its own. Its methods block."""

    def __init__(
        self, ledger: Ledger, fleet: Fleet, pricing: Pricing, now_ms: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._pricing = pricing
        self._now_ms = now_ms
        self._pool = ThreadPoolExecutor(_THREADS, "report")

    def close(self) -> None:
        """Wait for reports that are being made; make no more. Blocks."""
        self._pool.shutdown(cancel_futures=True)

    def endpoint(self) -> Endpoint[ReportQuery]:
        """Return the endpoint."""
        summary = "Energy by group, its cost and carbon"
        return Endpoint(
            "/v1/report",
            summary,
            ReportQuery,
            report_answers.Report,
            self.report,
            who=USERS,
            pool=self._pool,
            limit_s=LIMIT_S,
        )

    def report(self, query: ReportQuery, scope: Scope | None) -> report_answers.Report:
        """Return a report, about the jobs of a scope only.

        Raises:
            ProblemError: a parameter that cannot be meant; names it.

        """
        by, groups = self._dimension(query.by)
        zone = periods.zone(query.timezone)
        now_ms, slot_ms = self._now_ms(), self._ledger.slot_ms
        if query.period is None:
            since_ms, until_ms = times.period(
                query.since,
                query.until,
                now_ms=now_ms,
                slot_ms=slot_ms,
                usual_ms=7 * grid.DAY_MS,
                zone=zone,
            )
        elif query.since is None and query.until is None:
            # Snapped one way, so that the periods of a calendar neither overlap nor leave a hole.
            since_ms, until_ms = (
                grid.floor(at_ms, slot_ms) for at_ms in periods.calendar(query.period, now_ms, zone)
            )
        else:
            raise ProblemError(400, "bad-period", "period is there instead of since and until")
        starts = []
        if query.series is not None:
            starts = periods.steps(query.series, since_ms, until_ms, zone, slot_ms)
        priced = self._pricing.at(since_ms, until_ms)
        only = {name: value for name in FILTERS if (value := getattr(query, name)) is not None}
        found = report(
            self._ledger,
            by,
            since_ms,
            until_ms,
            groups=groups,
            only=only,
            scope=scope,
            lines=(*priced.lines, *starts),
            most=query.limit,
        )
        asked = report_views.Asked(query.timezone, only, scope, query.series, starts, now_ms)
        return report_views.report(found, priced, asked)

    def _dimension(self, by: str) -> tuple[str, dict[str, str] | None]:
        if is_group(by):
            try:
                kind = kind_of(by, self._fleet.group_kinds)
            except ValueError as error:
                raise ProblemError(400, "bad-parameter", f"by: {error}", "by") from error
            return f"group:{kind}", self._fleet.members(kind)
        try:
            check_dimension(by)
        except ValueError as error:
            raise ProblemError(400, "bad-parameter", f"{error}, group:KIND", "by") from error
        return by, None
