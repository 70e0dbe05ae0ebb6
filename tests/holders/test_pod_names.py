"""The folder of pods' logs: from a pod's name to its UID."""

import os
from pathlib import Path

import pytest

from wattkeeper.holders.pod_names import PodNames

UID = "0f4e8ac3-b1f2-5d53-9d6e-3c2f3b1a9c10"
LATER = "0f4e8ac3-b1f2-5d53-9d6e-3c2f3b1a9c11"
STATIC = "0123456789abcdef0123456789abcdef"


def test_names_of_every_kind(tmp_path: Path) -> None:
    """API pods, static pods, dots in names; a name that came back has two UIDs."""
    for folder in (
        f"default_train-0_{UID}",
        f"default_train-0_{LATER}",
        f"kube-system_etcd-node.example_{STATIC}",
    ):
        (tmp_path / folder).mkdir()
    names = PodNames(tmp_path)
    assert names.uids(("default", "train-0")) == ()
    names.scan()
    assert sorted(names.uids(("default", "train-0"))) == [UID, LATER]
    assert names.uids(("kube-system", "etcd-node.example")) == (STATIC,)
    assert names.name(STATIC) == ("kube-system", "etcd-node.example")
    assert names.name("other") is None
    assert names.trouble == ""


@pytest.mark.parametrize(
    "folder",
    [
        f"default_{UID}",
        f"_x_{UID}",
        f"a_b_c_{UID}",
        f"default_x_{UID}.bak",
        "default_x_0123",
        "lost+found",
        f"Default_x_{UID}",
        "naïve_x_" + UID,
    ],
)
def test_other_folders_mean_nothing(tmp_path: Path, folder: str) -> None:
    """Only what the kubelet itself would write is read."""
    (tmp_path / folder).mkdir()
    names = PodNames(tmp_path)
    names.scan()
    assert names.name(UID) is None


def test_a_folder_that_goes_keeps_what_was_known(tmp_path: Path) -> None:
    """What was read stays; the reason is told until it can be read again."""
    (tmp_path / f"default_x_{UID}").mkdir()
    names = PodNames(tmp_path)
    names.scan()
    aside = tmp_path.with_name(f"{tmp_path.name}-aside")
    tmp_path.rename(aside)
    names.scan()
    assert names.trouble == f"{tmp_path}: No such file or directory"
    assert names.uids(("default", "x")) == (UID,)
    aside.rename(tmp_path)
    names.scan()
    assert names.trouble == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    """Denied is told with its reason."""
    closed = tmp_path / "pods"
    closed.mkdir(mode=0o700)
    names = PodNames(closed)
    os.seteuid(65534)
    try:
        names.scan()
    finally:
        os.seteuid(0)
    assert "Permission denied" in names.trouble
