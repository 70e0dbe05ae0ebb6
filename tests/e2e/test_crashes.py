"""Programs killed in the middle of their work: nothing is lost and nothing is booked twice."""

import json
import random
from collections import Counter

import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Program, Site, history, until
from tests.fake_nvml.library import FakeNvml

pytestmark = [pytest.mark.compiler, pytest.mark.long]

KILLS = 4


def test_kill_9_of_both_programs_loses_nothing(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """Agent and aggregator die at random while jobs come and go; books and history are exact."""
    chance = random.Random(20_261_123)
    programs = {"aggregator": site.aggregator(), "agent": site.agent()}
    site.await_first_window(uuids)
    crank.begin()
    for round_ in range(KILLS):
        job = str(100 + round_)
        site.mark("start", job, f"{round_ % 4},{(round_ + 1) % 4}")
        # Some deliveries must have come through, then a random part of the next ones.
        site.await_records(chance.randrange(1, 12))
        _kill_and_start_again(site, programs, chance)
        site.mark("end", job, f"{round_ % 4},{(round_ + 1) % 4}")
    crank.finish()

    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("the ledger has it all, once", lambda: truth == site.measured_uj())
    answer = json.loads(
        site.cli("balance", "--url", site.aggregator_url, "--format", "json").stdout
    )
    assert (answer["balanced"], answer["residual_uj"], answer["problems"]) == (True, "0", [])
    assert {0.0} == {meter["unmeasured_seconds"] for meter in answer["meters"]}
    until("metrics show the same", lambda: truth == _exposed(site, uuids))
    jobs = [site.cli("job", str(100 + i), "--url", site.aggregator_url) for i in range(KILLS)]
    assert [job.returncode for job in jobs] == [0] * KILLS
    assert site.cli("balance", "--url", site.aggregator_url).returncode == 0
    assert programs["aggregator"].stop() == 0
    rows = history(site.aggregator_dir)
    assert len({(meter, start_ms) for meter, start_ms, _ in rows}) == len(rows)
    kept = Counter[str]()
    for meter, _, uj in rows:
        kept[meter] += uj
    assert truth == kept


def _kill_and_start_again(site: Site, programs: dict[str, Program], chance: random.Random) -> None:
    for name in chance.choice((["agent"], ["aggregator"], ["agent", "aggregator"])):
        programs[name].kill()
    for name, start in (("aggregator", site.aggregator), ("agent", site.agent)):
        if programs[name].process.poll() is not None:
            programs[name] = start()
    until("both answer again", lambda: site.samples() and site.ask("/v1/fleet"))


def _exposed(site: Site, uuids: list[str]) -> dict[str, int | None]:
    return {f"gpu/{uuid}": site.energy_uj(uuid) for uuid in uuids}
