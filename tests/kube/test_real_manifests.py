"""The manifests before a real kube-apiserver: opt-in, with WATTKEEPER_TEST_KUBE_APISERVER.

Nothing is installed (`dryRun=All`), but everything is admitted: field by field, and pods by the Pod
Security level of their namespace.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chart.chart import KUBERNETES, NAMESPACE, PRESETS, Object, manifests, objects, rendered
from tests.kube.real import APISERVER, ETCD, RealApi, real_api

pytestmark = pytest.mark.skipif(
    not (APISERVER and ETCD), reason="WATTKEEPER_TEST_KUBE_APISERVER or etcd is not there"
)

_TRY = "dryRun=All&fieldValidation=Strict"
_CUSTOM = "SecurityContextConstraints"
_PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "DaemonSet": "daemonsets",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StatefulSet": "statefulsets",
}


@pytest.fixture(name="api")
async def _api(tmp_path: Path) -> AsyncIterator[RealApi]:
    async with real_api(tmp_path, watch_cache=True) as api:
        classes = "/apis/node.k8s.io/v1/runtimeclasses"
        await api.create(classes, {"metadata": {"name": "nvidia"}, "handler": "nvidia"})
        yield api


def _place(item: Object) -> str:
    version = item["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = item["metadata"].get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{group}{inside}/{_PLURALS[item['kind']]}"


async def _admit(api: RealApi, item: Object, namespace: str) -> None:
    """Let the pod of a DaemonSet or StatefulSet be judged as its controller would make it."""
    template = item["spec"]["template"]
    meta = template["metadata"] | {"name": "pod", "namespace": namespace}
    claims = [
        {"name": each["metadata"]["name"], "persistentVolumeClaim": {"claimName": "c"}}
        for each in item["spec"].get("volumeClaimTemplates", ())
    ]
    spec = template["spec"] | {"volumes": [*template["spec"]["volumes"], *claims]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    await api.call("POST", f"/api/v1/namespaces/{namespace}/pods?{_TRY}", pod)


async def test_the_server_takes_every_object(api: RealApi) -> None:
    """Of every preset, strictly, and its pods in the namespace that is in the manifest."""
    for preset in PRESETS:
        text = manifests(preset)
        assert text in {path.read_text() for path in (KUBERNETES / "manifests").iterdir()}
        for item in objects(text):
            if item["kind"] == "Namespace":
                if not preset:
                    await api.create("/api/v1/namespaces", item)
            elif item["kind"] != _CUSTOM:
                await api.call("POST", f"{_place(item)}?{_TRY}", item)
            if item["kind"] in {"DaemonSet", "StatefulSet"}:
                await _admit(api, item, NAMESPACE)


async def test_levels_of_pod_security(api: RealApi) -> None:
    """`restricted` takes the aggregator; the agent needs `privileged`, for the reasons told."""
    for level in ("restricted", "baseline"):
        labels = {"pod-security.kubernetes.io/enforce": level}
        meta = {"name": level, "labels": labels}
        await api.create("/api/v1/namespaces", {"metadata": meta})
    found = rendered()
    await _admit(api, found["StatefulSet", "wattkeeper-aggregator"], "restricted")
    with pytest.raises(OSError, match="violates PodSecurity") as refused:
        await _admit(api, found["DaemonSet", "wattkeeper-agent"], "baseline")
    said = str(refused.value)
    assert "hostPID=true" in said
    assert "hostPath volumes" in said
    assert "privileged container" not in said
