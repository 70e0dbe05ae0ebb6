"""The chart's files, its presets, and a release of it."""

import fnmatch
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

from tests.chart.render import TemplateError, Templates
from tests.chart.syntax import Node, parse

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
CHART = KUBERNETES / "chart/wattkeeper"
NAMESPACE = "wattkeeper"
NOTES = "NOTES.txt"
PRESETS = ("", *sorted(path.stem.removeprefix("values-") for path in CHART.glob("values-*.yaml")))
"""Names of the files with values for a kind of cluster; `` is the chart as it is."""

_HEADER = f"""\
# Made from the chart by `pytest tests/chart --regenerate`: change that, not this.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    # The agent sees the host's processes and folders. Nothing in here is a privileged container.
    pod-security.kubernetes.io/enforce: privileged
"""

Object = dict[str, Any]


def load(name: str) -> Any:
    """Return a YAML file of the chart."""
    return yaml.load((CHART / name).read_text(encoding="utf-8"), yaml.CSafeLoader)


def values(preset: str = "", given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return all values: the chart's, over them the preset's, over them those that are given.

    Raises:
        jsonschema.ValidationError: the chart's schema refuses them.

    """
    merged = load("values.yaml")
    if preset:
        _merge(merged, load(f"values-{preset}.yaml") or {})
    _merge(merged, given or {})
    jsonschema.validate(merged, json.loads((CHART / "values.schema.json").read_text()))
    return dict(merged)


def render(preset: str = "", given: Mapping[str, Any] | None = None, service: str = "Helm") -> str:
    """Return the manifests as `helm template wattkeeper` does. `service`: who manages them.

    Raises:
        TemplateError: the chart refuses the values.

    """
    templates, files = _parsed()
    dot = _dot(preset, given, service)
    return "".join(
        f"---\n# Source: wattkeeper/templates/{name}\n{text.strip()}\n"
        for name, nodes in files.items()
        if name != NOTES and (text := templates.render(nodes, dot)).strip()
    )


def notes(preset: str = "", given: Mapping[str, Any] | None = None) -> str:
    """Return what Helm says after it has installed."""
    templates, files = _parsed()
    return templates.render(files[NOTES], _dot(preset, given, "Helm"))


def _dot(preset: str, given: Mapping[str, Any] | None, service: str) -> Object:
    about = load("Chart.yaml")
    return {
        "Values": values(preset, given),
        "Chart": {
            key[0].upper() + key[1:]: about[key] for key in ("name", "version", "appVersion")
        },
        "Release": {"Name": "wattkeeper", "Namespace": NAMESPACE, "Service": service},
        "Files": {"Get": _get, "Glob": _glob},
    }


def objects(text: str) -> list[Object]:
    """Return the objects of manifests."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def rendered(
    preset: str = "", given: Mapping[str, Any] | None = None
) -> dict[tuple[str, str], Object]:
    """Return the objects of a release by kind and name."""
    found = objects(render(preset, given))
    named = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(named) == len(found)
    return named


def manifests(preset: str = "", given: Mapping[str, Any] | None = None) -> str:
    """Return what people without Helm apply."""
    return _HEADER + render(preset, given, service="kubectl")


@cache
def _parsed() -> tuple[Templates, dict[str, list[Node]]]:
    templates, files = Templates(), {}
    for path in sorted((CHART / "templates").iterdir()):
        nodes = parse(path.read_text(encoding="utf-8"))
        templates.define(nodes)
        if path.suffix == ".yaml" or path.name == NOTES:
            files[path.name] = nodes
    return templates, files


def _get(name: str) -> str:
    return (CHART / name).read_text(encoding="utf-8")


def _glob(pattern: str) -> dict[str, str]:
    folder, _, form = pattern.rpartition("/")
    paths = fnmatch.filter((path.name for path in (CHART / folder).iterdir()), form)
    if not paths:
        raise TemplateError(f"{pattern} is nowhere in the chart")
    return {f"{folder}/{name}": _get(f"{folder}/{name}") for name in paths}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
