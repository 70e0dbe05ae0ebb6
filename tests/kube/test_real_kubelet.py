"""Real kube-apiserver, kubelet and containerd: every joule finds its pod. Opt-in.

`tests/kube/run_real.sh FOLDER` builds what is needed and runs this. The kubelet is told of the
GPUs by a device plugin that speaks its protocol, the agent by the fake driver library.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import Site
from tests.fake_nvml.library import compile_library
from tests.kube.node import CGROUPFS, KubeNode, missing
from tests.kube.real import APISERVER, ETCD, real_api
from tests.kube.story import GPUS, NODE, SHARED, Hardware, Story
from tests.slurm.edges import truth

_REASON = missing() or ("" if APISERVER and ETCD else "WATTKEEPER_TEST_KUBE_APISERVER or etcd")
pytestmark = [
    pytest.mark.skipif(bool(_REASON), reason=f"no kubelet can be started: {_REASON}"),
    pytest.mark.xdist_group("kubelet"),
]

ALONE = ("train", "idle", "brief")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Start everything and let it happen, once."""
    folder = tmp_path_factory.mktemp("kube")
    hardware = Hardware(folder / "nvml.state")
    site = Site(folder, compile_library(folder), hardware.fake.path)

    async def happen() -> Story:
        (folder / "api").mkdir()
        async with real_api(folder / "api", watch_cache=True) as api:
            with KubeNode(api, NODE) as node:
                story = Story(api, node, hardware, site)
                try:
                    await story.happen()
                finally:
                    for log in ("kubelet.log", "containerd.log"):
                        shutil.copy(node.folder / log, folder / log)
                return story

    try:
        yield asyncio.run(happen())
    finally:
        site.close()


def gpu_uj(story: Story, name: str) -> int:
    """Return what GPUs have drawn for a pod, as the books say."""
    return int(story.jobs[name]["energy_by_component_uj"]["gpu"])


@pytest.mark.parametrize("name", ALONE)
def test_a_pod_pays_what_its_gpus_drew(story: Story, name: str) -> None:
    """From the birth of its control group to its death, give or take one step of the counter."""
    stay = story.stay(name)
    assert len(stay.gpus) == (2 if name == "train" else 1)
    assert gpu_uj(story, name) in truth(story.hardware, [stay])


def test_pods_that_take_turns_on_a_gpu_share_it(story: Story) -> None:
    """Together they pay all of it, each by the time that its process had."""
    first, second = (story.stay(f"web-1-{which}") for which in "ab")
    assert first.gpus == second.gpus == (SHARED,)
    both = (gpu_uj(story, "web-1-a"), gpu_uj(story, "web-1-b"))
    begin = min((first, second), key=lambda stay: stay.start.not_after_ns)
    end = max((first, second), key=lambda stay: stay.end.not_after_ns)
    whole = type(first)(0, NODE, first.gpus, begin.start, end.end)
    assert sum(both) in truth(story.hardware, [whole])
    assert both[0] > 1.5 * both[1]


def test_an_allocated_gpu_at_rest_is_told(story: Story) -> None:
    """It is its pod's, as allocated but idle, except while no agent saw whether it works."""
    job = story.jobs["idle"]
    assert int(job["allocated_idle_uj"]) > 0.7 * int(job["energy_uj"])
    assert int(story.jobs["train"]["allocated_idle_uj"]) < 0.5 * gpu_uj(story, "train")


def test_pods_are_named_by_the_api_server(story: Story) -> None:
    """Name, namespace, owner and how it ended, with the rights of the manifest only."""
    owners = {"train": ("Job", "pretrain"), "web-1-a": ("Deployment", "web")}
    for name, job in story.jobs.items():
        assert (job["name"], job["account"], job["state"], job["nodes"]) == (
            name, "ml", "succeeded", [NODE],
        )  # fmt: skip
        owner = owners.get(name.replace("-b", "-a"), ("Pod", name))
        assert (job["owner_kind"], job["owner_name"]) == owner


def test_the_books_balance(story: Story) -> None:
    """Residual 0 of every GPU, through a kubelet and an agent that were killed."""
    assert (story.balance["exit"], story.balance["residual_uj"]) == (0, "0")
    assert len(story.balance["meters"]) == GPUS
    assert all(int(meter["gap_uj"]) == 0 for meter in story.balance["meters"])


def test_doctor_tells_of_the_kubelet(story: Story) -> None:
    """After its restart: one pod has ended, four still have what they were given."""
    assert story.findings["pod-resources"]["state"] == "ok"
    assert "4 of them with GPUs" in story.findings["pod-resources"]["detail"]
    assert "allocatable" in story.findings["pod-resources/allocatable"]["detail"]
    assert story.samples[f'wattkeeper_pod_gpus{{node="{NODE}",state="allocated"}}'] == 5


def test_nothing_is_left(story: Story) -> None:
    """No control group, no folder, no mount."""
    assert not list(CGROUPFS.glob("*/kubepods"))
    assert not story.node.folder.exists()
    assert str(story.node.folder) not in Path("/proc/self/mountinfo").read_text()
