"""From rows of panels to the JSON that Grafana reads."""

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery

from grafana.panels import Panel

TAG = "wattkeeper"
_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right; they wrap where a line of 24 columns is full."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. `since`: how far back it looks at first, as Grafana writes it (`now-6h`)."""

    uid: str
    title: str
    description: str
    variables: Sequence[Builder[model.VariableModel]]
    rows: Sequence[Row]
    since: str = "now-6h"


def rendered(board: Board) -> str:
    """Return the dashboard as JSON."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(board.since, "now")
        .refresh("1m")
        .variables(list(board.variables))
        .links([_links()])
        .build()
    )
    for variable in made.templating.list_val or ():
        # The SDK gives every variable what belongs to those of intervals.
        variable.auto = variable.auto_min = variable.auto_count = None
    made.panels = list(_placed(board.rows))
    return json.dumps(made, cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"


def _links() -> Builder[model.DashboardLink]:
    """Every dashboard leads to the others, with its time and variables."""
    return (
        build.DashboardLink("Wattkeeper")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )


def _placed(rows: Sequence[Row]) -> Iterator[model.Panel | model.RowPanel]:
    """Give every panel a number, a place, and letters to its queries: the SDK gives none."""
    ident, y = 0, 0
    for row in rows:
        ident += 1
        heading = model.GridPos(h=1, w=_COLUMNS, x=0, y=y)
        yield model.RowPanel(title=row.title, id_val=ident, grid_pos=heading, panels=[])
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            ident += 1
            if x + panel.width > _COLUMNS:
                x, y, height = 0, y + height, 0
            made = panel.made
            made.id_val = ident
            made.grid_pos = model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            for letter, target in zip(string.ascii_uppercase, made.targets or (), strict=False):
                if isinstance(target, Dataquery):
                    target.ref_id = letter
            yield made
            x, height = x + panel.width, max(height, panel.height)
        y += height
