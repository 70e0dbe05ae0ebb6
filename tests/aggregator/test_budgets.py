"""Budgets of a running aggregator: `/v1/budgets`, `/metrics`, and what survives a restart."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import START_MS, Feeder
from tests.aggregator.test_metrics import samples
from wattkeeper.aggregator.budget_config import BudgetSection
from wattkeeper.ledger import breaches

BUDGETS = {
    "site": {"watts": "600W", "raise_after": "0s"},
    "rack": {"watts": "490W", "group": "rack=r12", "inside": "site", "raise_after": "0s"},
    "physics": {"demand": "500W", "account": "physics", "inside": "rack", "raise_after": "0s"},
    "alice": {"energy": "1kWh", "per": "day", "user": "alice", "inside": "site"},
}
SETTINGS = {
    "budgets": BUDGETS,
    "groups": {"rack": {"r12": ("node[001-018]",)}},
}


async def evaluated(centre: Centre) -> dict[str, Any]:
    """Evaluate the budgets now, closed slots too; return the answers by name."""
    centre.aggregator.budgeting._reader._look_s = float("-inf")
    assert await centre.aggregator.budgeting.assess()
    status, body = await centre.get("/v1/budgets")
    assert status == 200, body
    assert [one["name"] for one in body["budgets"]] == ["site", "rack", "physics", "alice"]
    return {one["name"]: one for one in body["budgets"]}


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_what_is_used_and_who_uses_it(centre: Centre) -> None:
    """Live power of a node and of a job, what is booked, and what was drawn since."""
    feeder = await centre.fed(windows=180)
    centre.clock[0] += 10_000
    found = await evaluated(centre)
    site, rack, physics, alice = (found[name] for name in BUDGETS)
    assert (site["watts"], site["used_ratio"], site["state"]) == (500.0, 500 / 600, "ok")
    assert (rack["watts"], rack["state"], rack["inside"]) == (500.0, "hard", "site")
    # The holder has the GPU whole, and as far as its node says, the CPU too.
    assert (physics["watts"], physics["coverage"]) == (500.0, 1.0)
    assert physics["used_uj"] == str(10 * 500_000_000)  # a new interval has just begun
    assert physics["before_ratio"] == pytest.approx(450 / 500)
    assert physics["forecast"]["ratio"] == pytest.approx(1.0)
    assert physics["state"] == "forecast"
    assert physics["peak"]["watts"] == pytest.approx(450)
    assert alice["used_uj"] == str(1800 * 450_000_000 + 10 * 500_000_000)
    assert alice["unbooked_uj"] == str(10 * 500_000_000)
    assert [("job", "123", 500.0), ("account", "physics", 500.0), ("node", "node001", 500.0)] == [
        (one["kind"], one["name"], one["watts"]) for one in rack["contributors"]
    ]
    (breach,) = [one for one in rack["history"] if one["level"] == "hard"]
    assert (breach["worst_ratio"], breach["end"]) == (pytest.approx(500 / 490, abs=1e-6), None)
    assert rack["since"] == breach["start"]
    assert feeder.at_ms == START_MS + 1_800_000


PERIODS = {"day": {"energy": "1kWh", "per": "day"}, "lab": {"energy": "9kWh", "account": "physics"}}


@pytest.mark.parametrize("centre", [{"budgets": PERIODS}], indirect=True)
async def test_who_used_most_of_a_period(centre: Centre) -> None:
    """Accounts, and of an account its users; by the closed slots, with what they draw now."""
    await centre.fed(windows=180)
    centre.aggregator.budgeting._reader._look_s = float("-inf")
    assert await centre.aggregator.budgeting.assess()
    _, body = await centre.get("/v1/budgets")
    first = {one["name"]: one["contributors"][0] for one in body["budgets"]}
    used = str(1800 * 450_000_000)
    assert first == {
        "day": {"kind": "account", "name": "physics", "watts": 500.0, "energy_uj": used},
        "lab": {"kind": "user", "name": "alice", "watts": None, "energy_uj": used},
    }


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_shares_that_a_node_told(centre: Centre) -> None:
    """Of a meter that is shared a job has its part of the last window."""
    feeder = await centre.fed(windows=18)
    seen = feeder.snapshot()
    meters = (seen.meters[0], replace(seen.meters[1], shares_ppm=(250_000,)))
    await centre.deliver(feeder.batch([], replace(seen, meters=meters)))
    found = await evaluated(centre)
    assert (found["site"]["watts"], found["physics"]["watts"]) == (500.0, 425.0)


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_a_silent_node_is_missing_not_zero(centre: Centre) -> None:
    """The reading says how much of it there is, and what is not heard clears nothing."""
    await centre.fed(windows=18)
    other = Feeder(node="node002", journal="j2", raw_id="9", uuid="GPU-2")
    await centre.fed(other, windows=18)
    before = await evaluated(centre)
    assert (before["site"]["watts"], before["site"]["coverage"]) == (1000.0, 1.0)
    centre.clock[0] += 100_000
    await centre.deliver(other.batch(other.run(10), other.snapshot()))
    centre.clock[0] += 100_000
    found = await evaluated(centre)
    site = found["site"]
    assert (site["watts"], site["coverage"]) == (500.0, 0.5)
    assert (site["silent_nodes"], site["silent_watts"], site["state"]) == (1, 500.0, "hard")
    assert found["physics"]["coverage"] == 0.5
    centre.clock[0] += 1_000_000
    found = await evaluated(centre)
    assert (found["site"]["watts"], found["site"]["used_ratio"]) == (None, None)
    assert found["site"]["state"] == "hard"


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_metrics(centre: Centre) -> None:
    """By name: limit, power, what is used, level, state; nothing where nothing is known."""
    await centre.fed(windows=180)
    await evaluated(centre)
    text = await centre.text("/metrics")
    assert samples(text, "wattkeeper_budget_watts") == {
        ("site",): 600.0, ("rack",): 490.0, ("physics",): 500.0,
    }  # fmt: skip
    assert samples(text, "wattkeeper_budget_joules") == {("alice",): 3.6e6}
    assert samples(text, "wattkeeper_budget_power_watts")["rack",] == 500.0
    assert samples(text, "wattkeeper_budget_energy_ratio")["alice",] == pytest.approx(0.225)
    levels = samples(text, "wattkeeper_budget_level")
    assert (levels["rack", "hard"], levels["site", "hard"]) == (1.0, 0.0)
    assert samples(text, "wattkeeper_budget_info")["physics", "demand", "rack", "account"] == 1.0


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_a_restart_goes_on_with_what_was_reached(centre: Centre) -> None:
    """Since when, and one breach, not another."""
    feeder = await centre.fed(windows=18)
    before = (await evaluated(centre))["rack"]
    await centre.aggregator.stop()
    centre.clock[0] += 60_000
    await centre.aggregator_again()
    await centre.fed(feeder, windows=6)
    after = (await evaluated(centre))["rack"]
    assert (after["state"], after["since"]) == ("hard", before["since"])
    assert len(after["history"]) == len(before["history"])


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_the_last_budget_is_removed(centre: Centre) -> None:
    """Nothing of it is reached any more, so that its alerts end."""
    await centre.fed(windows=18)
    assert (await evaluated(centre))["rack"]["state"] == "hard"
    await centre.aggregator.stop()
    centre.clock[0] += 60_000
    settings = centre.aggregator.settings
    centre.aggregator.settings = settings.model_copy(update={"budgets": {}})
    await centre.aggregator_again()
    assert await centre.aggregator.budgeting.assess()
    for what in (breaches.reached_now, breaches.states):
        assert await asyncio.to_thread(what, centre.aggregator.ledger) == []


@pytest.mark.parametrize("centre", [{"budgets": PERIODS}], indirect=True)
async def test_the_books_and_the_budget_are_one(centre: Centre) -> None:
    """When all is booked, what is used is what the report of the period says, to the microjoule."""
    for name, journal in (("node001", "j1"), ("node002", "j2")):
        feeder = Feeder(node=name, journal=journal, raw_id=journal, uuid=f"GPU-{journal}")
        await centre.fed(feeder, windows=97)
    centre.aggregator.budgeting._reader._look_s = float("-inf")
    assert await centre.aggregator.budgeting.assess()
    _, body = await centre.get("/v1/budgets", name="day")
    (day,) = body["budgets"]
    query = {"since": day["start"], "until": day["end"], "by": "node"}
    _, report = await centre.get("/v1/report", **query)
    assert (day["used_uj"], day["unbooked_uj"]) == (report["energy_uj"], "0")


@pytest.mark.parametrize(
    "centre", [SETTINGS | {"alerts": {"via": "webhook", "url": "http://127.0.0.1:9/s3cret"}}],
    indirect=True,
)  # fmt: skip
async def test_what_fails_is_found(centre: Centre) -> None:
    """A ledger that does not answer, and a receiver that is away, are told with what to do."""
    await centre.fed(windows=18)
    await evaluated(centre)
    await centre.aggregator.budgeting._alerting._tell(
        centre.aggregator.budgeting._alerting._teller  # type: ignore[arg-type]
    )

    def rename(old: str, new: str) -> None:
        with centre.aggregator.ledger.writing() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    async def found() -> dict[str, tuple[str, str]]:
        _, body = await centre.get("/v1/findings")
        return {one["subject"]: (one["state"], one["detail"]) for one in body["findings"]}

    told = await found()
    assert told["budgets"] == ("ok", "4 are watched")
    assert told["alerts"][0] == "failing"
    assert "127.0.0.1:9" in told["alerts"][1]
    assert "s3cret" not in told["alerts"][1]  # the path of a webhook is often its password
    await asyncio.to_thread(rename, "posting", "away")
    assert not await centre.aggregator.budgeting.assess()
    await asyncio.to_thread(rename, "away", "posting")
    assert (await found())["budgets"][0] == "failing"
    assert await centre.aggregator.budgeting.assess()
    assert (await found())["budgets"][0] == "ok"


async def test_no_budgets(centre: Centre) -> None:
    """An empty list, no metrics."""
    assert (await centre.get("/v1/budgets"))[1]["budgets"] == []
    status, body = await centre.get("/v1/budgets", name="site")
    assert (status, body["field"]) == (404, "name")
    assert "wattkeeper_budget" not in await centre.text("/metrics")


def test_sections_are_budgets() -> None:
    """What the configuration says is what is judged."""
    section = BudgetSection.model_validate(
        {"demand": "1.2MW", "interval": "30m", "timezone": "Europe/Berlin", "group": "rack=r12",
         "days": ["mon"], "hours": "07:00-20:00", "holidays": ["12-25"], "cluster": "west"}
    )  # fmt: skip
    budget = section.budget("x")
    assert (budget.limit, budget.length_ms, str(budget.scope)) == (
        1_200_000_000, 1_800_000, "group rack=r12 of cluster west",
    )  # fmt: skip
    assert (budget.calendar.from_minute, budget.calendar.to_minute) == (420, 1200)
