"""Every query and every rule on a real Prometheus that scraped real agents on simulated devices."""

import json
import re
import subprocess
import sys
import time

import pytest

from tests.deploy.test_prometheus_rules import rules
from tests.e2e.programs import ROOT, fetch, until
from tests.grafana.boards import BOARDS, filled, panels, queries
from tests.grafana.conftest import Running
from tests.grafana.engines import Prometheus
from tests.grafana.site import GPUS, HOT, LASTS_S, NODES, SILENT, SLOT_S, STEP_S

pytestmark = [pytest.mark.engines, pytest.mark.xdist_group("grafana")]

MAY_BE_EMPTY = {
    ("wattkeeper-fleet", "Top accounts: 30 days against the 30 before", "B"): "needs two months",
    ("wattkeeper-accounts", "Accounts in the time shown", "B"): "needs as long a time before",
    ("wattkeeper-health", "What agents missed", "C"): "simulated jobs are not marked by a daemon",
}
"""Queries that have no answer on this site, and why."""


def _values(engine: Prometheus) -> dict[str, str]:
    """Return a value for every variable, as a reader would choose them."""
    ((labels, _),) = engine.instant(
        "topk(1, job:wattkeeper_gpu_power_watts:sum"
        " * on (manager, workload) group_left (job_id) wattkeeper_workload_info)"
    ).items()
    job = dict(labels)
    held = engine.instant(f'wattkeeper_holder_ratio{{workload="{job["workload"]}"}}')
    return {
        "cluster": ".*",
        "kind": "rack",
        "group": ".*",
        "node": "sim001",
        "account": ".*",
        "budget": ".*",
        "job": job["job_id"],
        "workload": job["workload"],
        "place": "|".join(sorted({dict(labels)["node"] for labels in held})),
        "__rate_interval": "1m",
        "__range": f"{LASTS_S}s",
    }


def _found(engine: Prometheus, expr: str, *, instant: bool) -> bool:
    if instant:
        return bool(engine.instant(expr))
    now_s = time.time()
    answer = engine.ask(
        "query_range", query=expr, start=str(now_s - LASTS_S), end=str(now_s), step="15"
    )
    return bool(answer["result"])


def test_every_query_of_a_dashboard_answers(running: Running) -> None:
    """With values for its variables, but for those that are named with a reason."""
    values = _values(running.prometheus)
    empty = {
        asked.name
        for asked in queries()
        if not _found(running.prometheus, filled(asked.expr, values), instant=asked.instant)
    }
    assert empty == set(MAY_BE_EMPTY)


def test_every_variable_has_values(running: Running) -> None:
    """What a dashboard lets its reader choose from is there."""
    values = _values(running.prometheus)
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            asked = filled(variable["query"]["query"], values)
            series, _, label = asked.removeprefix("label_values(").rstrip(")").rpartition(", ")
            found = running.prometheus.instant(f"group by ({label}) ({series})")
            assert found, f"{board['title']}: {variable['name']}"


def test_every_rule_is_evaluated(running: Running) -> None:
    """No rule has an error on real series, and every recorded one has samples."""
    rules = [rule for group in running.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert [] == [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"]
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    assert all(running.prometheus.instant(name) for name in recorded)


def test_scraped_as_configured(running: Running) -> None:
    """Agents are found by the aggregator's list; `up` has their cluster and node."""
    up = running.prometheus.instant('max by (cluster, node) (up{job="wattkeeper"})')
    nodes = {dict(labels)["node"]: value for labels, value in up.items()}
    assert nodes == {f"sim{i + 1:03}": float(f"sim{i + 1:03}" != SILENT) for i in range(NODES)}
    assert {dict(labels)["cluster"] for labels in up} == {"simulated"}


def test_heat_map_has_every_gpu(running: Running) -> None:
    """A cell for each GPU of each node that is scraped."""
    (panel,) = (p for p in panels(BOARDS["wattkeeper-fleet"]) if "Heat map of every" in p["title"])
    expr = filled(panel["targets"][0]["expr"], _values(running.prometheus))
    cells = {
        (dict(labels)["node"], dict(labels)["gpu"]) for labels in running.prometheus.instant(expr)
    }
    assert {(HOT, str(gpu)) for gpu in range(GPUS)} <= cells


def test_a_hot_gpu_calls_somebody(running: Running) -> None:
    """From the device through agent, Prometheus and Alertmanager to a webhook, as a page."""
    alert = until(
        "the page", lambda: running.pager.alerts("/page").get("WattkeeperGpusHot"), deadline_s=30
    )
    assert alert["labels"] | {"rack": "r2", "cluster": "simulated"} == alert["labels"]
    said = alert["annotations"]
    assert said["summary"] == "1 node(s) of rack r2 have GPUs at their limit of heat."
    assert said["description"].startswith(f"{HOT}: 87 °C.")
    assert said["runbook_url"] == "docs/runbook.md#wattkeepergpushot"


def test_a_silent_node_silences_the_rest(running: Running) -> None:
    """Nothing else is told of it; of another node of its rack everything is."""

    def held_back() -> bool:
        alerts = json.loads(fetch(f"{running.alertmanager_url}/api/v2/alerts"))
        names = {one["labels"]["alertname"] for one in alerts if one["status"]["inhibitedBy"]}
        return "WattkeeperBudgetNear" in names

    until("inhibition", held_back)
    pager = running.pager
    until("a page", lambda: "WattkeeperPowerBudgetExceeded" in pager.alerts("/page"))
    until("a ticket", lambda: "WattkeeperNodesSilent" in pager.alerts("/ticket"))
    until("another", lambda: "WattkeeperGpusThrottled" in pager.alerts("/ticket"))
    until("of a neighbour", lambda: "WattkeeperSourcesUnwell" in pager.alerts("/ticket"))
    unscraped = 'ALERTS{alertname="WattkeeperNodesNotScraped"}'
    until("nothing else of it", lambda: not running.prometheus.instant(unscraped))


def test_total_of_a_job_is_that_of_the_books(running: Running) -> None:
    """To the joule: it is the books' own figure."""
    values = _values(running.prometheus)
    (panel,) = (p for p in panels(BOARDS["wattkeeper-job"]) if p["title"] == "Energy so far")
    ((_, watt_hours),) = running.prometheus.instant(
        filled(panel["targets"][0]["expr"], values)
    ).items()
    url = f"{running.site.aggregator.url}/v1/jobs/simulated/{values['job']}"
    answer = json.loads(fetch(url))
    jobs = answer.get("jobs", [answer])
    assert watt_hours * 3600e6 == pytest.approx(int(jobs[-1]["energy_uj"]), rel=1e-6)


def _unrecorded(expr: str) -> str:
    """Return an expression with what is recorded worked out on the spot, at every scrape.

    The rules have recorded this site's last seconds only: they go by the clock on the wall.
    """

    def rule(found: re.Match[str]) -> str:
        name, chosen, window = found.groups()
        metric = name.split(":")[1]
        (recorded,) = (one["expr"] for one in rules() if one.get("record") == name)
        return f"({recorded.replace(metric, metric + chosen)})[{window}:{STEP_S}s]"

    return re.sub(r"(account:\w+:max)(\{.*?\})\[(\w+)\]", rule, expr)


def test_totals_of_accounts_are_those_of_the_report(running: Running) -> None:
    """Over a slot of the books at whose ends everything was delivered, account by account."""
    end_s = running.site.fleet.time.now_ms // 1000 // SLOT_S * SLOT_S
    since, until_ = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s)) for at_s in (end_s - SLOT_S, end_s)
    )
    (panel,) = (
        p
        for p in panels(BOARDS["wattkeeper-accounts"])
        if p["title"] == "Accounts in the time shown"
    )
    # Since version 3 a range leaves out a sample at its very beginning.
    values = _values(running.prometheus) | {"__range": f"{SLOT_S}s1ms"}
    expr = _unrecorded(filled(panel["targets"][0]["expr"], values))
    answer = running.prometheus.ask("query", query=expr, time=str(end_s))
    shown = {row["metric"].get("account", ""): float(row["value"][1]) for row in answer["result"]}
    report = subprocess.run(
        [
            sys.executable, "-m", "wattkeeper", "report", "--by", "account", "--since", since,
            "--until", until_, "--url", running.site.aggregator.url, "--format", "json",
        ],
        check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "daemon")},
    )  # fmt: skip
    booked = {
        row["key"]: int(row["energy_uj"]) / 3600e6
        for row in json.loads(report.stdout)["rows"]
        if row["key"]
    }
    assert len(booked) > 2
    assert {name: shown[name] for name in booked} == pytest.approx(booked, rel=0.001)
