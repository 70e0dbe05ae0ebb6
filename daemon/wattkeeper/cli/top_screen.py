"""What is on the screen of `wattkeeper top`: which view, in which order, from which row on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import set_cell_size
from rich.style import Style
from rich.text import Text

from wattkeeper.cli.output import clean, instant, watts
from wattkeeper.cli.top_rows import (
    COLUMNS,
    FIRST_SORT,
    VIEWS,
    Answers,
    Column,
    View,
    in_order,
    rows,
)

HELP = """\
 tab, 1 2 3      nodes, GPUs, jobs
 ← →, s          sort by another column
 r               the other way round
 /               only rows with these words; enter keeps them, escape drops them
 ↑ ↓ page home   move
 space           stop and go on
 q               end

 power, temperature and utilization are those of the last delivery of each node.
 idle: GPUs that a job holds and on which nothing runs."""
_ABOVE_BELOW = 4
"""Lines that are not rows: the fleet, the views, the header, the keys."""
_HOT_C = 85


@dataclass(slots=True)
class Screen:
    """The state that keys change. Nothing here waits or asks."""

    view: View = "nodes"
    words: str = ""
    sorts: dict[View, str] = field(default_factory=lambda: dict(FIRST_SORT))
    reversed: dict[View, bool] = field(default_factory=dict)
    at: int = 0
    typing: bool = False
    helping: bool = False
    paused: bool = False
    ended: bool = False
    _count: int = 0
    _page: int = 20

    @property
    def reverse(self) -> bool:
        """Whether the greatest comes first: for figures it does, unless told otherwise."""
        key = self.sorts[self.view]
        column = next(one for one in COLUMNS[self.view] if one.key == key)
        return self.reversed.get(self.view, not column.left and key != "gpu")

    def press(self, key: str) -> None:
        """Take a key."""
        if self.typing:
            self._type(key)
        elif self.helping:
            self.helping = False
        elif (act := self._acts().get(key)) is not None:
            act()

    def _acts(self) -> dict[str, Callable[[], None]]:
        acts: dict[str, Callable[[], None]] = {
            "q": lambda: setattr(self, "ended", True),
            "?": lambda: setattr(self, "helping", True),
            "h": lambda: setattr(self, "helping", True),
            "/": lambda: setattr(self, "typing", True),
            " ": lambda: setattr(self, "paused", not self.paused),
            "escape": lambda: setattr(self, "words", ""),
            "r": lambda: self.reversed.update({self.view: not self.reverse}),
            "s": lambda: self._sort(1),
            "right": lambda: self._sort(1),
            "left": lambda: self._sort(-1),
            "tab": lambda: self._turn(1),
            "backtab": lambda: self._turn(-1),
            "up": lambda: self._move(self.at - 1),
            "down": lambda: self._move(self.at + 1),
            "k": lambda: self._move(self.at - 1),
            "j": lambda: self._move(self.at + 1),
            "pageup": lambda: self._move(self.at - self._page),
            "pagedown": lambda: self._move(self.at + self._page),
            "home": lambda: self._move(0),
            "end": lambda: self._move(self._count),
        }
        for number, view in enumerate(VIEWS, 1):
            acts[str(number)] = lambda view=view: self._show(view)  # type: ignore[misc]
        return acts

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.typing = False
            self.words = "" if key == "escape" else self.words
        elif key == "backspace":
            self.words = self.words[:-1]
        elif len(key) == 1 and key.isprintable():
            self.words += key
        self.at = 0

    def _sort(self, by: int) -> None:
        keys = [column.key for column in COLUMNS[self.view]]
        self.sorts[self.view] = keys[(keys.index(self.sorts[self.view]) + by) % len(keys)]
        self.reversed.pop(self.view, None)

    def _turn(self, by: int) -> None:
        self._show(VIEWS[(VIEWS.index(self.view) + by) % len(VIEWS)])

    def _show(self, view: View) -> None:
        self.view, self.at = view, 0

    def _move(self, to: int) -> None:
        self.at = max(0, min(to, self._count - self._page))

    def listed(self, answers: Answers) -> list[dict[str, Any]]:
        """Return the rows of the view, in order."""
        found = rows(self.view, answers)
        return in_order(found, self.sorts[self.view], reverse=self.reverse, words=self.words)

    def frame(self, answers: Answers | None, trouble: str, width: int, height: int) -> list[Text]:
        """Return the lines of a frame, `height` of them."""
        listed = [] if answers is None else self.listed(answers)
        self._count, self._page = len(listed), max(1, height - _ABOVE_BELOW)
        self._move(self.at)
        columns = COLUMNS[self.view]
        lines = [_fleet(answers, width), self._views(width), self._header(width)]
        if self.helping:
            lines += [Text(line) for line in HELP.splitlines()]
        else:
            lines += [_line(columns, row, width) for row in listed[self.at :][: self._page]]
        lines = lines[: height - 1]
        lines += [Text("")] * (height - 1 - len(lines))
        lines.append(self._footer(trouble, width))
        for line in lines:
            line.truncate(width)
        return lines

    def _views(self, width: int) -> Text:
        line = Text()
        for number, view in enumerate(VIEWS, 1):
            name = "GPUs" if view == "gpus" else view
            line.append(f" {number} {name} ", "reverse" if view == self.view else "")
            line.append(" ")
        if self.typing or self.words:
            line.append(f"  / {self.words}{'▏' if self.typing else ''}", "bold")
        shown = min(self._page, self._count - self.at)
        place = f"{self.at + 1 if self._count else 0}-{self.at + shown} of {self._count}"
        line.append(place.rjust(max(1, width - line.cell_len)))
        return line

    def _header(self, width: int) -> Text:
        line = Text(style="bold")
        for column in COLUMNS[self.view]:
            mine = column.key == self.sorts[self.view]
            mark = ("↓" if self.reverse else "↑") if mine else ""
            text = _cell(column, f"{column.header}{mark}", _width(column, line.cell_len, width))
            line.append(text, "underline" if mine else "")
        return line

    def _footer(self, trouble: str, width: int) -> Text:
        if trouble:
            return Text(set_cell_size(f" {trouble}", width), "white on red")
        if self.paused:
            return Text(set_cell_size(" stopped; space goes on", width), "reverse")
        keys = " q end  tab view  ←→ sort  r reverse  / filter  ? help"
        return Text(set_cell_size(keys, width), "dim")


def _fleet(answers: Answers | None, width: int) -> Text:
    line = Text("wattkeeper", "bold")
    if answers is None:
        return line.append("  waiting for the first answer", "not bold dim")
    fleet = answers.fleet
    idle = sum(fleet["allocated_idle_gpus"].values())
    nodes = fleet["nodes"]
    silent = nodes["silent"] + nodes["conflict"]
    line.append(f"  {watts(fleet['watts'])}")
    line.append(f"  {fleet['gpus']:,} GPUs", "not bold")
    line.append(f", {idle} idle" if idle else "", "yellow")
    line.append(f"  {nodes['live']:,} nodes", "not bold")
    line.append(f", {silent} silent" if silent else "", "red")
    return line.append(instant(fleet["as_of"])[11:].rjust(max(1, width - line.cell_len)), "dim")


def _line(columns: Sequence[Column], row: dict[str, Any], width: int) -> Text:
    line = Text()
    for column in columns:
        text = clean(column.say(row[column.key]))
        line.append(_cell(column, text, _width(column, line.cell_len, width)), _style(column, row))
    return line


def _width(column: Column, used: int, width: int) -> int:
    return column.width or max(0, width - used)


def _cell(column: Column, text: str, width: int) -> str:
    """Return text as wide as its column, with a space at its end; what is longer is cut."""
    room = max(0, width - 1)
    fitted = Text(text)
    fitted.truncate(room, overflow="ellipsis")
    pad = " " * (room - fitted.cell_len)
    return (f"{fitted.plain}{pad}" if column.left else f"{pad}{fitted.plain}") + " " * min(1, width)


def _style(column: Column, row: dict[str, Any]) -> str | Style:
    value = row[column.key]
    if column.key == "state":
        return {"live": "green", "off": "dim"}.get(value, "red")
    if column.key == "celsius" and value is not None and value >= _HOT_C:
        return "bold red"
    if column.key == "use" and value == "idle":
        return "yellow"
    if column.key == "idle" and value:
        return "yellow"
    return "cyan" if column.key in ("job", "who", "user") else ""
