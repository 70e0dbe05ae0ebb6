"""What each is told of jobs: a user of their own, a manager of an account, and no more by any way.

Alice has job 123 in physics and 125 in chemistry, bob 124 in chemistry, which ann manages.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, Feeder
from tests.aggregator.roles import ask, guarded, two_peoples_jobs

JOB_UJ = 180 * (GPU_UJ + CPU_UJ // 2)
LAZY = {"job_id": "9", "user": "bob", "account": "chemistry"}
BUDGETS = {
    "site": {"watts": "1kW", "raise_after": "0s"},
    "rack": {"watts": "1kW", "group": "rack=r12", "inside": "site", "raise_after": "0s"},
    "chemistry": {"watts": "1kW", "account": "chemistry", "inside": "rack"},
    "alice": {"energy": "1kWh", "per": "day", "user": "alice", "inside": "rack"},
}
RACKS = {"rack": {"r12": ("node[001-018]",)}}


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[Centre]:
    """Run an aggregator with jobs of two people, that knows somebody of each role."""
    async with guarded(
        tmp_path, more={"budgets": BUDGETS, "groups": RACKS, "telemetry": {}}
    ) as running:
        await two_peoples_jobs(running)
        assert await running.aggregator.budgeting.assess()
        yield running


async def told(centre: Centre, who: str, path: str, /, **query: str) -> Any:
    """Return what somebody is answered."""
    status, body = await ask(centre, who, path, **query)
    assert 200 == status, body
    return json.loads(body)


async def test_jobs_are_ones_own(centre: Centre) -> None:
    """In lists, however they are asked for, and one by one."""
    for who, own in (
        ("user", {"123", "125"}),
        ("manager", {"124", "125"}),
        ("operator", {"123", "124", "125"}),
    ):
        for query in ({}, {"since": "2027-01-01"}, {"id": "100-200"}, {"state": "running"}):
            answer = await told(centre, who, "/v1/jobs", **query)
            assert own == {job["job_id"] for job in answer["jobs"]}
        few = await told(centre, who, "/v1/jobs", limit=str(len(own)))
        assert (len(own), False) == (len(few["jobs"]), few["more"])
        for user, theirs in (("alice", {"123", "125"}), ("bob", {"124"})):
            answer = await told(centre, who, "/v1/jobs", user=user)
            assert own & theirs == {job["job_id"] for job in answer["jobs"]}
        for job in ("123", "124", "125"):
            status, _ = await ask(centre, who, f"/v1/jobs/west/{job}")
            assert (200 if job in own else 404) == status


async def test_a_foreign_job_is_as_one_that_is_not_there(centre: Centre) -> None:
    """Byte by byte, but for its id; neither counts, nor `more`, nor sums tell that there is one."""
    for path in ("/v1/jobs/west/{}", "/v1/jobs/west/{}/trace", "/jobs/west/{}"):
        for query in ({}, {"run": "1"}, {"run": "2"}):
            foreign = await ask(centre, "user", path.format("124"), **query)
            missing = await ask(centre, "user", path.format("994"), **query)
            assert (404, missing[1].replace(b"994", b"124")) == foreign
            assert 404 == missing[0]
    history = {"metric": "power", "by": "job,user,account,node,payer"}
    for path, name, query in (
        ("/v1/jobs", "id", {"limit": "1"}),
        ("/v1/telemetry", "job", history),
    ):
        foreign, missing = [
            await told(centre, "user", path, **query, **{name: job}) for job in ("124", "994")
        ]
        assert foreign == missing


async def test_a_report_is_of_ones_own_jobs(centre: Centre) -> None:
    """Every sum of it, the rest and the series too; what is nobody's is the operator's alone."""
    whose = {
        "user": {"user": "alice", "accounts": []},
        "manager": {"user": "ann", "accounts": ["chemistry"]},
    }
    keys = {"user": {"alice"}, "manager": {"alice", "bob"}}
    for by in ("user", "account", "name", "array", "node", "cluster", "group:rack", "label:x"):
        for who, scope in whose.items():
            query = {"by": by, "since": "-2h", "limit": "1", "series": "hour"}
            answer = await told(centre, who, "/v1/report", **query)
            assert (2, str(2 * JOB_UJ)) == (answer["jobs"], answer["workload_uj"])
            assert str(2 * JOB_UJ) == answer["energy_uj"]
            assert {"group", "rest"} >= {row["kind"] for row in answer["rows"]}
            rows = answer["series"]["rows"]
            assert 2 * JOB_UJ == sum(int(uj) for row in rows for uj in row["energy_uj"])
            assert scope == answer["whose"]
            if by == "user":
                every = await told(centre, who, "/v1/report", by=by, since="-2h")
                assert keys[who] == {row["key"] for row in every["rows"]}
    answer = await told(centre, "operator", "/v1/report", since="-2h")
    assert (3, str(3 * JOB_UJ), None) == (answer["jobs"], answer["workload_uj"], answer["whose"])
    assert {"group", "idle", "system"} == {row["kind"] for row in answer["rows"]}


async def test_history_is_of_ones_own_jobs(centre: Centre) -> None:
    """By every dimension: nodes, users and payers of others are not there."""
    series = {"metric": "energy", "since": "-2h", "step": "2h"}
    for by, expected in (
        ("user", {"alice"}),
        ("job", {"123", "125"}),
        ("node", {"node001", "node003"}),
        ("payer", {"workload"}),
        ("account", {"physics", "chemistry"}),
        ("group:rack", {"r12"}),
    ):
        answer = await told(centre, "user", "/v1/telemetry", by=by, **series)
        assert expected == {one["labels"][by] for one in answer["series"]}
        joules = sum(value or 0 for one in answer["series"] for value in one["values"])
        assert pytest.approx(2 * JOB_UJ / 1e6) == joules
    heat = {"metric": "temperature", "by": "node", "since": "-2h"}
    answer = await told(centre, "user", "/v1/telemetry", **heat)
    assert {"node001", "node003"} >= {one["labels"]["node"] for one in answer["series"]}
    everyone = await told(centre, "operator", "/v1/telemetry", by="user", **series)
    assert {"alice", "bob", ""} == {one["labels"]["user"] for one in everyone["series"]}


async def test_the_fleets_totals_name_nobody(centre: Centre) -> None:
    """Power, nodes and GPUs are everybody's; idle GPUs are told of accounts that one manages."""
    lazy = Feeder(node="node009", journal="j9", raw_id="9", uuid="GPU-9", labels=LAZY)
    batch = lazy.batch(lazy.run(1), lazy.snapshot(utilization_ppm=0))
    assert 200 == (await centre.deliver(batch))[0]
    assert await centre.aggregator.commit()
    everybodys = await told(centre, "operator", "/v1/fleet")
    assert {"chemistry": 1} == everybodys["allocated_idle_gpus"]
    for who, named in (("manager", {"chemistry": 1}), ("user", {}), ("public", {})):
        answer = await told(centre, who, "/v1/fleet")
        assert {**everybodys, "allocated_idle_gpus": named} == answer


async def test_budgets_name_nobody_else(centre: Centre) -> None:
    """A user sees the fleet's and their own, a manager those of the account."""
    for who, expected in (
        ("user", {"site": None, "alice": "site"}),
        ("manager", {"site": None, "chemistry": "site"}),
        ("operator", {"site": None, "rack": "site", "chemistry": "rack", "alice": "rack"}),
    ):
        answer = await told(centre, who, "/v1/budgets")
        assert expected == {one["name"]: one["inside"] for one in answer["budgets"]}
        site = next(one for one in answer["budgets"] if one["name"] == "site")
        listed = [*site["contributors"], *(c for b in site["history"] for c in b["contributors"])]
        kinds = {one["kind"] for one in listed if one["name"] != "chemistry"}
        assert kinds == ({"node"} if who != "operator" else {"node", "job", "account"})
        named = {one["name"] for one in listed if one["kind"] == "account"}
        accounts = {"user": set(), "manager": {"chemistry"}, "operator": {"physics", "chemistry"}}
        assert accounts[who] == named
    hidden = await ask(centre, "user", "/v1/budgets", name="chemistry")
    missing = await ask(centre, "user", "/v1/budgets", name="alchemist")
    assert (404, hidden[1]) == (missing[0], missing[1].replace(b"alchemist", b"chemistry"))


async def test_the_page_shows_what_the_endpoints_say(centre: Centre) -> None:
    """To each their own, also where many look at once; and no way to a page that is closed."""
    _, everything = await ask(centre, "operator", "/jobs")
    _, mine = await ask(centre, "user", "/jobs")
    _, again = await ask(centre, "operator", "/jobs")
    for job, seen in ((b"/jobs/west/123", True), (b"/jobs/west/124", False)):
        assert (job in mine) == seen
        assert job in everything
        assert job in again
    for who, pages in (
        ("public", set()),
        ("user", {"/jobs", "/report", "/budgets"}),
        ("operator", {"/jobs", "/report", "/budgets", "/health"}),
    ):
        status, page = await ask(centre, who, "/")
        assert 200 == status
        text = page.decode()
        nav = {
            one for one in ("/jobs", "/report", "/budgets", "/health") if f'href="{one}"' in text
        }
        assert pages == nav
        assert (who == "operator") == ("/nodes/west/node002" in text)
        assert (who == "operator") == ("chemistry" in text and "bob" in text)
    _, page = await ask(centre, "user", "/jobs/west/123")
    assert b"node001" in page
    assert b"/nodes/west" not in page
