"""Values: each explained and in the schema, and wrong ones refused before they do anything."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.chart.chart import CHART, PRESETS, load, render, values
from tests.chart.render import TemplateError
from tests.chart.syntax import parse

_SCHEMA = json.loads((CHART / "values.schema.json").read_text())
_FREE = {"affinity", "nodeSelector", "requests", "limits", "labels", "annotations"}


def _leaves(given: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in given.items():
        if isinstance(value, Mapping) and value and key not in _FREE:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_every_key_is_in_the_schema_and_every_property_is_a_key() -> None:
    """Neither of them knows more than the other."""
    known = {path for path in _properties(_SCHEMA) if path[-1] not in {"cpu", "memory"}}
    assert {path for path in known if "pullSecrets" not in path[:-1]} >= set(
        _leaves(load("values.yaml"))
    )
    given = load("values.yaml")
    for path in known:
        below: Any = given
        for key in path:
            if not isinstance(below, Mapping) or not below:
                break  # an empty mapping or list: nothing is set
            assert key in below, path
            below = below[key]


def _properties(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, below in schema.get("properties", {}).items():
        yield (*path, key)
        yield from _properties(below, (*path, key))


def test_every_key_is_explained() -> None:
    """By a comment right above it, unless it only holds others."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    leaves = {path[-1] for path in _leaves(load("values.yaml"))}
    for above, line in itertools.pairwise(lines):
        key = re.match(r" *([A-Za-z0-9]+):(?: (?!\|)| *$)", line)
        if key and key[1] in leaves and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), line


def test_objects_of_the_schema_are_closed() -> None:
    """A misspelt key is an error everywhere but in what Kubernetes itself defines."""

    def walk(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        if schema.get("properties") and schema.get("additionalProperties") is not False:
            yield path
        for key, below in schema.get("properties", {}).items():
            yield from walk(below, f"{path}.{key}")
        if "items" in schema:
            yield from walk(schema["items"], f"{path}[]")

    assert [*walk(_SCHEMA, "")] == []
    jsonschema.Draft7Validator.check_schema(_SCHEMA)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"agnet": {}}, "agnet"),
        ({"agent": {"node": "gpu"}}, "node"),
        ({"agent": {"nodes": "some"}}, "some"),
        ({"agent": {"url": "power.example:9746"}}, "power.example"),
        ({"agent": {"capabilities": ["SYS_ADMIN"]}}, "SYS_ADMIN"),
        ({"agent": {"nvml": {"mode": "privileged"}}}, "privileged"),
        ({"agent": {"stateFolder": "var/lib"}}, "var/lib"),
        ({"agent": {"stateFolder": "/"}}, "'/'"),
        ({"agent": {"maxUnavailable": "0%"}}, "0%"),
        ({"agent": {"config": {"window": "10s"}}}, "window"),
        ({"agent": {"podAnnotations": {"a": 1}}}, "1 is not of type"),
        ({"aggregator": {"replicas": 0}}, "0 is less"),
        ({"aggregator": {"runAsUser": 0}}, "0 is less"),
        ({"aggregator": {"service": {"port": 70_000}}}, "70000"),
        ({"aggregator": {"persistence": {"size": "much"}}}, "much"),
        ({"image": {"digest": "latest"}}, "latest"),
        ({"image": {"tag": "a b"}}, "a b"),
        ({"delivery": {"existingSecret": "My_Secret"}}, "My_Secret"),
        ({"networkPolicy": {"scrapers": [{}]}}, "{}"),
        ({"networkPolicy": {"readers": [{"namespaceselector": {}}]}}, "namespaceselector"),
        ({"prometheus": {"rules": {"files": ["links"]}}}, "links"),
        ({"prometheus": {"interval": "15"}}, "15"),
        ({"openshift": {"enabled": "yes"}}, "yes"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any], where: str) -> None:
    """And the message shows what is wrong."""
    with pytest.raises(jsonschema.ValidationError, match=re.escape(where)):
        values("", wrong)


@pytest.mark.parametrize(
    ("contrary", "what"),
    [
        ({"aggregator": {"enabled": False}}, "deliver nowhere; set one"),
        ({"aggregator": {"replicas": 2}}, r"existingSecret \(PostgreSQL\)"),
    ],
)
def test_values_that_contradict_each_other(contrary: dict[str, Any], what: str) -> None:
    """What no schema can say the templates do."""
    with pytest.raises(TemplateError, match=what):
        render("", contrary)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fit_the_schema(preset: str) -> None:
    """As they are, and they say what the chart does not say anyway."""
    assert values(preset)
    assert not preset or values(preset) != values()


@pytest.mark.parametrize(
    "source",
    ["{{ if .Values.a }}", "{{ .Values.a = 1 }}", "{{ `raw` }}", "{{ (not true }}"],
)
def test_what_the_renderer_does_not_know_it_says(source: str) -> None:
    """So that a template never means one thing here and another in Helm."""
    with pytest.raises(SyntaxError):
        parse(source)
