"""Cgroup paths of real Slurm 22.05, 25.11 and 26.05, of Kubernetes, and of anything at all."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.holders.paths import KUBERNETES, SLURM, Believed, JobPath, parse

CAPTURES = sorted(
    (Path(__file__).parents[1] / "fixtures" / "slurm").glob("*/cgroup_paths*.txt"),
)
HET = {("5", "6"), ("22", "23")}
"""A heterogeneous job's second part has its own cgroup, but its tasks see the first part's id."""
UID = "3f1d6d2e-0a4b-4c8e-9a51-7b1c0d9e8f70"
UNDERSCORED = UID.replace("-", "_")
CID = "0123456789abcdef" * 4


def blocks(capture: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each process of a capture: its comment and the paths of its cgroups."""
    for block in capture.read_text().split("\n\n"):
        head, *lines = block.strip().splitlines()
        if "comm=" in head:
            yield head, [line.split(":", 2)[2] for line in lines]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_captured_path(capture: Path) -> None:
    """Each process of a job is the job's, by SLUID or by id; each slurmd is the machine's."""
    count = 0
    for head, paths in blocks(capture):
        found = {(job.manager, job.raw_id) for job in map(parse, paths) if job}
        if "comm=slurmd " in head:
            assert found == set(), head
            continue
        assert len(found) == 1, head
        manager, raw_id = found.pop()
        stepd = re.search(r"slurmstepd: \[(\d+)\.", head)
        by_id = re.search(r"SLURM_JOB_ID=(\d+)", head) or stepd
        by_sluid = re.search(r"SLURM_JOB_SLUID=(\w+)", head)
        assert manager == SLURM
        if raw_id.isdigit():
            assert by_id is not None
            assert (by_id[1], raw_id) in HET or raw_id == by_id[1], head
        elif by_sluid is not None:
            assert raw_id == by_sluid[1], head
        else:
            assert stepd is not None
        count += 1
    assert count > 20


def test_captures_are_there() -> None:
    """Eight captures, with all three forms of path among them."""
    text = "".join(capture.read_text() for capture in CAPTURES)
    assert len(CAPTURES) == 8
    for form in ("/slurm_n5/uid_10001/job_28", "n4_slurmstepd.scope/job_", "scope/s1G5M83WET9100"):
        assert form in text


@pytest.mark.parametrize(
    ("path", "raw_id"),
    [
        ("/slurm/uid_1000/job_7", "7"),
        ("/slurm/uid_1000/job_7/step_batch/task_0", "7"),
        ("slurm_n1/uid_0/job_12/step_0", "12"),
        ("/system.slice/slurmstepd.scope/job_9/step_extern/user/task_special", "9"),
        ("/system.slice/slurmstepd.scope/s1G5M83WET9100", "s1G5M83WET9100"),
        ("/../../system.slice/n1_slurmstepd.scope/job_4", "4"),
        (f"/slurm/uid_1/job_5/step_0/task_0/kubepods/pod{UID}/{CID}", "5"),
    ],
)
def test_slurm(path: str, raw_id: str) -> None:
    """All forms, and what a job makes below its folder is still the job's."""
    job = parse(path)
    assert job is not None
    assert (SLURM, raw_id) == (job.manager, job.raw_id)


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}/{CID}",
        f"/kubepods/pod{UID}/{CID}",
        (
            f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice"
            f"/cri-containerd-{CID}.scope"
        ),
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{CID}.scope",
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{CID}.scope/inner",
        f"/docker/{CID[::-1]}/kubelet/kubepods/burstable/pod{UID}/{CID}",
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice"
            f"/cri-containerd-{CID}.scope"
        ),
        f"/system.slice/containerd.service/kubepods-pod{UNDERSCORED}.slice:cri-containerd:{CID}",
    ],
)
def test_kubernetes(path: str) -> None:
    """Under cgroupfs, systemd, kind, CRI-O, docker and containerd's own form."""
    assert parse(path) == JobPath(KUBERNETES, UID, CID)


def test_static_pod_has_no_dashes() -> None:
    """A static pod is named by the hash of its manifest; the folder alone has no container."""
    digest = "ab" * 16
    path = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{digest}.slice"
    assert parse(path) == JobPath(KUBERNETES, digest, None)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/system.slice/slurmd.service",
        "/system.slice/slurmstepd.scope/system",
        "/system.slice/slurmstepd.scope/s1G5M83WET91001",
        "/system.slice/slurmstepd.scope/sIG5M83WET9100",
        "/slurm/uid_1000",
        "/slurm/uid_1000/job_7x",
        "/slurm/uid_x/job_7",
        "/myslurm/uid_1/job_7",
        f"/docker/{CID}",
        f"/kubepods/burstable/pod{UID}x",
        "/kubepods.slice/kubepods-burstable.slice",
        "/user.slice/user-1000.slice/user@1000.service/slurmstepd.scope/job_5",
        "/user.slice/slurm/uid_0/job_1/step_0",
    ],
)
def test_not_a_job(path: str) -> None:
    """The machine's own folders, near misses, and names that a user may choose freely."""
    assert parse(path) is None


def test_user_slice_inside_a_job_is_the_jobs() -> None:
    """A job may make a folder of any name below its own."""
    assert parse("/slurm/uid_1/job_7/user.slice/x") == JobPath(SLURM, "7")


def test_users_of_a_pod_name_no_jobs() -> None:
    """Also in a pod with a slurmd nothing is believed that its users may name."""
    path = f"/kubepods/pod{UID}/user.slice/user-1.slice/slurmstepd.scope/job_7"
    assert Believed(in_pods=True).parse(path) == JobPath(KUBERNETES, UID)


def test_labels() -> None:
    """A path tells a job id, a SLUID or a pod's UID."""
    assert JobPath(SLURM, "7").labels == {"job_id": "7"}
    assert JobPath(SLURM, "s1G5M83WET9100").labels == {"sluid": "s1G5M83WET9100"}
    assert JobPath(KUBERNETES, UID).labels == {"pod_uid": UID}


PIECES = st.sampled_from(
    ["slurm", "slurmstepd.scope", "job_1", "uid_0", f"pod{UID}", CID, "user.slice", "é", "", ":"]
)


@given(st.text() | st.lists(PIECES, max_size=8).map("/".join))
def test_never_raises(path: str) -> None:
    """Any text is a job or none; a job stays the same however deep one looks."""
    job = parse(path)
    if job is not None:
        assert job.raw_id
        assert parse(f"{path}/deeper") == job


SLINKY = f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{CID}.scope"


@pytest.mark.parametrize("inner", ["system.slice/slurmstepd.scope", "slurm/uid_0"])
def test_slurmd_in_a_pod(inner: str) -> None:
    """Where the site says so, the job inside a pod pays and names its pod; else the pod pays."""
    path = f"{SLINKY}/{inner}/job_7/step_0"
    job = Believed(in_pods=True).parse(path)
    assert JobPath(SLURM, "7", pod_uid=UID) == job
    assert job is not None
    assert {"job_id": "7", "pod_uid": UID} == job.labels
    assert JobPath(KUBERNETES, UID, CID) == Believed().parse(path)


def test_what_is_entered() -> None:
    """Folders of pods are entered only where slurmd runs in them; a job's own never."""
    plain, pods = Believed(), Believed(in_pods=True)
    assert (True, True) == (plain.enters("system.slice"), pods.enters("system.slice"))
    assert (False, True) == (plain.enters(SLINKY), pods.enters(SLINKY))
    inside = f"{SLINKY}/slurmstepd.scope/job_7"
    assert (False, False) == (plain.enters(inside), pods.enters(inside))
    assert not pods.enters("slurm/uid_0/job_7")


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("/slurm_n5/uid_10001/job_28", "n5"),
        ("/system.slice/n4_slurmstepd.scope/job_7", "n4"),
        ("/system.slice/slurmstepd.scope/job_7", ""),
        ("/slurm/uid_10001/job_28", ""),
        ("/system.slice/gpu_a_slurmstepd.scope/s1G5M83WET9100", "gpu_a"),
    ],
)
def test_several_slurmd_on_one_host(path: str, node: str) -> None:
    """A path names its slurmd where several run; one may be chosen, and a pod is left alone."""
    job = parse(path)
    assert job is not None
    assert node == job.node
    assert job == Believed(nodename=node).parse(path)
    assert Believed(nodename="other").parse(path) is None
    assert not Believed(nodename="other").enters(path)
    assert Believed(nodename="other").parse(SLINKY) is not None
