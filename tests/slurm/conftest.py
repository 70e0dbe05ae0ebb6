"""One cluster for all of these tests, and what happened on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_nvml.library import compile_library
from tests.slurm.cluster import Cluster, missing
from tests.slurm.files import Node
from tests.slurm.gpus import Gpus
from tests.slurm.metering import Metering
from tests.slurm.story import Story

NODES = (Node("n1"), Node("n2"), Node("n3"), Node("n4", marks=False))


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Start Slurm; end it after the last test."""
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm cluster can be started: {reason}")
    with Cluster(NODES) as cluster:
        yield cluster


@pytest.fixture(scope="package")
def gpus(cluster: Cluster) -> Iterator[Gpus]:
    """Put GPUs into the nodes."""
    gpus = Gpus(cluster.folder / "gpus", [node.name for node in cluster.nodes])
    yield gpus
    gpus.close()


@pytest.fixture(scope="package")
def metering(
    cluster: Cluster, gpus: Gpus, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Metering]:
    """Start the aggregator and an agent per node, and wait until they have begun to count."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler (cc) for the fake NVML library")
    library: Path = compile_library(tmp_path_factory.mktemp("library"))
    metering = Metering(cluster, gpus, library)
    try:
        metering.start()
        yield metering
    finally:
        metering.close()


@pytest.fixture(scope="package")
def story(cluster: Cluster, metering: Metering) -> Story:
    """Let everything happen, once."""
    story = Story(cluster, metering)
    story.happen()
    return story
