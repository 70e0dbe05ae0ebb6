"""The committed dashboards, as Grafana reads them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[2] / "grafana/dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))
}


class Asked(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    ref: str
    expr: str
    instant: bool

    @property
    def name(self) -> tuple[str, str, str]:
        """By what it is found."""
        return self.board, self.panel, self.ref


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard; rows are none."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel


def queries() -> Iterator[Asked]:
    """Yield every query of every dashboard."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                instant = bool(target.get("instant"))
                yield Asked(uid, panel["title"], target["refId"], target["expr"], instant)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with Grafana's variables in it replaced, the longest names first."""
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${name}", values[name])
    return text
