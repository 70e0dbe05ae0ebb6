"""Agent and aggregator as real programs: what the hardware counted is in the books, exactly."""

import json

import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Site, until
from tests.fake_nvml.library import FakeNvml

pytestmark = pytest.mark.compiler


def test_the_books_hold_what_the_hardware_counted(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """Metrics, ledger, job and the command line all say the library's exact integral."""
    aggregator, agent = site.aggregator(), site.agent()
    site.await_first_window(uuids)
    crank.turn(1)
    before = {i: crank.drawn_uj(i) for i in range(4)}
    site.mark("start", "4711", "0,2")
    crank.turn(2)
    site.mark("end", "4711", "0,2")
    crank.turn(1)

    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("metrics show the truth", lambda: truth == _exposed(site, uuids))
    until("the ledger has it all", lambda: truth == site.measured_uj())
    balance = site.cli("balance", "--url", site.aggregator_url, "--format", "json")
    assert (balance.returncode, balance.stderr) == (0, "")
    answer = json.loads(balance.stdout)
    assert (answer["residual_uj"], answer["problems"]) == ("0", [])
    assert {0.0} == {meter["unmeasured_seconds"] for meter in answer["meters"]}

    shown = site.cli("job", "4711", "--url", site.aggregator_url, "--format", "json")
    assert (shown.returncode, shown.stderr) == (0, "")
    job = json.loads(shown.stdout)
    # While the job held GPUs 0 and 2, each drew its whole power for two of the four periods.
    of_job = 2 * sum(before[i] for i in (0, 2))
    assert (str(of_job), "ada", ["n1"]) == (job["energy_uj"], job["user"], job["nodes"])
    assert {"counter": str(of_job)} == {
        name: uj for name, uj in job["energy_by_source_uj"].items() if uj != "0"
    }
    assert (agent.stop(), aggregator.stop()) == (0, 0)


def test_backlog_is_booked_when_the_aggregator_comes(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """An agent that nobody listens to keeps its windows, also over a stop, and delivers later."""
    agent = site.agent()
    site.await_first_window(uuids)
    crank.turn(1)
    assert agent.stop() == 0
    crank.turn(1)
    site.agent()
    site.aggregator()
    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("the ledger has it all", lambda: truth == site.measured_uj())
    assert site.cli("balance", "--url", site.aggregator_url).returncode == 0


def _exposed(site: Site, uuids: list[str]) -> dict[str, int | None]:
    return {f"gpu/{uuid}": site.energy_uj(uuid) for uuid in uuids}
