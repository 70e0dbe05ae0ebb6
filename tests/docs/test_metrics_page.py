"""`docs/metrics.md` lists every metric.

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

from wattkeeper.agent.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
AGENT = ROOT / "tests/fixtures/exposition/agent.prom"
AGGREGATOR = ROOT / "tests/fixtures/exposition/aggregator.prom"
PROMTOOL = shutil.which("promtool")
SOURCES = ROOT / "daemon/wattkeeper/sources"

HEAD = """\
# Metrics

Generated from the programs' own expositions; do not edit. Base units throughout, ratios 0 to 1.
Device series carry `node` (and `cluster`, if it is configured) and no label of a job: join them by
`wattkeeper_holder_ratio` and `wattkeeper_workload_info`.

## Scraping

```yaml
scrape_configs:
  - job_name: wattkeeper
    http_sd_configs: [{url: "http://aggregator:9746/v1/prometheus/targets"}]
  - job_name: wattkeeper-aggregator
    static_configs: [{targets: ["aggregator:9746"]}]
```

An agent is listed under the address that it advertises: `advertise`, else its name where it listens
on more than the loopback. It stays listed when it is silent, so that `up == 0` tells. Its cluster,
name and groups are meta labels (`__meta_wattkeeper_node`, …) for relabeling.

## Questions to start from

```promql
# power of every GPU, with its model
wattkeeper_gpu_power_watts * on (node, uuid) group_left (model) wattkeeper_gpu_info
# who holds what, with account and partition
wattkeeper_holder_ratio
  * on (manager, workload) group_left (account, partition) wattkeeper_workload_info
# energy of a job so far (never `increase` of a job's series: it misses its beginning)
sum by (workload) (last_over_time(wattkeeper_job_energy_joules_total[1h]))
# energy of each account today
sum by (account) (increase(wattkeeper_account_energy_joules_total[1d]))
# must be 0; page somebody if not
wattkeeper_ledger_problems
# silent nodes; sources that are denied or failing
wattkeeper_nodes{state="silent"}
wattkeeper_source_state{state=~"denied|failing"} == 1
```
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


@pytest.mark.promtool
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
def test_the_queries_can_be_asked(tmp_path: Path) -> None:
    """The real promtool parses each of them, as a recording rule."""
    block = HEAD.partition("```promql\n")[2].partition("```")[0]
    queries = [query for query in re.split(r"^#.*\n", block, flags=re.MULTILINE) if query.strip()]
    single = [" ".join(query.split()) for query in queries[:-1]] + queries[-1].splitlines()
    rules = [{"record": f"q:{n}", "expr": query} for n, query in enumerate(single)]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    command = [str(PROMTOOL), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, len(rules)) == (done.returncode, 7), done.stderr


def test_every_gauge_of_a_source_is_in_the_table() -> None:
    """A gauge that the table does not know would never reach `/metrics`."""
    named = re.compile(r'"((?:gpu|cpu|host)_\w+_(?:celsius|ratio|bytes|hertz|total|info|average))"')
    used = {name for file in SOURCES.glob("*.py") for name in named.findall(file.read_text())}
    assert used - set(FAMILIES) == set()
