"""GPUs in `gres` and `gres_detail`."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.schedulers.base import NodeGpus
from wattkeeper.schedulers.slurm_gres import gpu_count, granted, has_slices


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("gpu:h100:1(IDX:0)", (0,)),
        ("gpu:h100:4(IDX:0-3)", (0, 1, 2, 3)),
        ("gpu:h100:3(IDX:0,2-3)", (0, 2, 3)),
        ("gpu:2(IDX:0,7)", (0, 7)),
        ("gres/gpu:h100:1(IDX:5)", (5,)),
        ("gres:gpu:1(IDX:5)", (5,)),
        ("gpu:a100:1(IDX:0),gpu:h100:1(IDX:4)", (0, 4)),
        ("gpu:h100:2(IDX:6-7),gpu:a100:0(IDX:)", (6, 7)),
        ("gpu:a100:2(IDX:0,2),gpu:h100:1(IDX:4)", (0, 2, 4)),
        ("gpu:h100:2(S:0-1,IDX:2-3)", (2, 3)),
        ("gpu:h100:0(IDX:N/A)", ()),
        ("gpu:h100:2", ()),
        ("gpu(IDX:N/A)", ()),
        ("shard:h100:8(IDX:0,1)", ()),
        ("mps:100(IDX:0)", ()),
        ("gpu:1g.10gb:2(IDX:0-1)", ()),
        ("nic:1(IDX:0),gpu:h100:1(IDX:3)", (3,)),
        ("craynetwork:1", ()),
    ],
)
def test_granted(entry: str, expected: tuple[int, ...]) -> None:
    """Types, ranges, empty ones; parts and slices of GPUs are no GPUs."""
    found = granted(["n1"], [entry])
    assert expected == (found[0].indices if found else ())


def test_granted_by_node() -> None:
    """An entry belongs to the node at its place; a node without GPUs is left out."""
    detail = ["gpu:h100:1(IDX:0)", "", "gpu:h100:2(IDX:2-3)"]
    expected = (NodeGpus("n3", (0,)), NodeGpus("n7", (2, 3)))
    assert expected == granted(["n3", "n5", "n7"], detail)
    assert granted(["n3"], []) == ()
    assert granted(["n3", "n5"], ["", ""]) == ()


def test_a_node_with_slices() -> None:
    """There an index counts slices and whole GPUs alike: it is that of no GPU."""
    detail = ["gpu:h100:1(IDX:3)", "gpu:h100:1(IDX:4)"]
    assert granted(["n1", "n2"], detail, frozenset({"n1"})) == (NodeGpus("n2", (4,)),)


@pytest.mark.parametrize("entry", ["gpu:1(IDX:3-1)", "gpu:1(IDX:0-99999)", "gpu:1(IDX:0--1)"])
def test_bad_indices(entry: str) -> None:
    """Rather no GPUs at all than wrong ones."""
    with pytest.raises(ValueError, match="gres_detail"):
        granted(["n1"], [entry])


def test_entries_that_do_not_fit() -> None:
    """Two nodes and one entry: it is not known which node has it."""
    with pytest.raises(ValueError, match="1 entries for 2 nodes"):
        granted(["n1", "n2"], ["gpu:1(IDX:0)"])


@given(st.text(alphabet="gpushardIDX:N/A0123456789-,()h. ", max_size=60))
def test_any_text(entry: str) -> None:
    """Indices, none, or a ValueError."""
    gpu_count(entry)
    with contextlib.suppress(ValueError):
        for gpus in granted(["n1"], [entry]):
            assert gpus.indices == tuple(sorted(set(gpus.indices)))


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:h100:8", 8),
        ("gpu:8(S:0-1)", 8),
        ("gpu:a100:4(S:0),gpu:h100:4(S:1)", 8),
        ("gpu:tesla:no_consume:2", 2),
        ("gpu", 1),
        ("gpu:h100:8,shard:h100:32", 8),
        ("gres/gpu:h100:8", 8),
        ("(null)", None),
        ("", None),
        ("nic:2", None),
        ("gpu:1g.10gb:7,gpu:h100:1", None),
    ],
)
def test_gpu_count(gres: str, expected: int | None) -> None:
    """All types together; None where nothing is said, or slices are counted."""
    assert expected == gpu_count(gres)


def test_has_slices() -> None:
    """A MIG profile as the type, whatever stands around it."""
    assert has_slices("gpu:h100:1,gpu:3g.40gb:2(S:0)")
    assert has_slices("gpu:1g.10gb+me:1")
    assert not has_slices("gpu:h100:8,shard:1g.10gb:8")
