"""Answers for people and for programs: `--format table|json|csv`, and units that read well."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wattkeeper.units import UNKNOWN, clean, energy, instant, percent, span, watts

__all__ = [
    "UNKNOWN",
    "Format",
    "clean",
    "console",
    "emit_csv",
    "emit_json",
    "energy",
    "instant",
    "percent",
    "span",
    "table",
    "watts",
]
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

Format = Literal["table", "json", "csv"]


class _Console(Console):
    """A console that leaves a closed pipe to `main`; rich would end the program with 1, a "no"."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Return a console on standard output; when piped, lines are as long as they need to be."""
    if sys.stdout.isatty():
        return _Console(highlight=False)
    return _Console(highlight=False, width=220, no_color=True)


def emit_json(answer: Any) -> None:
    """Print the answer as JSON."""
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def emit_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as CSV with a header; lists are joined with spaces, missing values are empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])


def _inert(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: `=HYPERLINK(…)` as `'=HYPERLINK(…)`.

    Numbers stay as they are, also negative ones.
    """
    shown = clean(text)
    if shown.startswith(("=", "+", "-", "@")) and not _NUMBER.fullmatch(shown):
        return f"'{shown}"
    return shown


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(str(item) for item in value)
    if isinstance(value, str):
        return _inert(value)
    return "" if value is None else value


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> Table:
    """Return a table: first column to the left, and those whose header starts with `<`."""
    drawn = Table(
        box=box.SIMPLE_HEAD if sys.stdout.isatty() else None,
        show_edge=False,
        collapse_padding=True,
        title=title or None,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for number, header in enumerate(headers):
        left = number == 0 or header.startswith("<")
        drawn.add_column(
            header.removeprefix("<"),
            justify="left" if left else "right",
            no_wrap=not left,
            overflow="ellipsis",
        )
    # Where a column must shrink, a name is cut in its line, never wrapped into the next.
    space = "\u00a0" if sys.stdout.isatty() and console().encoding.startswith("utf") else " "
    for row in rows:
        drawn.add_row(*(escape(clean(cell)).replace(" ", space) for cell in row))
    return drawn
