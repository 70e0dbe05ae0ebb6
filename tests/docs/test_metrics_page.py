"""`docs/metrics.md` lists every metric.

Renew it with `python3 start.py test tests/docs --regenerate`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from wattkeeper.agent.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
AGENT = ROOT / "tests/fixtures/exposition/agent.prom"
AGGREGATOR = ROOT / "tests/fixtures/exposition/aggregator.prom"
SOURCES = ROOT / "daemon/wattkeeper/sources"

HEAD = """\
# Metrics

Generated from the programs' own expositions; do not edit. Base units throughout, ratios 0 to 1.
Device series carry `node` (and `cluster`, if it is configured) and no label of a job: join them by
`wattkeeper_holder_ratio` and `wattkeeper_workload_info`.
"""


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
        f"{HEAD}\n## Agent (`:9745/metrics`)\n\n{table(agent_families())}\n\n"
        f"## Aggregator (`:9746/metrics`)\n\n{aggregator}\n"
    )


def test_page_is_up_to_date(request: pytest.FixtureRequest) -> None:
    """The page lists what the programs export."""
    if request.config.getoption("--regenerate"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_every_gauge_of_a_source_is_in_the_table() -> None:
    """A gauge that the table does not know would never reach `/metrics`."""
    named = re.compile(r'"((?:gpu|cpu|host)_\w+_(?:celsius|ratio|bytes|hertz|total|info|average))"')
    used = {name for file in SOURCES.glob("*.py") for name in named.findall(file.read_text())}
    assert used - set(FAMILIES) == set()
