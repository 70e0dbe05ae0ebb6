"""The few kinds of panels that the dashboards are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import (
    dashboard as build,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat

from grafana.variables import SOURCE

Steps = Sequence[tuple[float | None, str]]
"""Colours by the value from which on they count; the first counts from None on."""
PLAIN: Steps = ((None, "text"),)


@dataclass(frozen=True, slots=True)
class Query:
    """A query and what its series are called: `{{label}}` stands for a label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel and how much room it takes: columns of 24, and lines."""

    made: model.Panel
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Head:
    """What every panel says of itself. `unit` is Grafana's name of it."""

    title: str
    description: str
    unit: str
    width: int = 12
    height: int = 8


def over_time(
    head: Head,
    *queries: Query,
    stacked: bool = False,
    limit: float | None = None,
    top: bool = False,
) -> Panel:
    """Return lines over time, from 0 on. `limit` is drawn; with `top` the legend is a table."""
    legend = common.VizLegendOptions().placement(options.LegendPlacement.BOTTOM).show_legend(True)
    if top:
        legend = legend.calcs(["lastNotNull", "max"]).sort_by("Last *").sort_desc(True)
    table = options.LegendDisplayMode.TABLE if top else options.LegendDisplayMode.LIST
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        .show_points(options.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .legend(legend.display_mode(table))
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
    )
    if stacked:
        made = made.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if limit is not None:
        line = options.GraphThresholdsStyleMode.LINE
        made = made.thresholds(steps(((None, "transparent"), (limit, "red")))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(line)
        )
    return finish(head, made, queries)


def number(
    head: Head, query: Query, colours: Steps = PLAIN, *, decimals: int | None = None
) -> Panel:
    """Return one large number, as it is now."""
    made = (
        stat.Panel()
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(steps(colours))
    )
    if decimals is not None:
        made = made.decimals(decimals)
    return finish(head, made, (query,), instant=True)


def bars(head: Head, query: Query, colours: Steps = PLAIN, *, least: float, most: float) -> Panel:
    """Return a bar for each series, as it is now."""
    made = (
        bargauge.Panel()
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.GRADIENT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(least)
        .max(most)
        .thresholds(steps(colours))
    )
    return finish(head, made, (query,), instant=True)


def distribution(head: Head, query: Query) -> Panel:
    """Return a heat map over time of a histogram's buckets (`le`)."""
    made = (
        heatmap.Panel()
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(head.unit).axis_placement(options.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("short"))
        .cell_gap(1)
    )
    return finish(head, made, (query,), form=PromQueryFormat.HEATMAP)


def states(head: Head, query: Query, named: Sequence[tuple[str, str]]) -> Panel:
    """Return what was when, a line for each series; `named`: text and colour of 0, 1, and so on."""
    texts = {
        str(value): model.ValueMappingResult(text=text, color=colour, index=value)
        for value, (text, colour) in enumerate(named)
    }
    made = (
        statetimeline.Panel()
        .mappings([model.ValueMap(options=texts)])
        .merge_values(True)
        .show_value(options.VisibilityMode.AUTO)
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
        .thresholds(steps([(value or None, colour) for value, (_, colour) in enumerate(named)]))
    )
    return finish(head, made, (query,))


def steps(colours: Steps) -> build.ThresholdsConfig:
    """Return colours as Grafana has them."""
    made = [model.Threshold(value=value, color=colour) for value, colour in colours]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def finish(
    head: Head,
    builder: Builder[model.Panel],
    queries: Sequence[Query],
    *,
    instant: bool = False,
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> Panel:
    """Give a panel its head and its queries."""
    made = builder.build()
    made.title, made.description, made.datasource = head.title, head.description, SOURCE
    made.field_config = made.field_config or model.FieldConfigSource()
    made.field_config.defaults.unit = head.unit
    made.targets = [_target(query, form, instant=instant) for query in queries]
    return Panel(made, head.width, head.height)


def _target(query: Query, form: PromQueryFormat, *, instant: bool) -> Dataquery:
    made = prometheus.Dataquery().expr(query.expr).format(form).datasource(SOURCE)
    if query.legend:
        made = made.legend_format(query.legend)
    return (made.instant() if instant else made.range()).build()
