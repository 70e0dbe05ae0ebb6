"""Closing a period: its statement, with what changed in the periods that were closed before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from wattkeeper import __version__
from wattkeeper.aggregator.pricing import Priced, Pricing
from wattkeeper.aggregator.statement_lines import (
    Key,
    Line,
    Lines,
    add,
    changes,
    read,
    total,
    write,
)
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.aggregator.worth_views import factors
from wattkeeper.factors.worth import worth
from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.report import ReportRow, report
from wattkeeper.ledger.statements import Statement, append, statements
from wattkeeper.ledger.store import Ledger

FORMAT = "wattkeeper-statement/1"

Body = Mapping[str, Any]
"""What a statement says."""


@dataclass(frozen=True, slots=True)
class Period:
    """What is closed: `name` as it was asked for, in `timezone`; [since, until) on slot lines."""

    name: str
    timezone: str
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Books:
    """What the books say of a time now. `nothing`: the line of an account that used nothing."""

    lines: Lines
    priced: Priced
    coverage: float | None
    nothing: Line


def books(ledger: Ledger, pricing: Pricing, since_ms: int, until_ms: int) -> Books:
    """Return what accounts used between two slot lines. Blocks, for as long as reports take."""
    priced = pricing.at(since_ms, until_ms)
    with ledger.reading() as connection:
        clusters = sorted(connection.scalars(sa.select(schema.node.c.cluster).distinct()))
    lines: Lines = {}
    coverage = None
    for cluster in clusters:
        only = {"cluster": cluster}
        found = report(ledger, "account", since_ms, until_ms, only=only, lines=priced.lines)
        coverage = found.coverage  # of the whole fleet, each time
        for row in found.rows:
            lines[Key(cluster, row.kind, row.key)] = _line(row, priced)
    known = priced.valuation.amount({})
    nothing = Line(
        money=None if known.cost is None else 0, milligrams=None if known.carbon is None else 0
    )
    return Books(lines, priced, coverage, nothing)


def _line(row: ReportRow, priced: Priced) -> Line:
    # Each line is rounded by itself: what changes in one must not move another.
    _, own = worth([priced.valuation.amount(row.timed_uj)], priced.valuation)
    return Line(
        row.jobs,
        row.energy_uj,
        row.allocated_idle_uj,
        row.gpu_ms,
        row.allocated_idle_gpu_ms,
        row.by_component_uj,
        own.money,
        own.milligrams,
    )


def stated(number: int, bodies: Sequence[Body]) -> Lines:
    """Return what a statement said, with all adjustments of it; `bodies`: of all statements."""
    lines: Lines = {}
    for said in bodies:
        if said["number"] == number:
            lines = read(said["rows"])
        for adjusted in said["adjustments"]:
            if adjusted["statement"] == number:
                lines = add(lines, read(adjusted["rows"]))
    return lines


def moved(ledger: Ledger, pricing: Pricing, statement: Statement, bodies: Sequence[Body]) -> Lines:
    """Return by how much the books of a closed period differ from what was stated of it.

    `bodies`: of all statements, intact.
    """
    now = books(ledger, pricing, statement.since_ms, statement.until_ms)
    (currency,) = (said["currency"] for said in bodies if said["number"] == statement.number)
    if currency != now.priced.currency:
        # Another currency is no change of what was paid.
        lines = {key: replace(line, money=None) for key, line in now.lines.items()}
        now = replace(now, lines=lines, nothing=replace(now.nothing, money=None))
    return changes(now.lines, stated(statement.number, bodies), now.nothing)


def close(ledger: Ledger, pricing: Pricing, period: Period, now_ms: int) -> Statement:
    """Write the statement of a period that is not closed yet; all others are intact. Blocks.

    Raises:
        LedgerError: it cannot be written, or another one was meanwhile.

    """
    closed = statements(ledger)
    bodies = [one.told() for one in closed]
    own = books(ledger, pricing, period.since_ms, period.until_ms)
    checked = balance(ledger, period.since_ms, period.until_ms)
    adjusted = {one.number: moved(ledger, pricing, one, bodies) for one in closed}
    adjustments = [
        {
            "statement": one.number,
            "period": one.period,
            "currency": said["currency"],
            "rows": write(adjusted[one.number]),
            "total": total(adjusted[one.number].values()).told(),
        }
        for one, said in zip(closed, bodies, strict=True)
        if adjusted[one.number]
    ]
    last = closed[-1] if closed else None
    body = {
        "format": FORMAT,
        "tool": f"wattkeeper {__version__}",
        "number": last.number + 1 if last else 1,
        "previous": last.hash if last else None,
        "period": period.name,
        "timezone": period.timezone,
        "since": rfc3339(period.since_ms),
        "until": rfc3339(period.until_ms),
        "closed": rfc3339(now_ms),
        "balanced": checked.balanced,
        "residual_uj": str(checked.residual_uj),
        "coverage": None if own.coverage is None else f"{own.coverage:.6f}",
        "currency": own.priced.currency,
        "factors": [_exact(one.model_dump()) for one in factors(own.priced.factors)],
        "rows": write(own.lines),
        "total": total(own.lines.values()).told(),
        "adjustments": adjustments,
    }
    return append(ledger, last, body, (period.since_ms, period.until_ms, now_ms))


def _exact(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with fractions as text: a statement holds none."""
    return {
        name: f"{value:.6f}" if isinstance(value, float) else value
        for name, value in values.items()
    }
