"""Groups of nodes: by host list, feature, topology and label, as of now."""

import asyncio
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.test_metrics import samples
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.group_config import wanted_labels, wants_topology
from wattkeeper.aggregator.groups import Groups
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, NodeInfo
from wattkeeper.schedulers.marks import MOST, bounded

MARKS = {
    "n1": {"feature:h100", "feature:rack-r12", "topology:default=s1", "label:zone=a"},
    "n2": {"feature:rack-r13", "topology:=s2", "topology:blocks=b7", "label:zone="},
    "n3": {"feature:rack-", "label:zones=b"},
}


def labels(**groups: Any) -> dict[str, dict[str, str]]:
    """Return the groups of nodes by configuration."""
    read = AggregatorSettings.model_validate({"groups": groups}).groups
    return Groups(read, lambda: MARKS).labels()


def test_host_lists() -> None:
    """A node has a label of each kind that names it; nobody is asked."""
    assert labels(rack={"r1": ["n[1-2]"]}, row={"a": ["n1"]}) == {
        "n1": {"rack": "r1", "row": "a"}, "n2": {"rack": "r1"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"fast": {"feature": "h100"}}, {"n1": "fast"}),
        ({"west": {"label": "zone=a"}}, {"n1": "west"}),
        ({"from": "feature:rack-*"}, {"n1": "r12", "n2": "r13"}),
        ({"from": "label:zone"}, {"n1": "a"}),
        ({"from": "slurm-topology"}, {"n1": "s1", "n2": "b7"}),
        ({"from": "slurm-topology:blocks"}, {"n2": "b7"}),
        ({"mine": ["n1"], "other": {"feature": "h100"}}, {"n1": "mine"}),
    ],
)
def test_by_marks(members: dict[str, Any], expected: dict[str, str]) -> None:
    """One group is named by us, or all are by the scheduler; a host list has the last word."""
    assert {node: own["rack"] for node, own in labels(rack=members).items()} == expected


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"r12": "n1"}, "is no list"),
        ({"r12": 5}, "is no group"),
        ({"r12": ["n[1"]}, "is no host list"),
        ({"r12": {"feature": "a", "label": "b=c"}}, "is no rule"),
        ({"r12": {"featur": "a"}}, "is no rule"),
        ({"r12": {"label": "zone"}}, "KEY=VALUE"),
        ({"from": "rack"}, "is no source"),
        ({"from": "feature:rack"}, "is no source"),
        ({"from": "slurm-topology", "r1": ["n1"]}, "choose one"),
    ],
)
def test_mistakes(members: Any, message: str) -> None:
    """Each says what is wrong and how it looks."""
    with pytest.raises(ValueError, match=message):
        labels(rack=members)


def test_what_schedulers_are_asked_for() -> None:
    """No more than groups are made of."""
    read = AggregatorSettings.model_validate(
        {"groups": {"zone": {"from": "label:zone"}, "rack": {"r1": {"label": "rack=r1"}}}}
    ).groups
    assert (wanted_labels(read), wants_topology(read)) == (
        frozenset({"zone", "rack"}), False,
    )  # fmt: skip
    read = AggregatorSettings.model_validate({"groups": {"sw": {"from": "slurm-topology"}}}).groups
    assert (wanted_labels(read), wants_topology(read)) == (frozenset(), True)


def test_marks_are_bounded() -> None:
    """In number and length; what could not be shown is left out."""
    found = bounded([*(f"feature:{number:03}" for number in range(200)), "x" * 300, "a\nb"])
    assert (len(found), found[0]) == (MOST, "feature:000")


RACKS = {"groups": {"rack": {"from": "feature:rack-*"}}}


@pytest.mark.parametrize("centre", [RACKS], indirect=True)
async def test_from_the_inventory(centre: Centre) -> None:
    """A scheduler's word moves a node into its rack, in metrics and in reports, and out again."""
    await centre.fed()
    ledger = centre.aggregator.ledger

    def say(*marks: str) -> None:
        node = NodeInfo("west", "node001", 1, "IDLE", marks=marks)
        record_knowledge(ledger, "slurm", Knowledge(nodes=(node,)), now_ms=centre.clock[0])

    await asyncio.to_thread(say, "feature:h100", "feature:rack-r12")
    text = await centre.text("/metrics")
    assert samples(text, "wattkeeper_node_info") == {("west", "node001", "r12"): 1.0}
    _, report = await centre.get("/v1/report", by="group:rack")
    assert [row["key"] for row in report["rows"]] == ["r12"]
    centre.clock[0] += 1000
    await asyncio.to_thread(say, "feature:rack-r13")
    centre.aggregator._budgeting._fleet._groups._labels.expire()  # type: ignore[union-attr]
    _, report = await centre.get("/v1/report", by="group:rack")
    assert [row["key"] for row in report["rows"]] == ["r13"]
