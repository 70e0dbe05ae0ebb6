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
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": QUIET, "exp_samples": []},
            {"expr": firing, "eval_time": FIRING, "exp_samples": expected},
        ],
    }
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


def test_every_alert_says_what_to_do() -> None:
    """Severity, part, summary, description, dashboard, and a section of the runbook."""
    sections = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert sections == set(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["labels"]) == {"severity", "part"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


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
