"""Who may do what, from a manifest of the repository."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/aggregator-rbac.yaml"


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one kind of resource."""

    verb: str
    group: str
    resource: str


def documents(path: Path = MANIFEST) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    parts = path.read_text(encoding="utf-8").split("\n---\n")
    return [msgspec.yaml.decode(part, type=dict[str, Any]) for part in parts]


def rights(path: Path = MANIFEST) -> frozenset[Right]:
    """Return all that a manifest's roles allow."""
    return frozenset(
        Right(verb, group, resource)
        for document in documents(path)
        if document["kind"] == "ClusterRole"
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )
