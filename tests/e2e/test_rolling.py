"""Everything is restarted, one after the other, while nodes draw power and people ask."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.balancer import Balancer
from tests.e2e.conftest import GPUS
from tests.e2e.hardware import Crank
from tests.e2e.programs import Program, Site, fetch, free_port, until
from tests.fake_nvml.library import FakeNvml

pytestmark = [pytest.mark.postgresql, pytest.mark.compiler]

NODES = 2


class Node:
    """A node with GPUs of its own."""

    def __init__(self, folder: Path, library: Path, number: int) -> None:
        folder.mkdir()
        fake = FakeNvml(folder / "nvml.state", GPUS)
        for i in range(GPUS):
            fake.gpu(i).uuid = f"GPU-{number}{i}".encode()
        self.meters = [fake.meter(i) for i in range(GPUS)]
        self.uuids = [fake.gpu(i).uuid.decode() for i in range(GPUS)]
        self.crank = Crank(fake, GPUS)
        self.site = Site(folder, library, fake.path, f"n{number}")

    def drawn(self) -> dict[str, int]:
        """Return what each meter counted, in microjoules."""
        return {meter: self.crank.drawn_uj(i) for i, meter in enumerate(self.meters)}


@pytest.fixture
def nodes(tmp_path: Path, library: Path) -> Iterator[list[Node]]:
    """Nodes at rest; every program of theirs is ended."""
    with contextlib.ExitStack() as stack:
        made = [Node(tmp_path / f"n{number}", library, number) for number in range(NODES)]
        for node in made:
            stack.callback(node.site.close)
            stack.callback(node.crank.finish)
        yield made


def test_a_rolling_restart_of_everything_loses_no_joule(
    nodes: list[Node], new_url: Callable[[], str]
) -> None:
    """Two aggregators on one ledger, and every agent: stopped and started again in turn.

    A job holds GPUs of both nodes all the while, and pays for all that they drew.
    """
    url = new_url()
    ports = [free_port(), free_port()]

    def aggregator(number: int) -> Program:
        site = nodes[0].site
        return site.start([
            "aggregator", "--listen", f"127.0.0.1:{ports[number]}",
            "--data-dir", str(site.folder / f"a{number}"), "--commit-interval", "500ms",
            "--ledger.url", url, "--ledger.lease", "2s", "--telemetry.url", "none",
        ])  # fmt: skip

    with Balancer(ports) as balancer:
        aggregators = [aggregator(number) for number in range(2)]

        def agent(node: Node) -> Program:
            return node.site.agent("--aggregator.url", balancer.url, delivers=False)

        agents = [agent(node) for node in nodes]
        for node in nodes:
            node.site.await_first_window(node.uuids)
            node.site.mark("start", "77", "0,1")
            node.crank.begin()
        for number in range(2):
            nodes[number].site.await_records(4)
            assert aggregators[number].stop() == 0
            assert json.loads(fetch(f"{balancer.url}/v1/fleet"))["nodes"]
            aggregators[number] = aggregator(number)
            nodes[number].site.await_records(4)
            assert agents[number].stop() == 0
            agents[number] = agent(nodes[number])
            until("it samples again", nodes[number].site.samples)
            nodes[number].site.await_records(4)
        for node in nodes:
            node.crank.finish()
            node.site.mark("end", "77", "0,1")

        drawn = {meter: uj for node in nodes for meter, uj in node.drawn().items()}

        def measured() -> dict[str, int]:
            meters = json.loads(fetch(f"{balancer.url}/v1/balance"))["meters"]
            return {meter["meter"]: int(meter["measured_uj"]) for meter in meters}

        until("the ledger has it all", lambda: measured() == drawn)
        balance = json.loads(fetch(f"{balancer.url}/v1/balance"))
        assert (balance["residual_uj"], balance["problems"]) == ("0", [])
        assert {0.0} == {meter["unmeasured_seconds"] for meter in balance["meters"]}
        assert {"0"} == {meter["gap_uj"] for meter in balance["meters"]}
        job = json.loads(fetch(f"{balancer.url}/v1/jobs/default/77"))
        of_job = sum(node.crank.drawn_uj(i) for node in nodes for i in (0, 1))
        assert str(of_job) == job["energy_uj"]
        assert [program.stop() for program in (*agents, *aggregators)] == [0] * 4
