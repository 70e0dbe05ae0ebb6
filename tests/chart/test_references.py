"""Objects of a release refer to each other: selectors, ports, names, rules and dashboards."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.chart.chart import NAMESPACE, PRESETS, ROOT, Object, notes, rendered

MONITORED = {
    "tls": {"existingSecret": "tls"},
    "prometheus": {"podMonitors": True, "tokenSecret": "scraper", "rules": {"enabled": True}},
    "dashboards": {"enabled": True},
}
RULES = ROOT / "deploy/prometheus/rules"


def _pods(found: dict[tuple[str, str], Object]) -> dict[str, Object]:
    """Return templates of pods by component."""
    return {
        item["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: item["spec"][
            "template"
        ]
        for (kind, _), item in found.items()
        if kind in {"DaemonSet", "StatefulSet"}
    }


def _selected(selector: dict[str, str], pods: dict[str, Object]) -> set[str]:
    return {
        name for name, pod in pods.items() if selector.items() <= pod["metadata"]["labels"].items()
    }


def _ports(pod: Object) -> set[str]:
    return {port["name"] for each in pod["spec"]["containers"] for port in each["ports"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_selectors_find_their_pods(preset: str) -> None:
    """Each of them one kind of pod, whose ports have the names that are used."""
    found = rendered(preset, MONITORED)
    pods = _pods(found)
    assert pods.keys() == {"agent", "aggregator"}
    for (kind, name), item in found.items():
        spec = item.get("spec", {})
        part = name.rpartition("-")[2]
        match kind:
            case "DaemonSet" | "StatefulSet":
                selector, ports = spec["selector"]["matchLabels"], set()
            case "Service":
                selector = spec["selector"]
                ports = {port["targetPort"] for port in spec["ports"]}
            case "PodMonitor":
                selector = spec["selector"]["matchLabels"]
                ports = {end["port"] for end in spec["podMetricsEndpoints"]}
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
                ports = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
            case _:
                continue
        assert _selected(selector, pods) == {part}
        assert ports <= _ports(pods[part])


def test_agents_reach_the_aggregator_and_nothing_else() -> None:
    """Beside the name service; and the aggregator lets them in."""
    found = rendered()
    pods = _pods(found)
    agent = found["NetworkPolicy", "wattkeeper-agent"]["spec"]
    dns, delivery = agent["egress"]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}
    (to,) = delivery["to"]
    assert _selected(to["podSelector"]["matchLabels"], pods) == {"aggregator"}
    assert {port["port"] for port in delivery["ports"]} <= _ports(pods["aggregator"])
    (rule,) = found["NetworkPolicy", "wattkeeper-aggregator"]["spec"]["ingress"]
    assert _selected(rule["from"][0]["podSelector"]["matchLabels"], pods) == {"agent"}
    assert rule["from"][1:] == agent["ingress"][0]["from"]


def test_an_agents_policy_without_scrapers_lets_nobody_in() -> None:
    """Ingress is a policy's type with no rule."""
    spec = rendered("", {"networkPolicy": {"scrapers": []}})["NetworkPolicy", "wattkeeper-agent"][
        "spec"
    ]
    assert "ingress" not in spec
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_pods_use_accounts_and_maps_that_are_there() -> None:
    """Nothing is missing but the Secret that is named in the values."""
    found = rendered()
    for pod in _pods(found).values():
        assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in found
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in found
        secrets = {
            each["valueFrom"]["secretKeyRef"]["name"]
            for each in pod["spec"]["containers"][0]["env"]
            if "secretKeyRef" in each.get("valueFrom", {})
        }
        volumes = pod["spec"]["volumes"]
        secrets |= {each["secret"]["secretName"] for each in volumes if "secret" in each}
        assert secrets == {"wattkeeper-delivery"}


def test_rules_are_those_of_the_repository() -> None:
    """Word for word, but for the links, which are values."""
    found = rendered("", MONITORED)
    for name in ("recording", "thresholds", "alerts", "budgets"):
        spec = found["PrometheusRule", f"wattkeeper-{name}"]["spec"]
        assert spec == yaml.safe_load((RULES / f"{name}.yml").read_text())
    links = yaml.safe_load((RULES / "links.yml").read_text())
    assert found["PrometheusRule", "wattkeeper-links"]["spec"] == links
    assert {path.stem for path in RULES.iterdir()} == {
        name.removeprefix("wattkeeper-") for kind, name in found if kind == "PrometheusRule"
    }


def test_targets_are_labelled_as_rules_and_dashboards_want_it() -> None:
    """The jobs, cluster and node of deploy/prometheus/prometheus.yml."""
    found = rendered("", {"cluster": "a", **MONITORED})
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {each["job_name"]: each for each in scrapes["scrape_configs"]}
    for part, job in (("agent", "wattkeeper"), ("aggregator", "wattkeeper-aggregator")):
        (end,) = found["PodMonitor", f"wattkeeper-{part}"]["spec"]["podMetricsEndpoints"]
        assert end["honorLabels"] == jobs[job]["honor_labels"]
        given = {each["targetLabel"]: each for each in end["relabelings"]}
        assert given["job"]["replacement"] == job
        wanted = {each["target_label"] for each in jobs[job].get("relabel_configs", ())}
        assert given.keys() - {"job"} == wanted


_KNOWN = {
    "PodMonitor": {
        "selector": {"matchLabels": {}},
        "podMetricsEndpoints": [
            {
                "port": "",
                "interval": "",
                "honorLabels": True,
                "scheme": "",
                "authorization": {"credentials": {"name": "", "key": ""}},
                "tlsConfig": {"serverName": "", "ca": {"secret": {"name": "", "key": ""}}},
                "relabelings": [{"targetLabel": "", "replacement": "", "sourceLabels": [""]}],
            }
        ],
    },
    "PrometheusRule": {
        "groups": [
            {
                "name": "",
                "interval": "",
                "rules": [
                    {
                        "record": "",
                        "alert": "",
                        "expr": "",
                        "for": "",
                        "keep_firing_for": "",
                        "labels": {},
                        "annotations": {},
                    }
                ],
            }
        ]
    },
}
"""Specs of the Prometheus Operator's kinds, as far as they are used: monitoring.coreos.com/v1."""


def _unknown(value: Any, form: Any, path: str) -> Iterator[str]:
    """Yield where a value has another form. An empty mapping takes any texts."""
    if type(value) is not type(form):
        yield path
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _unknown(each, form[0], f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, each in value.items():
            if form and key not in form:
                yield f"{path}.{key}"
            else:
                yield from _unknown(each, form.get(key, ""), f"{path}.{key}")


@pytest.mark.parametrize("kind", _KNOWN)
def test_custom_kinds_have_their_form(kind: str) -> None:
    """Keys and types; no schema of these kinds is in a registry."""
    items = [item for (each, _), item in rendered("", MONITORED).items() if each == kind]
    assert items
    for item in items:
        assert item.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert item["apiVersion"] == "monitoring.coreos.com/v1"
        assert [*_unknown(item["spec"], _KNOWN[kind], kind)] == []


def test_dashboards_come_whole() -> None:
    """As they are in grafana/, under the label that the sidecar looks for."""
    found = {n: i for (kind, n), i in rendered("", MONITORED).items() if kind == "ConfigMap"}
    paths = [*(ROOT / "grafana/dashboards").glob("*.json")]
    assert paths
    for path in paths:
        item = found[path.stem]
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(item["data"][path.name]) == json.loads(path.read_text())


@pytest.mark.parametrize("preset", PRESETS)
def test_what_helm_says_names_what_is_there(preset: str) -> None:
    """Objects, by their kinds, and the Secret that pods wait for."""
    said = notes(preset)
    for kind, name in re.findall(r"(daemonset|service)/([a-z-]+)", said):
        assert ({"daemonset": "DaemonSet", "service": "Service"}[kind], name) in rendered(preset)
    assert "create secret generic wattkeeper-delivery" in said
    assert "{{" not in said


_REQUIRED = {
    "allowHostDirVolumePlugin", "allowHostIPC", "allowHostNetwork", "allowHostPID",
    "allowHostPorts", "allowPrivilegedContainer", "allowedCapabilities", "defaultAddCapabilities",
    "priority", "readOnlyRootFilesystem", "requiredDropCapabilities", "volumes",
}  # fmt: skip
"""By OpenShift's own definition of security.openshift.io/v1."""


def test_openshift_allows_what_the_agent_asks_for() -> None:
    """And that alone, to that account alone."""
    found = rendered("openshift")
    allowed = found["SecurityContextConstraints", "wattkeeper-wattkeeper-agent"]
    pod = found["DaemonSet", "wattkeeper-agent"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert allowed.keys() >= _REQUIRED
    assert allowed["allowHostPID"] == pod["hostPID"]
    assert allowed["allowedCapabilities"] == container["securityContext"]["capabilities"]["add"]
    assert set(allowed["volumes"]) == {
        *(next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]),
        "secret",
    }
    assert allowed["users"] == [f"system:serviceaccount:{NAMESPACE}:wattkeeper-agent"]
    given = {key for key, value in allowed.items() if key.startswith("allow") and value is True}
    assert given == {"allowHostDirVolumePlugin", "allowHostPID"}
    assert container["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
