"""Budgets in `/metrics`: limits, how they stand, and where they are going."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wattkeeper.budgets.budget import Kind
from wattkeeper.budgets.levels import Level
from wattkeeper.budgets.status import STATES, Status
from wattkeeper.budgets.telling import Counts
from wattkeeper.model.microjoules import joules

_Value = Callable[[Status], float | None]


@dataclass(frozen=True, slots=True)
class BudgetFigures:
    """How budgets stood last, and what was told of them; None where nobody is told from here.

    `watched`: there are some, whether or not they were evaluated yet.
    """

    found: Sequence[Status] = ()
    alerts: Counts | None = None
    watched: bool = False


NO_BUDGETS = BudgetFigures()


def budgets(figures: BudgetFigures, since_ms: int | None) -> Iterator[Metric]:
    """Yield the metrics of budgets and alerts; what is not known has no sample.

    `since_ms`: since when budgets should be evaluated here.
    """
    if figures.found:
        yield from _budgets(figures.found)
    evaluated_ms = max((one.at_ms for one in figures.found), default=since_ms)
    if figures.watched and evaluated_ms is not None:
        yield GaugeMetricFamily(
            "wattkeeper_budget_evaluated_timestamp_seconds",
            "When budgets were evaluated last; before that, when this aggregator began to lead.",
            value=evaluated_ms / 1000,
        )
    if figures.alerts is not None:
        yield from _alerts(figures.alerts)


def _alerts(counts: Counts) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "wattkeeper_alerts_sent",
        "Alerts and ends of alerts that the receiver took, repeats included.",
        value=float(counts.sent),
    )
    yield CounterMetricFamily(
        "wattkeeper_alerts_failures", "Times that it did not.", value=float(counts.failures)
    )
    yield GaugeMetricFamily(
        "wattkeeper_alerts_waiting",
        "Alerts and ends of alerts that it has not heard of yet.",
        value=float(counts.waiting),
    )


def _budgets(found: Sequence[Status]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "wattkeeper_budget_info",
        "A budget, what it limits and what it is of; always 1.",
        labels=("budget", "kind", "scope", "parent"),
    )
    level = GaugeMetricFamily(
        "wattkeeper_budget_level",
        "1 while a level is reached; warn, going to be exceeded (forecast), exceeded (hard).",
        labels=("budget", "level"),
    )
    state = GaugeMetricFamily(
        "wattkeeper_budget_state",
        "1 for the state of a budget: the highest level it has reached, ok, off or unknown.",
        labels=("budget", "state"),
    )
    for one in found:
        info.add_metric([one.name, one.kind, one.scope_kind, one.parent], 1)
        for reached in Level:
            level.add_metric([one.name, reached.value], float(reached.value in one.levels))
        for named in STATES:
            state.add_metric([one.name, named], float(named == one.state))
    yield from (info, level, state)
    for name, text, value in _GAUGES:
        gauge = GaugeMetricFamily(f"wattkeeper_budget_{name}", text, labels=("budget",))
        for one in found:
            seen = value(one)
            if seen is not None:
                gauge.add_metric([one.name], seen)
        yield gauge


def _of_power(one: Status) -> float | None:
    return None if one.kind == Kind.ENERGY else one.limit / 1000


def _of_energy(one: Status) -> float | None:
    return joules(one.limit) if one.kind == Kind.ENERGY else None


def _energy_ratio(one: Status) -> float | None:
    return None if one.kind == Kind.WATTS else one.ratio


def _end(one: Status) -> float | None:
    return None if one.kind == Kind.WATTS else one.end_ms / 1000


_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("watts", "The limit on power, or on the mean power of a billed interval.", _of_power),
    ("joules", "The limit on the energy of a period.", _of_energy),
    ("warn_ratio", "Part of the limit from which on it warns.", lambda one: one.warn_at),
    ("power_watts", "Power of what the budget is of, now.", lambda one: one.watts),
    (
        "energy_ratio",
        "What is used of the energy that the running period or billed interval allows.",
        _energy_ratio,
    ),
    (
        "used_ratio",
        "What is compared with the limit: power, or what is used of the running interval.",
        lambda one: one.ratio,
    ),
    (
        "before_ratio",
        "What the billed interval before the running one used of what it allows.",
        lambda one: one.before_ratio,
    ),
    (
        "peak_ratio",
        "The highest billed interval of the month, as a part of what it allows.",
        lambda one: one.peak_ratio,
    ),
    (
        "forecast_ratio",
        "What will be used at the end of the running interval, as a part of the limit.",
        lambda one: None if one.forecast is None else one.forecast.ratio,
    ),
    (
        "forecast_low_ratio",
        "Lower end of the band that holds nine of ten errors of the forecast.",
        lambda one: None if one.forecast is None else one.forecast.low_ratio,
    ),
    (
        "forecast_high_ratio",
        "Upper end of the band that holds nine of ten errors of the forecast.",
        lambda one: None if one.forecast is None else one.forecast.high_ratio,
    ),
    (
        "coverage_ratio",
        "How complete the reading is: silent nodes are missing in it.",
        lambda one: one.coverage,
    ),
    (
        "silent_nodes",
        "Nodes of the budget that say nothing now.",
        lambda one: float(one.silent_nodes),
    ),
    ("end_timestamp_seconds", "End of the running period or billed interval.", _end),
)
