"""The pods that live, and which GPUs they hold, as one look sees them."""

from collections import Counter
from dataclasses import dataclass, field

from wattkeeper.holders.base import HolderKey
from wattkeeper.holders.pod_devices import GpuMap, GpuPod, Hold
from wattkeeper.model.holder import MAX_LABEL, HolderInfo


@dataclass(slots=True)
class PodView:
    """What one look makes of the kubelet's listing.

    `given`: what the kubelet calls the GPUs of living pods. `unread`, `foreign`: devices that
    nothing is booked by.
    """

    given: set[str] = field(default_factory=set)
    held: dict[HolderKey, set[Hold]] = field(default_factory=dict)
    infos: dict[HolderKey, HolderInfo] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)

    def take(self, key: HolderKey, pod: GpuPod, gpus: GpuMap) -> None:
        """Add a living pod."""
        holds = {called: gpus.hold(device) for called, device in pod.gpus.items()}
        sure = {hold for hold in holds.values() if hold is not None}
        self.given.update(pod.gpus)
        self.unread.update(called for called, hold in holds.items() if hold is None)
        self.unread.update(pod.unread)
        self.foreign.update(pod.foreign)
        if sure:
            self.held.setdefault(key, set()).update(sure)
        labels = _labels(key, pod)
        # Without a UID it is another holder than its cgroup, worth having for a GPU only.
        if sure or "pod_uid" in labels:
            self.infos[key] = HolderInfo(key.manager, key.raw_id, key.birth_ms, labels)

    def meters(self) -> dict[HolderKey, frozenset[str]]:
        """Return the meters that each holder is on."""
        return {key: frozenset(hold.meter for hold in holds) for key, holds in self.held.items()}


def _labels(key: HolderKey, pod: GpuPod) -> dict[str, str]:
    labels = {
        "namespace": pod.namespace[:MAX_LABEL],
        "name": pod.name[:MAX_LABEL],
        "containers": ",".join(pod.containers)[:MAX_LABEL],
    }
    if "/" not in key.raw_id:
        labels["pod_uid"] = key.raw_id
    return labels
