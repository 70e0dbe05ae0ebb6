"""Tables: what is so now, a line for each thing."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.panels import Head, Panel, Query, Steps, finish, steps

_SOURCE_AND_TIME = "${datasource:queryparam}&${__url_time_range}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `field` is a label, or `Value #A`, … of a query; `Value` where there is one.

    `link`: the dashboard about what stands here, and the variable that takes it. `colours` paint
    the cell, `bar` fills it up to `most`.
    """

    field: str
    title: str
    unit: str = ""
    link: tuple[str, str] | None = None
    colours: Steps = ()
    most: float | None = None
    bar: bool = False

    def properties(self) -> list[model.DynamicConfigValue]:
        """Return what of Grafana's defaults is different here."""
        # Else an empty cell would say what an empty table says.
        found: list[tuple[str, object]] = [("noValue", "-")]
        if self.unit:
            found.append(("unit", self.unit))
        if self.link is not None:
            uid, variable = self.link
            url = f"/d/{uid}?var-{variable}=${{__value.raw}}&{_SOURCE_AND_TIME}"
            found.append(("links", [{"title": f"{self.title} in detail", "url": url}]))
        if self.colours:
            kind = {"type": "gauge", "mode": "basic"} if self.bar else {"type": "color-background"}
            found.append(("custom.cellOptions", kind))
            found.append(("thresholds", steps(self.colours).build()))
            found.append(("color", {"mode": "thresholds"}))
        if self.most is not None:
            found += [("min", 0), ("max", self.most)]
        return [model.DynamicConfigValue(id_val=name, value=value) for name, value in found]


def listing(
    head: Head, queries: Sequence[str], columns: Sequence[Column], *, by: str, empty: str = ""
) -> Panel:
    """Return a table of instant queries joined by their labels, the greatest of `by` first.

    `empty`: what stands there if there is nothing to list.
    """
    names = {column.field: column.title for column in columns}
    places = {column.field: place for place, column in enumerate(columns)}
    made = (
        table.Panel()
        .cell_height(options.TableCellHeight.SM)
        .sort_by([common.TableSortByFieldState().display_name(by).desc(True)])
        .with_transformation(_step("merge"))
        .with_transformation(_step("filterFieldsByName", include={"names": list(names)}))
        .with_transformation(_step("organize", indexByName=places, renameByName=names))
    )
    if empty:
        made = made.no_value(empty)
    for column in columns:
        made = made.override_by_name(column.title, column.properties())
    asked = [Query(expr) for expr in queries]
    return finish(head, made, asked, instant=True, form=PromQueryFormat.TABLE)


def grid(head: Head, query: str, colours: Steps, *, rows: Column, across: str) -> Panel:
    """Return a coloured cell for each pair of two labels, as it is now. Rows may be linked."""
    plain = model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "auto"})
    made = (
        table.Panel()
        .cell_height(options.TableCellHeight.SM)
        .thresholds(steps(colours))
        .cell_options(options.TableColoredBackgroundCellOptions())
        .with_transformation(
            _step(
                "groupingToMatrix",
                rowField=rows.field,
                columnField=across,
                valueField="Value",
                emptyValue="null",
            )
        )
        .override_by_name(f"{rows.field}\\{across}", [plain, *rows.properties()])
    )
    asked = [Query(query)]
    return finish(head, made, asked, instant=True, form=PromQueryFormat.TABLE)


def _step(name: str, **how: object) -> model.DataTransformerConfig:
    return model.DataTransformerConfig(id_val=name, options=how)
