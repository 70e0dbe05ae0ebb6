"""The rules for Prometheus: every alert fires when it should, and only then."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.alert_cases import CASES, FIRING, QUIET, Case

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/prometheus"
FILES = sorted((DEPLOY / "rules").glob("*.yml"))
RUNBOOK = ROOT / "docs/runbook.md"
PROMTOOL = shutil.which("promtool")
VMALERT = shutil.which("vmalert")
AMTOOL = shutil.which("amtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule of every file."""
    for file in FILES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def _labels(case: Case) -> str:
    own = {"alertname": case.alert, "alertstate": "firing", **ALERTS[case.alert]["labels"]}
    return ", ".join(f'{key}="{value}"' for key, value in (own | case.labels).items())


def _run(folder: Path, cases: Sequence[Case]) -> "subprocess.CompletedProcess[str]":
    """Let promtool tell what fires: Prometheus keeps that as the series `ALERTS`."""
    series = {name: values for case in cases for name, values in case.series.items()}
    expected = [{"labels": f"ALERTS{{{_labels(case)}}}", "value": 1} for case in cases]
    firing = 'ALERTS{alertstate="firing"}'
    test = {
        "interval": "1m",
        "input_series": _series(series),
        "promql_expr_test": [
            {"expr": firing, "eval_time": QUIET, "exp_samples": []},
            {"expr": firing, "eval_time": FIRING, "exp_samples": expected},
        ],
    }
    return _promtool(folder, test)


def _series(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": some} for name, some in values.items()]


def _promtool(folder: Path, test: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    file = folder / "rules_test.json"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(one) for one in FILES], "tests": [test]}))
    command = [str(PROMTOOL), "test", "rules", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_alert_has_a_case() -> None:
    """One that fires and is quiet before; none is left out, none is there twice."""
    assert sorted(ALERTS) == sorted(case.alert for case in CASES)


@pytest.mark.promtool
@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """By Prometheus' own engine: quiet while all is well, then each, and nothing else."""
    done = _run(tmp_path, CASES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
@needs_promtool
def test_budgets_are_told_by_what_their_level_is_judged_by(tmp_path: Path) -> None:
    """Demand that the interval before exceeded, and its forecast; or no ratio at all."""
    series = {
        'wattkeeper_budget_info{instance="a",budget="feed",kind="demand"}': "1x20",
        'wattkeeper_budget_level{instance="a",budget="feed",level="hard"}': "1x20",
        'wattkeeper_budget_level{instance="a",budget="feed",level="forecast"}': "1x20",
        'wattkeeper_budget_level{instance="a",budget="feed",level="warn"}': "1x20",
        'wattkeeper_budget_used_ratio{instance="a",budget="feed"}': "0.02x9 stale",
        'wattkeeper_budget_before_ratio{instance="a",budget="feed"}': "1.14x9 stale",
        'wattkeeper_budget_forecast_ratio{instance="a",budget="feed"}': "1.06x9 stale",
    }
    said = {
        "WattkeeperPowerBudgetExceeded": (
            "Power budget feed is exceeded: 114% of its limit.",
            "Power budget feed is exceeded.",
        ),
        "WattkeeperDemandForecast": (
            "Demand of feed is going to end above its limit: at 106% of it.",
            "Demand of feed is going to end above its limit.",
        ),
        "WattkeeperBudgetNear": ("Budget feed is past its warning level.",) * 2,
    }
    near = ("It is going to end at 106% of its limit.", "")
    tests = []
    for alert, texts in said.items():
        labels = ALERTS[alert]["labels"] | {"budget": "feed", "kind": "demand"}
        for at, (minute, summary) in enumerate(zip(("8m", "18m"), texts, strict=True)):
            told = ALERTS[alert]["annotations"] | {
                "summary": summary,
                "runbook_url": f"docs/runbook.md#{alert.lower()}",
                "dashboard": "http://localhost:3000/d/wattkeeper-budgets",
            }
            if alert == "WattkeeperBudgetNear":
                told["description"] = near[at]
            expected = [{"exp_labels": labels, "exp_annotations": told}]
            tests.append({"eval_time": minute, "alertname": alert, "exp_alerts": expected})
    test = {"interval": "1m", "input_series": _series(series), "alert_rule_test": tests}
    done = _promtool(tmp_path, test)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
@needs_promtool
def test_a_wrong_alert_is_found(tmp_path: Path) -> None:
    """The engine does compare: a case that expects another label fails."""
    wrong = CASES[-1]._replace(labels={"instance": "another"})
    done = _run(tmp_path, [wrong])
    assert done.returncode != 0
    assert "another" in done.stdout + done.stderr


@pytest.mark.promtool
@needs_promtool
def test_configuration_is_valid() -> None:
    """Prometheus' own checker likes the example with all of its rules."""
    command = [str(PROMTOOL), "check", "config", str(DEPLOY / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
@pytest.mark.skipif(AMTOOL is None, reason="amtool is not installed")
def test_alertmanager_configuration_is_valid() -> None:
    """Alertmanager's own checker likes the example."""
    command = [str(AMTOOL), "check-config", str(DEPLOY / "alertmanager.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.engines
@pytest.mark.skipif(VMALERT is None, reason="vmalert is not installed")
def test_another_engine_takes_the_rules() -> None:
    """VictoriaMetrics' vmalert, by parsers of its own, reads every expression and template."""
    command = [str(VMALERT), "-dryRun", f"-rule={DEPLOY / 'rules'}/*.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _link(label: str) -> str:
    """Return the template of an address that a site sets once, in `links.yml`."""
    first = f'{{{{ . | first | label "{label}" }}}}'
    return f'{{{{ with query "wattkeeper:links:info" }}}}{first}{{{{ end }}}}'


def test_every_alert_says_what_to_do() -> None:
    """Severity, part, summary, description, dashboard, and a section of the runbook."""
    sections = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert sections == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["labels"]) == {"severity", "part"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard"}
        assert rule["annotations"]["runbook_url"] == f"{_link('runbook')}#{name.lower()}"
        assert rule["annotations"]["dashboard"].startswith(f"{_link('grafana')}/d/wattkeeper-")


def test_what_is_used_is_recorded() -> None:
    """A threshold or a recorded series with a wrong name would keep an alert quiet for ever."""
    used = {
        name
        for rule in rules()
        for name in re.findall(r"\b\w+:\w+:\w+\b", rule["expr"] + str(rule.get("annotations")))
    }
    assert used - RECORDED == set()


def test_thresholds_stand_in_one_place() -> None:
    """No alert compares with a number of its own; all of those in the file are used."""
    thresholds = {name for name in RECORDED if name.startswith("wattkeeper:threshold:")}
    text = " ".join(rule["expr"] for rule in ALERTS.values())
    assert set(re.findall(r"scalar\((wattkeeper:threshold:\w+)\)", text)) == thresholds
    assert set(re.findall(r"[<>]=?\s*(-?[\d.]+)", text)) <= {"0"}


def test_inhibition_names_alerts() -> None:
    """What Alertmanager is to silence are alerts of ours."""
    text = (DEPLOY / "alertmanager.yml").read_text()
    assert set(re.findall(r"Wattkeeper\w+", text)) <= set(ALERTS)
