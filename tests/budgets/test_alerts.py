"""Alerts are named as the rules in `deploy/prometheus` name them."""

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from wattkeeper.budgets.alerts import alert
from wattkeeper.budgets.budget import Kind
from wattkeeper.budgets.levels import Level
from wattkeeper.ledger.breaches import Breach

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules/budgets.yml"
LEVELS = [
    (kind, level)
    for kind in Kind
    for level in Level
    if (kind, level) != (Kind.WATTS, Level.FORECAST)
]


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_names_and_labels_of_the_rules(kind: Kind, level: Level) -> None:
    """Name, severity, part and runbook: what routes one routes the other."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    detail = json.dumps({"kind": kind.value, "scope": "fleet", "limit": 10**12, "top": []})
    told = alert(Breach(1, "site", level.value, 0, None, 1.2, 1.0, detail), "")
    rule = rules[told.labels["alertname"]]
    assert rule["labels"] == {name: told.labels[name] for name in ("severity", "part")}
    assert rule["annotations"]["runbook_url"].endswith(told.annotations["runbook_url"])
    assert f'level="{level.value}"' in rule["expr"]
    assert kind.value in rule["expr"]
