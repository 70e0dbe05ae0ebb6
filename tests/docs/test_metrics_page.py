"""`docs/metrics.md` lists every metric, and shows queries that answer what it says.

`metrics_head.md` is what it begins with.

Renew it with `python3 start.py test tests/docs --regenerate`.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.queries import QUERIES, series, shown
from wattkeeper.agent.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
AGENT = ROOT / "tests/fixtures/exposition/agent.prom"
AGGREGATOR = ROOT / "tests/fixtures/exposition/aggregator.prom"
HEAD = Path(__file__).with_name("metrics_head.md")
PROMTOOL = shutil.which("promtool")
SOURCES = ROOT / "daemon/wattkeeper/sources"


class Family(NamedTuple):
    """A metric as an exposition shows it."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()


def families(exposition: str) -> Iterator[Family]:
    """Yield the metrics of a text exposition, with every label that a sample of them has."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))
    for name, text in re.findall(r"^# HELP (\S+) (.*)$", exposition, re.MULTILINE):
        labels: dict[str, None] = {}
        for sample in re.findall(rf"^{name}{{(.*)}} ", exposition, re.MULTILINE):
            labels |= dict.fromkeys(re.findall(r'(\w+)="', sample))
        yield Family(name, kinds[name], text, tuple(labels))


def table(rows: Iterable[Family]) -> str:
    """Return the metrics as a Markdown table."""
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for row in rows:
        labels = " ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.text} |")
    return "\n".join(lines)


def agent_families() -> list[Family]:
    """Return every metric of the agent's table; labels as far as the golden exposition has them."""
    seen = {family.name: family for family in families(AGENT.read_text())}
    unseen = {
        name: Family(name, "counter" if name.endswith("_total") else "gauge", text)
        for name, text in ((f"wattkeeper_{n}", text) for n, text in FAMILIES.items())
    }
    return list((unseen | seen).values())


def page() -> str:
    """Return what `docs/metrics.md` has to say."""
    aggregator = table(families(AGGREGATOR.read_text()))
    return (
        f"{HEAD.read_text()}{shown()}\n## Agent (`:9745/metrics`)\n\n{table(agent_families())}\n\n"
        f"## Aggregator (`:9746/metrics`)\n\n{aggregator}\n"
    )


def test_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """The page lists what the programs export."""
    if request.config.getoption("--regenerate"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
def test_the_queries_answer(tmp_path: Path) -> None:
    """By Prometheus' own engine over known series: every join finds its one."""
    expected = [
        {
            "expr": query.text,
            "eval_time": "1d",
            "exp_samples": [{"labels": k, "value": v} for k, v in query.answer.items()],
        }
        for query in QUERIES
    ]
    known = [{"series": name, "values": values} for name, values in series().items()]
    test = {"interval": "1m", "input_series": known, "promql_expr_test": expected}
    file = tmp_path / "page.json"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    command = [str(PROMTOOL), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    """The engine does compare: the same with one value changed fails."""
    wrong = {"expr": "wattkeeper_allocated_idle_gpus", "eval_time": "1d", "exp_samples": []}
    known = [{"series": name, "values": values} for name, values in series().items()]
    test = {"interval": "1m", "input_series": known, "promql_expr_test": [wrong]}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    command = [str(PROMTOOL), "test", "rules", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_every_gauge_of_a_source_is_in_the_table() -> None:
    """A gauge that the table does not know would never reach `/metrics`."""
    named = re.compile(r'"((?:gpu|cpu|host)_\w+_(?:celsius|ratio|bytes|hertz|total|info|average))"')
    used = {name for file in SOURCES.glob("*.py") for name in named.findall(file.read_text())}
    assert used - set(FAMILIES) == set()
