"""Breaches as alerts, in the words of Alertmanager: its API version 2, and its webhook version 4.

The names and labels are those of the rules in `deploy/prometheus`, so that what routes one routes
the other. All that an alert says stands in its breach: it is the same after a restart.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wattkeeper.budgets.budget import Kind
from wattkeeper.budgets.levels import Level
from wattkeeper.ledger.breaches import Breach
from wattkeeper.units import energy, percent, watts

_NAMES = {
    (Kind.WATTS, Level.HARD): ("WattkeeperPowerBudgetExceeded", "page"),
    (Kind.DEMAND, Level.HARD): ("WattkeeperPowerBudgetExceeded", "page"),
    (Kind.DEMAND, Level.FORECAST): ("WattkeeperDemandForecast", "page"),
    (Kind.ENERGY, Level.HARD): ("WattkeeperEnergyBudgetExceeded", "ticket"),
    (Kind.ENERGY, Level.FORECAST): ("WattkeeperEnergyBudgetForecast", "ticket"),
}
_NEAR = ("WattkeeperBudgetNear", "ticket")
_SAYS = {
    Level.HARD: "has reached",
    Level.FORECAST: "is going to end at",
    Level.WARN: "is at",
}
_NEVER = "0001-01-01T00:00:00Z"
"""How Alertmanager's webhooks write that an alert has not ended."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A breach as it is told. `ends_ms` is None while it goes on."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_ms: int
    ends_ms: int | None


@dataclass(frozen=True, slots=True)
class Links:
    """Where alerts lead: this aggregator's page, and the runbook, whose sections are anchors."""

    page: str = ""
    runbook: str = "docs/runbook.md"


def alert(breach: Breach, runbook: str) -> Alert:
    """Return what is told of a breach."""
    told = json.loads(breach.detail or "{}")
    kind, level = Kind(told.get("kind", Kind.WATTS)), Level(breach.level)
    name, severity = _NAMES.get((kind, level), _NEAR)
    labels = {
        "alertname": name,
        "budget": breach.budget,
        "kind": kind.value,
        "level": level.value,
        "severity": severity,
        "part": "power",
    }
    limit = energy(told.get("limit")) if kind is Kind.ENERGY else watts(told.get("limit", 0) / 1000)
    summary = f"Budget {breach.budget} {_SAYS[level]} {percent(breach.worst)} of its {limit}."
    named = ", ".join(
        f"{one['kind']} {one['name']} ({watts(one['watts'])})"
        for one in told.get("top", [])
        if one["watts"] is not None
    )
    parts = [f"It is of: {told.get('scope', 'fleet')}."]
    if named:
        parts.append(f"Most was drawn by {named}.")
    if breach.coverage is not None and breach.coverage < 1:
        parts.append(f"Only {percent(breach.coverage)} of it was metered.")
    annotations = {
        "summary": summary,
        "description": " ".join(parts),
        "runbook_url": f"{runbook}#{name.lower()}",
    }
    return Alert(labels, annotations, breach.from_ms, breach.to_ms)


def for_alertmanager(found: Sequence[Breach], until_ms: int, links: Links) -> list[dict[str, Any]]:
    """Return the body of POST /api/v2/alerts.

    What goes on ends at `until_ms` unless it is told again: an aggregator that is gone for good
    leaves no alert behind.
    """
    return [
        {
            "labels": dict(one.labels),
            "annotations": dict(one.annotations),
            "startsAt": _time(one.starts_ms),
            "endsAt": _time(until_ms if one.ends_ms is None else one.ends_ms),
            **({"generatorURL": links.page} if links.page else {}),
        }
        for one in (alert(one, links.runbook) for one in found)
    ]


def for_webhook(found: Sequence[Breach], links: Links) -> dict[str, Any]:
    """Return the body of a webhook about one budget; it fires while any of its levels does."""
    alerts = [alert(one, links.runbook) for one in found]
    fires = any(one.ends_ms is None for one in alerts)
    group = {"budget": alerts[0].labels["budget"]}
    return {
        "version": "4",
        "groupKey": f'wattkeeper:{{budget="{group["budget"]}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if fires else "resolved",
        "receiver": "wattkeeper",
        "groupLabels": group,
        "commonLabels": _common([one.labels for one in alerts]),
        "commonAnnotations": _common([one.annotations for one in alerts]),
        "externalURL": links.page,
        "alerts": [
            {
                "status": "firing" if one.ends_ms is None else "resolved",
                "labels": dict(one.labels),
                "annotations": dict(one.annotations),
                "startsAt": _time(one.starts_ms),
                "endsAt": _NEVER if one.ends_ms is None else _time(one.ends_ms),
                "generatorURL": links.page,
                "fingerprint": _fingerprint(one.labels),
            }
            for one in alerts
        ],
    }


def _common(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first = found[0]
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in found)
    }


def _fingerprint(labels: Mapping[str, str]) -> str:
    text = json.dumps(labels, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _time(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
