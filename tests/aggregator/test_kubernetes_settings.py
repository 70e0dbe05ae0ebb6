"""When and how the aggregator asks Kubernetes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from wattkeeper.aggregator.config import AggregatorSettings, KubernetesSection
from wattkeeper.aggregator.schedulers import schedulers


def _names(**keys: object) -> list[str]:
    section = KubernetesSection.model_validate(keys)
    return [found.name for found in schedulers(AggregatorSettings(kubernetes=section))]


def test_off_outside_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked unless it is set or this is a pod."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "kubernetes" not in _names()
    assert "kubernetes" in _names(enabled=True)
    assert "kubernetes" in _names(url="https://h:6443", token_file="/t", ca_file="/c")
    assert "kubernetes" in _names(kubeconfig=Path("/etc/kubeconfig"))
    assert "kubernetes" not in _names(url="https://h:6443", enabled=False)


def test_the_interval_is_the_settings() -> None:
    """Polls come as often as the settings say."""
    section = KubernetesSection.model_validate({"enabled": True, "interval": "30s"})
    found = schedulers(AggregatorSettings(kubernetes=section))
    assert [30.0] == [one.interval_s for one in found if one.name == "kubernetes"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"url": "10.0.0.1"}, "write https://host:6443"),
        ({"url": "https://h", "kubeconfig": "/k"}, "choose one"),
        ({"token_file": "/t"}, "set url too"),
        ({"interval": "1ms"}, "between 1s and 10m"),
        ({"labels": [f"l{number}" for number in range(17)]}, "at most 16"),
    ],
)
def test_settings_that_cannot_work(keys: dict[str, object], said: str) -> None:
    """Each is refused with what to do."""
    with pytest.raises(ValidationError, match=said):
        KubernetesSection.model_validate(keys)
