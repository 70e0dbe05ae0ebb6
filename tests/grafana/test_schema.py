"""The dashboards' files against the types that Grafana publishes (`@grafana/schema`)."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from tests.grafana.boards import BOARDS

SHAPES = Path(__file__).parents[1] / "fixtures/grafana/shapes.json"
_SCHEMA = json.loads(SHAPES.read_text())
_KINDS = frozenset(_SCHEMA["definitions"]["Shapes"]["properties"])


def _complaints(kind: str, value: Any) -> Iterator[str]:
    """Yield what is wrong with a value of a kind: a dashboard, a row, or a type of panel."""
    assert kind in _KINDS, f"add {kind} to {SHAPES.with_name('shapes.ts')}"
    place = f"#/definitions/Shapes/properties/{kind}"
    validator = Draft7Validator({**_SCHEMA, "$ref": place})
    for error in validator.iter_errors(value):
        yield f"{error.json_path}: {error.message}"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_dashboards_are_as_grafana_has_them(board: dict[str, Any]) -> None:
    """The dashboard itself, and every panel by its own type."""
    assert [] == list(_complaints("dashboard", board))
    for panel in board["panels"]:
        assert [] == list(_complaints(panel["type"], panel)), panel["title"]


def test_mistakes_are_found() -> None:
    """An option of another panel, a misspelt one, and a place that is no number."""
    board = BOARDS["wattkeeper-fleet"]
    (panel, *_) = (one for one in board["panels"] if one["type"] == "timeseries")
    for path, value in (
        (("options", "graphMode"), "area"),
        (("fieldConfig", "defaults", "custom", "lineWitdh"), 1),
        (("gridPos", "w"), "12"),
    ):
        wrong = copy.deepcopy(panel)
        *parents, name = path
        at = wrong
        for parent in parents:
            at = at[parent]
        at[name] = value
        assert list(_complaints("timeseries", wrong)), path
