"""One worker has the whole cluster to itself."""

import os

import pytest

pytestmark = pytest.mark.xdist_group("slurm")


def test_groups_are_kept(request: pytest.FixtureRequest) -> None:
    """Without them workers would start a cluster each, one after the other has ended its own."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@slurm")
