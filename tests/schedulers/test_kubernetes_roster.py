"""The store of pods: what is told, how often, and when a pod ended."""

from typing import Any

import msgspec

from tests.kube.objects import BEGAN_MS, ENDED, ENDED_MS, PodMaker
from tests.schedulers.kubernetes_watching import NOW_MS
from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.kubernetes_objects import Pod
from wattkeeper.schedulers.kubernetes_pods import Naming, workload
from wattkeeper.schedulers.kubernetes_roster import Roster


def _pod(shown: dict[str, Any], version: int = 1, **meta: Any) -> Pod:
    shown["metadata"] |= {"resourceVersion": str(version), **meta}
    return msgspec.json.decode(msgspec.json.encode(shown), type=Pod)


def _roster(now_ms: int = NOW_MS) -> Roster:
    return Roster(Naming("c"), lambda: now_ms)


def _infos(roster: Roster) -> list[WorkloadInfo]:
    return [entry.info for entry in roster.entries()]


def test_a_later_word_on_an_end_is_told_again() -> None:
    """What became known after an answer was given is not taken for told."""
    roster, pod = _roster(), PodMaker("p")
    roster.put(_pod(pod.over(), 1))
    told = roster.endings()
    roster.put(_pod(pod.over("Failed"), 2))
    roster.settle(told)
    assert ["failed"] == [info.state for info in _infos(roster)]
    roster.settle(roster.endings())
    assert [] == _infos(roster)


def test_a_listing_does_not_tell_old_ends_again() -> None:
    """Only a pod that changed since is told again."""
    roster, pod = _roster(), PodMaker("p")
    roster.put(_pod(pod.over(), 1))
    roster.settle(roster.endings())
    roster.put(_pod(pod.over(), 1))
    assert [] == _infos(roster)
    roster.put(_pod(pod.over(), 2))
    assert [pod.uid] == [info.run for info in _infos(roster)]
    roster.settle(roster.endings())
    roster.drop(_pod(pod.over(), 3))
    assert [] == _infos(roster)


def test_a_pod_that_never_had_a_node() -> None:
    """It held nothing: neither its life nor its end is told."""
    roster, pod = _roster(), PodMaker("p")
    roster.put(_pod(pod.pending()))
    roster.drop(_pod(pod.pending()))
    assert [] == _infos(roster)


def test_an_evicted_pod_without_containers() -> None:
    """Its end is when it was no longer ready, else its deadline, else when it was noticed first."""
    pod = PodMaker("p")
    evicted = pod.show(
        "Failed",
        startTime="2026-11-23T10:00:00Z",
        conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": ENDED}],
    )
    bare = pod.show("Failed", reason="Evicted")
    assert ENDED_MS == workload(_pod(evicted), Naming("c")).end_ms
    deleted = _pod(pod.show("Failed"), deletionTimestamp=ENDED)
    assert ENDED_MS == workload(deleted, Naming("c")).end_ms
    now = [NOW_MS]
    roster = Roster(Naming("c"), lambda: now[0])
    roster.put(_pod(bare, 1))
    now[0] += 60_000
    roster.put(_pod(bare, 2))
    assert [NOW_MS] == [info.end_ms for info in _infos(roster)]


def test_the_last_container_ends_a_pod() -> None:
    """A sidecar or a debugging container may outlive the main one."""
    finish = [{"state": {"terminated": {"finishedAt": f"2026-11-23T10:0{m}:00Z"}}} for m in (1, 5)]
    shown = PodMaker("p").show(
        "Succeeded",
        startTime="2026-11-23T10:00:00Z",
        containerStatuses=finish[:1],
        ephemeralContainerStatuses=finish[1:],
        initContainerStatuses=[{"state": {"terminated": {"finishedAt": None}}}, {}],
    )
    info = workload(_pod(shown), Naming("c"))
    assert (BEGAN_MS, ENDED_MS) == (info.start_ms, info.end_ms)


def test_a_restarting_container_ends_nothing() -> None:
    """A pod whose container crashed holds its devices until it is started again."""
    state = {"terminated": {"finishedAt": ENDED}}
    shown = PodMaker("p").show("Running", containerStatuses=[{"state": state}])
    assert workload(_pod(shown), Naming("c")).end_ms is None


def test_a_static_pod_goes_by_its_id_on_the_node() -> None:
    """The image at the API comes and goes; what runs on the node is one run with one id."""
    digest = "0123456789abcdef0123456789abcdef"
    labels = {"kubernetes.io/config.mirror": digest}
    first, second = (PodMaker("etcd-n1", annotations=labels) for _ in range(2))
    roster = _roster()
    roster.put(_pod(first.running()))
    roster.drop(_pod(first.running()))
    roster.put(_pod(second.running()))
    infos = _infos(roster)
    assert {(digest, digest)} == {(info.raw_id, info.run) for info in infos}
    assert [first.uid, second.uid] == [info.other_id for info in infos]
    assert infos[-1].end_ms is None


def test_nobody_passes_for_anothers_pod() -> None:
    """An annotation that names an ordinary pod's UID is not believed."""
    victim = PodMaker("victim")
    pod = PodMaker("p", annotations={"kubernetes.io/config.mirror": victim.uid})
    info = workload(_pod(pod.running()), Naming("c"))
    assert (pod.uid, pod.uid, "") == (info.raw_id, info.run, info.other_id)


def test_words_of_a_pod() -> None:
    """User and account by label or annotation, in the order of the settings; chosen labels only."""
    naming = Naming("c", user=("a/user", "b/user"), account=("team",), labels=("stage", "absent"))
    pod = PodMaker(
        "p",
        labels={"team": "vision", "stage": "x" * 300, "secret": "no"},
        annotations={"b/user": "ann", "stage": "not a label"},
    )
    info = workload(_pod(pod.running()), naming)
    assert ("ann", "vision", "ml") == (info.user, info.account, info.namespace)
    assert {"stage": "x" * 256} == info.labels


def test_slurm_inside_kubernetes() -> None:
    """A slurmd's pod names its Slurm node, a pod that Slurm placed names the Slurm job."""
    slinky = PodMaker("gpu-0", labels={"nodeset.slinky.slurm.net/pod-hostname": "gpu-0-host"})
    assert {"slurm_node": "gpu-0-host"} == _labels(slinky)
    for group in ("slinky.slurm.net/v1beta1", "sunk.coreweave.com/v1alpha1"):
        reference = {"apiVersion": group, "kind": "NodeSet", "name": "gpu", "uid": "u"}
        sunk = PodMaker("slurm-h100-101", owners=[{**reference, "controller": True}])
        assert {"slurm_node": "slurm-h100-101"} == _labels(sunk)
    kruise = {"apiVersion": "apps.example/v1", "kind": "NodeSet", "name": "x", "uid": "u"}
    assert {} == _labels(PodMaker("p", owners=[{**kruise, "controller": True}]))
    bridged = PodMaker("train-0", labels={"scheduler.slinky.slurm.net/slurm-jobid": "42"})
    assert {"slurm_job": "42"} == _labels(bridged)


def _labels(pod: PodMaker) -> dict[str, str]:
    return dict(workload(_pod(pod.running()), Naming("c")).labels)
