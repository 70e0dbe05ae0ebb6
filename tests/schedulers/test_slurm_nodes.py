"""Nodes of 22.05 to 26.05."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.schedulers.slurm_captures import records
from tests.schedulers.test_slurm_jobs import VALUES
from wattkeeper.schedulers.base import NodeInfo
from wattkeeper.schedulers.slurm_nodes import NodeRecord, read, topology


def nodes(file: str) -> dict[str, NodeInfo]:
    """Return the nodes of a capture by name."""
    found = [info for record in records(file, NodeRecord) for info, _ in read("demo", record)]
    return {info.name: info for info in found}


@pytest.mark.parametrize("file", ["22.05/sinfo.json", "25.11/sinfo.json", "26.05/sinfo.json"])
def test_every_node(file: str) -> None:
    """One record each (22.05), or a record for all that are alike."""
    found = nodes(file)
    assert {f"n{number}" for number in range(1, 9)} == found.keys()
    assert {8} == {info.gpus for info in found.values()}
    assert found["n6"].state == "ALLOCATED"
    assert found["n1"].state == "MIXED"
    assert all(info.expected and info.cluster == "demo" for info in found.values())


@pytest.mark.parametrize(
    "file",
    [
        "22.05/rest_v0.0.38_nodes.json",
        "25.11/rest_v0.0.44_nodes.json",
        "26.05/scontrol_show_nodes.json",
    ],
)
def test_by_name(file: str) -> None:
    """Node records; two types of GPUs count together."""
    found = nodes(file)
    assert {"n1", "n4"} == found.keys()
    assert {8} == {info.gpus for info in found.values()}


@pytest.mark.parametrize(
    "file", ["22.05/rest_v0.0.38_nodes_drain_down.json", "26.05/rest_v0.0.45_nodes_drain_down.json"]
)
def test_drained_nodes(file: str) -> None:
    """They draw power: they are expected, and their state says why nothing runs."""
    found = nodes(file)
    assert [("MIXED+DRAIN", True), ("IDLE+DRAIN", True), ("IDLE", True)] == [
        (found[name].state, found[name].expected) for name in ("n2", "n3", "n7")
    ]


@pytest.mark.parametrize(
    ("state", "flags", "expected"),
    [
        ("idle", ["POWERED_DOWN"], False),
        (["IDLE", "CLOUD", "POWERED_DOWN"], None, False),
        (["IDLE", "POWERING_DOWN"], None, False),
        (["MIXED", "POWERING_UP"], None, False),
        (["FUTURE"], None, False),
        (["DOWN"], None, True),
        (["DOWN", "NOT_RESPONDING"], None, True),
        ("down*", [], True),
        (["UNKNOWN"], None, True),
    ],
)
def test_expected(state: object, flags: object, expected: bool) -> None:
    """What is off or not there yet is not; what is down should be metered."""
    record = NodeRecord(name="n1", state=state, state_flags=flags, gres="gpu:8")
    assert [(expected, False)] == [(info.expected, cut) for info, cut in read("c", record)]


def test_slices() -> None:
    """How many GPUs a node with MIG slices has is not said."""
    ((info, cut),) = read("c", NodeRecord(name="n1", state="idle", gres="gpu:1g.10gb:7"))
    assert (info.gpus, cut) == (None, True)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("22.05/rest_v0.0.38_nodes.json", "n1"),
        ("26.05/sinfo.json", "n1"),
        ("26.05/scontrol_show_nodes.json", "n1"),
    ],
)
def test_features(file: str, name: str) -> None:
    """As a list of words, a list, or a table with the active ones."""
    assert nodes(file)[name].marks == ("feature:h100", "feature:nvlink")


@pytest.mark.parametrize(
    ("said", "marks"),
    [
        ("default:s1", ("topology:default=s1",)),
        ("tree:root:s1:s2,blocks:b7", ("topology:blocks=b7", "topology:tree=s2")),
        ("", ()),
        (None, ()),
        (7, ()),
    ],
)
def test_where_a_node_is(said: object, marks: tuple[str, ...]) -> None:
    """By each topology (25.05 on); of a path of switches the last one."""
    ((info, _),) = read("c", NodeRecord(name="n1", topology=said))
    assert info.marks == marks


def test_topology_as_text() -> None:
    """The leaf switch or the block of each node; what is above is no place of one."""
    said = b"""SwitchName=s0 Level=0 LinkSpeed=1 Nodes=n[1-2]
SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n3
SwitchName=top Level=1 LinkSpeed=1 Nodes=n[1-3] Switches=s[0-1]
BlockName=b1 BlockIndex=0 Nodes=n[4-5] BlockSize=2
BlockName=b2 BlockIndex=1 Nodes=
"""
    assert topology(said) == {
        "n1": "topology:=s0", "n2": "topology:=s0", "n3": "topology:=s1",
        "n4": "topology:=b1", "n5": "topology:=b1",
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from(NodeRecord.__struct_fields__), VALUES, max_size=5))
def test_any_value_in_any_field(fields: dict[str, Any]) -> None:
    """Nodes with names, or a ValueError that lets the others go on."""
    try:
        found = read("c", NodeRecord(**({"name": "n1"} | fields)))
    except ValueError:
        return
    for info, _ in found:
        assert info.name
        (info.name + info.state).encode()
