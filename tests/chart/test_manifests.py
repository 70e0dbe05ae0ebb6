"""Rendered manifests: valid, up to date, and what Helm itself makes of the chart."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.chart.chart import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    PRESETS,
    ROOT,
    load,
    manifests,
    objects,
    render,
    rendered,
)

NEWEST, OLDEST = "1.37", "1.25"
EVERYTHING: dict[str, Any] = {
    "cluster": "a",
    "ipv6": True,
    "fullnameOverride": "power",
    "access": {"existingSecret": "tokens"},
    "tls": {"existingSecret": "tls"},
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
    "agent": {
        "config": '[slurm]\nnodename = "n1"\n',
        "nodeSelector": {"rack": "r1"},
        "nvml": {"byVolumeMount": True},
        "priorityClassName": "system-node-critical",
        "podLabels": {"team": "power"},
        "podAnnotations": {"note": "a: b"},
        "appArmorProfile": {"type": "Unconfined"},
    },
    "aggregator": {
        "config": "[groups.rack]\nr1 = ['n[1-4]']\n",
        "replicas": 2,
        "ledger": {"existingSecret": "ledger"},
        "persistence": {"storageClass": "fast"},
        "service": {"type": "LoadBalancer", "annotations": {"internal": "true"}},
        "nodeSelector": {"disk": "fast"},
        "affinity": {"podAntiAffinity": {}},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "priorityClassName": "high",
        "extraVolumes": [{"name": "price", "configMap": {"name": "price"}}],
        "extraVolumeMounts": [{"name": "price", "mountPath": "/price"}],
        "podLabels": {"team": "power"},
        "podAnnotations": {"note": "1"},
    },
    "networkPolicy": {
        "readers": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "egress": [{"ports": [{"port": 5432}]}],
    },
    "prometheus": {
        "podMonitors": True,
        "labels": {"release": "p"},
        "tokenSecret": "scraper",
        "rules": {"enabled": True},
    },
    "dashboards": {"enabled": True, "namespace": "grafana", "annotations": {"folder": "Power"}},
    "openshift": {"enabled": True},
}
"""Values that take every way through the templates that the presets do not."""
ELSEWHERE = {
    "agent": {
        "url": "https://power.example:9746",
        "caSecret": "ca",
        "nvml": {"mode": "cdi"},
        "deployLabel": "",
    },
    "aggregator": {"enabled": False},
    "delivery": {"existingSecret": ""},
    "networkPolicy": {"scrapers": []},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{preset or "default": (preset, {}) for preset in PRESETS},
    "everything": ("", EVERYTHING),
    "elsewhere": ("", ELSEWHERE),
    "all nodes": ("", {"agent": {"nodes": "all"}}),
    "no GPUs": ("", {"agent": {"nodes": "all", "deployLabel": "", "nvml": {"mode": "none"}}}),
    "no agent": ("", {"agent": {"enabled": False}, "networkPolicy": {"enabled": False}}),
}
_CUSTOM = {"PodMonitor", "PrometheusRule", "SecurityContextConstraints"}


def test_valid_for_kubernetes() -> None:
    """Every object of every case fits the schema of its kind, without a key that is not in it."""
    items = [item for case in CASES.values() for item in rendered(*case).values()]
    for item in {json.dumps(item): item for item in items}.values():
        if item["kind"] not in _CUSTOM:
            kubernetes_validate.validate(item, NEWEST, strict=True)


def test_valid_for_an_older_kubernetes() -> None:
    """With the one switch that its comment names, which is needed."""
    given = {"agent": {"recursiveReadOnly": False}}
    for item in rendered("", given).values():
        kubernetes_validate.validate(item, OLDEST, strict=True)
    agent = rendered()["DaemonSet", "wattkeeper-agent"]
    with pytest.raises(kubernetes_validate.ValidationError, match="recursiveReadOnly"):
        kubernetes_validate.validate(agent, OLDEST, strict=True)


@pytest.mark.parametrize("name", [*PRESETS, "monitoring"])
def test_manifests_are_those_of_the_chart(name: str, request: pytest.FixtureRequest) -> None:
    """Who has no Helm applies what who has it installs."""
    suffix = f"-{name}" if name else ""
    file = KUBERNETES / f"manifests/wattkeeper{suffix}.yaml"
    made = _monitoring() if name == "monitoring" else manifests(name)
    if request.config.getoption("--regenerate"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(made, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == made


def test_no_manifest_too_many() -> None:
    """One of each preset, and monitoring."""
    assert len(list((KUBERNETES / "manifests").iterdir())) == len(PRESETS) + 1


def _monitoring() -> str:
    """Return what the Prometheus Operator is told; other kinds are in the other manifests."""
    given = {"prometheus": {"podMonitors": True, "rules": {"enabled": True}}}
    parts = render("", given, service="kubectl").split("---\n")
    kinds = ("kind: PodMonitor\n", "kind: PrometheusRule\n")
    return "---\n".join(["", *(part for part in parts if any(kind in part for kind in kinds))])


def test_the_chart_is_of_this_version() -> None:
    """The image's tag and the package's version are one."""
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = load("Chart.yaml")
    assert about["version"] == about["appVersion"] == package["version"]


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not there")
@pytest.mark.parametrize("case", CASES)
def test_helm_makes_the_same(case: str, tmp_path: Path) -> None:
    """What Helm renders is what the tests look at. CI has no Helm: done with 3.22 by hand."""
    preset, given = CASES[case]
    more = ["--values", str(CHART / f"values-{preset}.yaml")] if preset else []
    (tmp_path / "given.json").write_text(json.dumps(given))
    done = subprocess.run(
        ["helm", "template", "wattkeeper", str(CHART), "--namespace", NAMESPACE, *more,
         "--kube-version", NEWEST,
         "--values", str(tmp_path / "given.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    named = {(o["kind"], o["metadata"]["name"]): o for o in objects(done.stdout)}
    assert named == rendered(preset, given)


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not there")
def test_helm_has_nothing_to_say() -> None:
    """`helm lint --strict`."""
    subprocess.run(["helm", "lint", "--strict", str(CHART)], check=True, capture_output=True)
