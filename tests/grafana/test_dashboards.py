"""The dashboards' files: as their code has them, and as Grafana's linter wants them.

The rules are those of grafana/dashboard-linter, written anew. Some are left out: variables for
`job` and `instance`, and their matchers in every query. Here a reader chooses clusters, groups,
nodes, accounts and jobs of a scheduler; `job` and `instance` of Prometheus would tell nothing.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from grafana.__main__ import FOLDER
from grafana.all import DASHBOARDS
from grafana.layout import Board, rendered

from tests.deploy.test_prometheus_rules import RECORDED
from tests.grafana.boards import BOARDS, panels, queries

_EVERY = [(uid, panel) for uid, board in BOARDS.items() for panel in panels(board)]
every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
_RATE = re.compile(r"\b(?:rate|irate|increase)\(")


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_files_are_as_their_code(board: Board) -> None:
    """Else: `python3 -m grafana`."""
    assert (FOLDER / f"{board.uid}.json").read_text() == rendered(board)


def test_every_file_is_a_dashboard_of_ours() -> None:
    """None is left over."""
    assert set(BOARDS) == {board.uid for board in DASHBOARDS}


@every_board
def test_cannot_be_edited_in_place(board: dict[str, Any]) -> None:
    """What is provisioned is changed in the code."""
    assert board["editable"] is False


@every_board
def test_data_source_is_a_variable(board: dict[str, Any]) -> None:
    """With the name that everybody's dashboards have, in every panel, query and variable."""
    first, *others = board["templating"]["list"]
    assert (first["type"], first["name"], first["label"]) == (
        "datasource",
        "datasource",
        "Data source",
    )
    source = {"type": "prometheus", "uid": "$datasource"}
    for one in others:
        assert one["type"] != "query" or one["datasource"] == source
    for panel in panels(board):
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])


@every_board
def test_variables_follow_the_time(board: dict[str, Any]) -> None:
    """Those that are asked for are asked again when the time range changes, and are described."""
    for variable in board["templating"]["list"]:
        assert variable["label"]
        assert variable["description"]
        assert variable["type"] != "query" or variable["refresh"] == 2


@every_board
def test_leads_to_the_others(board: dict[str, Any]) -> None:
    """By tag, with its variables and its time."""
    assert board["tags"] == ["wattkeeper"]
    (link,) = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["wattkeeper"])
    assert link["includeVars"]
    assert link["keepTime"]


def test_links_of_cells_lead_somewhere() -> None:
    """To a dashboard of ours, to a variable that it has."""
    for board in BOARDS.values():
        for uid, variable in re.findall(r"/d/([\w-]+)\?var-(\w+)=", str(board)):
            assert variable in {one["name"] for one in BOARDS[uid]["templating"]["list"]}


@every_board
def test_panels_are_numbered_and_placed(board: dict[str, Any]) -> None:
    """Numbers are there once, letters of queries once a panel; nothing lies on anything else."""
    idents = [panel["id"] for panel in board["panels"]]
    assert max(Counter(idents).values()) == 1
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGH"[: len(letters)])


def test_panels_say_what_they_show() -> None:
    """Title, description, unit, and at least one query."""
    for uid, panel in _EVERY:
        assert panel["title"], uid
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


def test_titles_are_there_once() -> None:
    """In a dashboard: a reader says which panel is meant by its title."""
    titles = Counter((uid, panel["title"]) for uid, panel in _EVERY)
    assert max(titles.values()) == 1


def _calls(expr: str) -> Iterator[str]:
    """Yield what stands in the brackets of each rate or increase."""
    for found in _RATE.finditer(expr):
        depth, at = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(expr[at], 0)
            at += 1
        yield expr[found.end() : at - 1]


def test_rates_fit_the_scrapes() -> None:
    """A rate over time is over `$__rate_interval`; a total is over what is shown, or whole days."""
    allowed = {"range": {"$__rate_interval"}, "instant": {"$__range", "30d", "1d"}}
    for asked in queries():
        for inside in _calls(asked.expr):
            (window,) = re.findall(r"\[([^\]]+)\]", inside)
            kinds = allowed["instant" if asked.instant else "range"] | {"$__range"}
            assert window in kinds, asked


def test_counters_are_never_shown_as_they_are() -> None:
    """Nor is an `increase` ever one of a job's: the table "Which question goes where"."""
    for asked in queries():
        inside = " ".join(_calls(asked.expr))
        assert "wattkeeper_job_" not in inside, asked
        for name in re.findall(r"\b[\w:]+_total\b(?::max)?", asked.expr):
            total_of_a_job = name.startswith("wattkeeper_job_")
            assert total_of_a_job or name in inside, asked


def test_recorded_series_are_recorded() -> None:
    """What a query expects of the rules is there."""
    used = {name for asked in queries() for name in re.findall(r"\b[a-z]+:\w+:\w+\b", asked.expr)}
    assert used
    assert used <= RECORDED


def test_variables_of_queries_exist() -> None:
    """Every `$name` is a variable of its dashboard, or Grafana's own."""
    for asked in queries():
        names = {one["name"] for one in BOARDS[asked.board]["templating"]["list"]}
        used = set(re.findall(r"\$([a-z_]\w*)", asked.expr))
        assert used <= names | {"__rate_interval", "__range"}, asked
