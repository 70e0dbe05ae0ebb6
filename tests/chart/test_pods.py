"""The pods: what they may do, where they run, and whether they are told what they need."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.chart import PRESETS, Object, rendered
from wattkeeper.agent.config import AgentSettings
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.cli.client import SOCKET
from wattkeeper.settings import load

_DEPLOY = "nvidia.com/gpu.deploy.dcgm-exporter"
_CLIENT = "nvidia.com/gpu.deploy.client"
_GPU = "nvidia.com/gpu.present"


def _agent(preset: str = "", given: Mapping[str, Any] | None = None) -> Object:
    item = rendered(preset, given)["DaemonSet", "wattkeeper-agent"]
    return dict(item["spec"]["template"]["spec"])


def _aggregator(preset: str = "", given: Mapping[str, Any] | None = None) -> Object:
    item = rendered(preset, given)["StatefulSet", "wattkeeper-aggregator"]
    return dict(item["spec"]["template"]["spec"])


def _environment(pod: Object) -> dict[str, str]:
    """Return what its container finds; what comes from elsewhere stands for itself."""
    (container,) = pod["containers"]
    return {each["name"]: each.get("value", "10.0.0.1") for each in container["env"]}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_agent_is_root_without_roots_power(preset: str) -> None:
    """No privilege but reading; of the host it writes its own folder alone."""
    pod = _agent(preset)
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert (security["privileged"], security["allowPrivilegeEscalation"]) == (False, False)
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"]["drop"] == ["ALL"]
    allowed = {"DAC_READ_SEARCH"} | ({"SYS_PTRACE"} if preset == "slinky" else set())
    assert set(security["capabilities"]["add"]) == allowed
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod.keys() & {"hostNetwork", "hostIPC"}
    assert pod["hostPID"]
    of_the_host = {each["name"] for each in pod["volumes"] if "hostPath" in each}
    written = {each["name"] for each in container["volumeMounts"] if not each.get("readOnly")}
    assert of_the_host & written == {"state"}
    assert {each["name"] for each in pod["volumes"]} == {
        each["name"] for each in container["volumeMounts"]
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_the_agent_knows_no_api_server(preset: str) -> None:
    """No token, no role, no environment of others' services."""
    found = rendered(preset)
    pod = _agent(preset)
    assert not pod["automountServiceAccountToken"]
    assert not pod["enableServiceLinks"]
    assert not found["ServiceAccount", "wattkeeper-agent"]["automountServiceAccountToken"]
    bound = {
        subject["name"]
        for (kind, _), item in found.items()
        if kind.endswith("Binding")
        for subject in item["subjects"]
    }
    assert bound == {"wattkeeper-aggregator"}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_aggregator_fits_the_restricted_level(preset: str) -> None:
    """Pod Security's `restricted`: its folder, no host, no root."""
    pod = _aggregator(preset)
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    assert security["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"].get("runAsUser") == (None if preset == "openshift" else 64646)
    assert not pod.keys() & {"hostNetwork", "hostIPC", "hostPID"}
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert not pod["enableServiceLinks"]


@pytest.mark.parametrize("ipv6", [False, True])
def test_what_pods_are_told_is_understood(ipv6: bool) -> None:
    """Every variable is a key of ours, and says what the mounts say."""
    given = {
        "ipv6": ipv6,
        "cluster": "a",
        "access": {"existingSecret": "tokens"},
        "tls": {"existingSecret": "tls"},
        "aggregator": {"replicas": 2, "ledger": {"existingSecret": "ledger"}},
    }
    pod = _agent("", given)
    agent = load(AgentSettings, program="agent", environ=_environment(pod))
    assert (agent.node, agent.cluster) == ("10.0.0.1", "a")
    assert agent.listen == ("[::]:9745" if ipv6 else "0.0.0.0:9745")
    assert agent.advertise.endswith(":9745")
    assert (str(agent.aggregator.url), agent.aggregator.token) == (
        "https://wattkeeper-aggregator.wattkeeper:9746/",
        None,
    )
    _mounted(
        pod,
        agent.data_dir,
        agent.path.cgroupfs,
        *(agent.path.sysfs / part for part in ("bus", "class", "devices", "module")),
        agent.kubernetes.pod_resources,
        agent.kubernetes.pod_logs,
        agent.aggregator.token_file,
        agent.aggregator.ca,
    )
    pod = _aggregator("", given)
    settings = load(AggregatorSettings, program="aggregator", environ=_environment(pod))
    assert (settings.kubernetes.enabled, settings.kubernetes.cluster) == (True, "a")
    assert settings.token is not None
    assert settings.listen == ("[::]:9746" if ipv6 else "0.0.0.0:9746")
    _mounted(
        pod,
        settings.data_dir,
        settings.ledger.url_file,
        settings.access.socket,
        settings.access.tokens_file,
        settings.tls_server_config.cert_file,
        settings.tls_server_config.key_file,
    )
    (container,) = pod["containers"]
    probes = [value for key, value in container.items() if key.endswith("Probe")]
    assert {probe["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}


def _mounted(pod: Object, *paths: Path | None) -> None:
    (container,) = pod["containers"]
    folders = [each["mountPath"] for each in container["volumeMounts"]]
    for path in paths:
        assert path is not None
        assert any(path.is_relative_to(folder) for folder in folders), path


def test_the_aggregators_key_stays_with_it() -> None:
    """Of its Secret agents get the authority alone; elsewhere's is a Secret of its own."""
    pod = _agent("", {"tls": {"existingSecret": "tls"}})
    (volume,) = (each for each in pod["volumes"] if each["name"] == "ca")
    assert volume["secret"] == {
        "secretName": "tls",
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    given = {"agent": {"url": "https://power.example", "caSecret": "theirs"}}
    (volume,) = (each for each in _agent("", given)["volumes"] if each["name"] == "ca")
    assert volume["secret"]["secretName"] == "theirs"
    assert not any(volume["name"] == "ca" for volume in _agent()["volumes"])


def test_who_executes_in_the_aggregators_pod_is_told_everything() -> None:
    """Commands find its socket without being told where it is."""
    settings = load(AggregatorSettings, program="aggregator", environ=_environment(_aggregator()))
    assert settings.access.socket == SOCKET


def test_where_agents_deliver() -> None:
    """To the service of the release, by its name and port, or where the values say."""
    port = {"aggregator": {"service": {"port": 80}}}
    url = _environment(_agent("", port))["WATTKEEPER_AGENT_AGGREGATOR__URL"]
    assert url == "http://wattkeeper-aggregator.wattkeeper:80"
    service = rendered("", port)["Service", "wattkeeper-aggregator"]
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    given = {"agent": {"url": "https://power.example"}, "aggregator": {"enabled": False}}
    url = _environment(_agent("", given))["WATTKEEPER_AGENT_AGGREGATOR__URL"]
    assert url == "https://power.example"
    kinds = {kind for kind, _ in rendered("", given)}
    assert kinds == {"ConfigMap", "DaemonSet", "NetworkPolicy", "ServiceAccount"}


def _runs_on(pod: Object, labels: Mapping[str, str]) -> bool:
    """Tell whether a DaemonSet's pod stays on a node with these labels."""
    if not pod.get("nodeSelector", {}).items() <= labels.items():
        return False
    rule = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return any(
        all(_fits(each, labels) for each in term["matchExpressions"])
        for term in rule["nodeSelectorTerms"]
    )


def _fits(rule: Object, labels: Mapping[str, str]) -> bool:
    there = rule["key"] in labels
    if rule["operator"] == "In":
        return there and labels[rule["key"]] in rule["values"]
    return there == {"Exists": True, "DoesNotExist": False}[rule["operator"]]


@pytest.mark.parametrize(
    ("labels", "gpu", "everywhere"),
    [
        ({}, False, True),
        ({_GPU: "true"}, True, True),
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, True, True),
        ({_GPU: "true", _DEPLOY: "true"}, True, True),
        ({_GPU: "true", _DEPLOY: "paused-for-driver-upgrade"}, False, False),
        ({_GPU: "true", _DEPLOY: "paused-for-mig-change"}, False, False),
    ],
)
def test_nodes_with_agents(labels: dict[str, str], gpu: bool, everywhere: bool) -> None:
    """While the GPU Operator changes a node's driver or its MIG instances, the agent is away."""
    named = {"kubernetes.io/hostname": "n1", **labels}
    assert _runs_on(_agent(), named) == gpu
    assert _runs_on(_agent("", {"agent": {"nodes": "all"}}), named) == everywhere


def test_the_operator_waits_for_its_clients() -> None:
    """It looks for pods with its label in their nodeSelector; a paused node is left."""
    pod = _agent("gpu-operator")
    assert _CLIENT in pod["nodeSelector"]
    assert _runs_on(pod, {_GPU: "true", _CLIENT: "true"})
    assert not _runs_on(pod, {_GPU: "true", _CLIENT: "paused-for-driver-upgrade"})
    assert not _runs_on(pod, {_GPU: "true"})


def test_how_the_driver_comes_in() -> None:
    """Each mode by its own means, none by a privileged container."""
    pod = _agent()
    assert pod["runtimeClassName"] == "nvidia"
    assert _environment(pod)["NVIDIA_VISIBLE_DEVICES"] == "all"
    pod = _agent("", {"agent": {"nvml": {"byVolumeMount": True}}})
    assert _environment(pod)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "dev-null" in {volume["name"] for volume in pod["volumes"]}
    for mode in ("cdi", "none", "host"):
        found = rendered("", {"agent": {"nvml": {"mode": mode}}})["DaemonSet", "wattkeeper-agent"]
        template = found["spec"]["template"]
        assert "runtimeClassName" not in template["spec"]
        assert ("cdi.k8s.io/wattkeeper" in template["metadata"]["annotations"]) == (mode == "cdi")
        folders = {volume["name"] for volume in template["spec"]["volumes"]}
        assert ("nvidia" in folders) == (mode == "host")
        assert "NVIDIA_VISIBLE_DEVICES" not in _environment(template["spec"])


@pytest.mark.parametrize("part", ["agent", "aggregator"])
def test_another_configuration_starts_pods_anew(part: str) -> None:
    """A ConfigMap that changes does not by itself."""
    kind = {"agent": "DaemonSet", "aggregator": "StatefulSet"}[part]

    def pod(config: str) -> Object:
        found = rendered("", {part: {"config": config}})[kind, f"wattkeeper-{part}"]
        return dict(found["spec"]["template"])

    assert pod("") == pod("")
    assert pod("") != pod("log_level = 'debug'")
