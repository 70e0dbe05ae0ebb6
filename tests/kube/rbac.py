"""Who may do what, from the manifests of the repository."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/manifests/wattkeeper.yaml"
_KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one kind of resource."""

    verb: str
    group: str
    resource: str


@cache
def documents() -> tuple[dict[str, Any], ...]:
    """Return the aggregator's account, role and binding."""
    parts = MANIFEST.read_text(encoding="utf-8").split("\n---\n")
    found = [msgspec.yaml.decode(part, type=dict[str, Any]) for part in parts]
    named = {item["kind"]: item for item in found if item["metadata"]["name"].endswith("gregator")}
    return tuple(named[kind] for kind in _KINDS)


def rights() -> frozenset[Right]:
    """Return all that the role allows."""
    return frozenset(
        Right(verb, group, resource)
        for rule in documents()[1]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )
