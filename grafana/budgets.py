"""Budgets: how near the limits are, and what the forecasts say."""

from grafana.fleet import USED
from grafana.layout import Board, Row
from grafana.panels import Head, Query, over_time, states
from grafana.tables import Column, listing
from grafana.variables import BUDGET, DATASOURCE

_ONE = 'budget=~"$budget"'


def _of(metric: str) -> str:
    """Return a figure of each budget, whichever aggregator says it."""
    return f"max by (budget) (wattkeeper_budget_{metric}{{{_ONE}}})"


_NAMED = (
    "* on (budget) group_left (kind, scope) "
    f"max by (budget, kind, scope) (wattkeeper_budget_info{{{_ONE}}})"
)
_TABLE = listing(
    Head(
        "Budgets now",
        "Used: of watts now, of the demand's running interval, of the period's energy. The largest "
        "contributors: `wattkeeper budgets`.",
        "percentunit",
        width=24,
    ),
    (
        f"{_of('used_ratio')} {_NAMED}",
        f"{_of('forecast_ratio')} {_NAMED}",
        f"{_of('watts')} {_NAMED}",
        f"{_of('power_watts')} {_NAMED}",
        f"{_of('joules')} / 3600 {_NAMED}",
        f"{_of('coverage_ratio')} {_NAMED}",
        f"{_of('end_timestamp_seconds')} * 1000 {_NAMED}",
    ),
    (
        Column("budget", "Budget"),
        Column("kind", "Kind"),
        Column("scope", "Of"),
        Column("Value #A", "Used", colours=USED, most=1.2, bar=True),
        Column("Value #B", "Forecast", unit="percentunit", colours=USED),
        Column("Value #C", "Limit", unit="watt"),
        Column("Value #D", "Power", unit="watt"),
        Column("Value #E", "Limit of energy", unit="watth"),
        Column("Value #F", "Coverage", unit="percentunit"),
        Column("Value #G", "Ends", unit="dateTimeAsIso"),
    ),
    by="Used",
    empty="no budgets are configured",
)
_STATES = states(
    Head(
        "State over time",
        "Past its warning, forecast to end above its limit, or above it: what the alerts see.",
        "short",
        width=24,
        height=6,
    ),
    Query(
        f'max by (budget) (wattkeeper_budget_level{{{_ONE}, level="warn"}} '
        f'or 2 * wattkeeper_budget_level{{{_ONE}, level="forecast"}} '
        f'or 3 * wattkeeper_budget_level{{{_ONE}, level="hard"}})',
        "{{budget}}",
    ),
    (("ok", "green"), ("near", "yellow"), ("forecast", "orange"), ("exceeded", "red")),
)
_POWER = over_time(
    Head(
        "Power and limit", "Of budgets in watts and of demand: what is drawn, what may be.", "watt"
    ),
    Query(_of("power_watts"), "{{budget}}"),
    Query(_of("watts"), "{{budget}}: limit"),
)
_USED = over_time(
    Head("Used of the limit", "The red line is the limit.", "percentunit"),
    Query(_of("used_ratio"), "{{budget}}"),
    limit=1,
)
_FORECAST = over_time(
    Head(
        "Forecast for the end of the interval or period",
        "With the band that holds nine of ten. The red line is the limit.",
        "percentunit",
    ),
    Query(_of("forecast_ratio"), "{{budget}}"),
    Query(_of("forecast_low_ratio"), "{{budget}}: at least"),
    Query(_of("forecast_high_ratio"), "{{budget}}: at most"),
    limit=1,
)
_CERTAIN = over_time(
    Head(
        "How complete the readings are",
        "Nodes that are silent lower it: the true figure is then higher than what is shown.",
        "percentunit",
    ),
    Query(_of("coverage_ratio"), "{{budget}}"),
)

BOARD = Board(
    "wattkeeper-budgets",
    "Wattkeeper: Budgets",
    "How near the limits of power, demand and energy are, and what the forecasts say.",
    (DATASOURCE, BUDGET),
    (
        Row("Now", (_TABLE, _STATES)),
        Row("Over time", (_POWER, _USED, _FORECAST, _CERTAIN)),
    ),
)
