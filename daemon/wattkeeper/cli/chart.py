"""A stacked chart of power over time, in characters.

Each column is the mean of its steps. With colours a cell shows eighths; without them, layers are
told by shades; where not even those can be written, by plain characters.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

_COLORS = ("green", "cyan", "yellow", "magenta", "blue", "white")
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_SHADES = "█▓▒░▞·"
_PLAIN = "#+:.=-"
MOST_LAYERS = len(_COLORS)
_MARGIN = 8
"""Characters of a mark of the axis."""
_LABEL_EVERY = 16
"""Characters from one time under the chart to the next, at least."""


class Layer(NamedTuple):
    """A series of a chart; None where nothing was metered."""

    name: str
    values: Sequence[float | None]


class Look(NamedTuple):
    """How a chart is drawn: its size in characters, and what the terminal can show."""

    width: int
    height: int
    colors: bool
    blocks: bool


Column = list[float] | None
"""Values of the layers, the lowest first; None where nothing was metered."""


def look_of(console: Console, below: int) -> Look:
    """Return how a console shows charts, with so many lines `below`; 80 wide where it is piped."""
    encoded = (console.encoding or "").lower().replace("-", "").startswith("utf")
    if not console.is_terminal or console.is_dumb_terminal:
        return Look(80, 12, colors=False, blocks=encoded and not console.is_dumb_terminal)
    height = max(6, min(16, console.height - below)) // 2 * 2
    colors = not console.no_color and console.color_system is not None
    return Look(max(40, console.width), height, colors=colors and encoded, blocks=encoded)


def draw(
    layers: Sequence[Layer],
    since_ms: int,
    until_ms: int,
    look: Look,
    axis: Callable[[Sequence[float]], Sequence[str]],
) -> list[Text]:
    """Return the lines of a chart: its rows, the axis, its times and a legend.

    `layers`: MOST_LAYERS at most, drawn from the bottom. `axis` writes values, the greatest
    first.
    """
    columns = _columns(layers, look.width - _MARGIN - 2)
    top = _above(max((sum(column) for column in columns if column), default=0.0))
    marks = (0, look.height // 2, look.height)
    ticks = dict(zip(marks, axis((top, top / 2, 0.0)), strict=True))
    lines = []
    for row in range(look.height):
        line = Text(f"{ticks.get(row, ''):>{_MARGIN}} {'│' if look.blocks else '|'}", no_wrap=True)
        for column in columns:
            line.append_text(_cell(column, look, top, look.height - 1 - row))
        lines.append(line)
    corner, dash = ("└", "─") if look.blocks else ("+", "-")
    lines.append(Text(f"{ticks[look.height]:>{_MARGIN}} {corner}{dash * len(columns)}"))
    lines.append(Text(" " * (_MARGIN + 2) + _times(since_ms, until_ms, len(columns))))
    return [*lines, *_legend(layers, look, holes=None in columns)]


def _columns(layers: Sequence[Layer], width: int) -> list[Column]:
    steps = max((len(layer.values) for layer in layers), default=0)
    columns: list[Column] = []
    for at in range(width):
        first = at * steps // width
        last = max(first + 1, (at + 1) * steps // width)
        means = [_mean(layer.values[first:last]) for layer in layers]
        known = any(mean is not None for mean in means)
        columns.append([mean or 0.0 for mean in means] if known else None)
    return columns


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _above(value: float) -> float:
    """Return a round number that is not below a value."""
    if value <= 1:
        return 1.0
    ten = 10.0 ** math.floor(math.log10(value))
    return next(ten * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= ten * step)


def _cell(column: Column, look: Look, top: float, row: int) -> Text:
    """Return one cell; `row` counts from the bottom."""
    if column is None:
        return Text(" ")
    edges = [0.0]
    for value in column:
        edges.append(edges[-1] + max(0.0, value) / top * look.height)
    if not look.colors:
        middle = row + 0.5
        layer = next((i for i in range(len(column)) if edges[i] <= middle < edges[i + 1]), None)
        return Text(" " if layer is None else (_SHADES if look.blocks else _PLAIN)[layer])
    return _eighths(edges, row)


def _eighths(edges: Sequence[float], row: int) -> Text:
    """Return the two greatest layers of a cell: the lower one in eighths, the other behind it."""
    parts = [
        max(0.0, min(row + 1.0, above) - max(float(row), below)) for below, above in pairwise(edges)
    ]
    lower = next((i for i, part in enumerate(parts) if part >= 1 / 16), None)
    if lower is None:
        return Text(" ")
    filled = round(8 * (min(row + 1.0, edges[lower + 1]) - row))
    upper = max(range(lower + 1, len(parts)), key=lambda i: parts[i], default=None)
    empty = row + 1.0 - edges[-1]
    if upper is None or parts[upper] <= max(0.0, empty):
        return Text(_EIGHTHS[filled], _COLORS[lower])
    return Text(_EIGHTHS[filled], f"{_COLORS[lower]} on {_COLORS[upper]}")


def _legend(layers: Sequence[Layer], look: Look, *, holes: bool) -> list[Text]:
    """Return what the layers are called, in as many lines as that takes."""
    signs = _SHADES if look.blocks else _PLAIN
    words = []
    for number, layer in enumerate(layers):
        sign = Text("█" if look.colors else signs[number], _COLORS[number] if look.colors else "")
        words.append(sign.append(f" {layer.name}   ", "not bold default"))
    if holes:
        words.append(Text("(blank: not metered)"))
    lines = [Text(" " * (_MARGIN + 2))]
    for word in words:
        if lines[-1].cell_len + word.cell_len > look.width and lines[-1].plain.strip():
            lines.append(Text(" " * (_MARGIN + 2)))
        lines[-1].append_text(word)
    return lines


def _times(since_ms: int, until_ms: int, width: int) -> str:
    span_s = (until_ms - since_ms) / 1000
    form = "%H:%M:%S" if span_s < 1800 else "%H:%M" if span_s < 86_400 else "%m-%d %H:%M"
    if span_s > 10 * 86_400:
        form = "%Y-%m-%d"
    labels = max(1, width // _LABEL_EVERY)
    line = ""
    for number in range(labels + 1):
        at_ms = since_ms + (until_ms - since_ms) * number // labels
        text = datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)
        begin = min(width * number // labels, width - len(text))
        line = f"{line:<{begin}}{text}"
    return line
