"""Every page as it is sent: whole without scripts, its figures those of the endpoints."""

import json
import re
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import Feeder
from tests.page.feeding import HOSTILE
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.ledger.queries.nodes import NodeRow
from wattkeeper.units import carbon, energy, percent

PATHS = (
    "/",
    "/?show=power",
    "/?show=utilization",
    "/nodes/west/gpu001",
    "/jobs",
    "/jobs?q=alice&sort=energy&order=asc",
    "/jobs/west/1000",
    "/jobs/west/1000?by=gpu",
    "/report",
    "/report?by=node&since=-24h",
    "/budgets",
    "/health",
    "/health?nodes=all",
)


async def _get(centre: Centre, path: str, **headers: str) -> tuple[int, str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{centre.aggregator.url}{path}"
    async with centre.session.get(url, headers=named) as answer:
        return answer.status, await answer.text(), answer.headers


async def test_a_page_needs_nothing_from_elsewhere(small: Centre) -> None:
    """No inline script or style, no address of another host, and a policy that forbids both."""
    for path in PATHS:
        status, text, headers = await _get(small, path)
        assert (200, "text/html; charset=utf-8") == (status, headers["Content-Type"]), path
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        scripts = re.findall(r"<script([^>]*)>", text)
        assert all('src="/static/' in one or "application/json" in one for one in scripts), path
        assert not re.search(r"<style|\sstyle=|\son\w+=\"|javascript:", text), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path


async def test_an_empty_aggregator_has_pages_too(bare: Centre) -> None:
    """Before the first delivery, and without a history."""
    for path in ("/", "/jobs", "/report", "/budgets", "/health"):
        status, text, _ = await _get(bare, path)
        assert status == 200, text
        assert "Wattkeeper" in text


async def test_the_fleet_shows_every_gpu(small: Centre) -> None:
    """A cell for each, with what it draws, how warm it is and who has it; the sum above."""
    _, text, _ = await _get(small, "/")
    assert (
        len(re.findall(r'<i class="c h\d" title="GPU \d · [^"]*°C · [^"]* · 1000 alice">', text))
        == 8
    )
    _, fleet = await small.get("/v1/fleet")
    assert f"{fleet['watts']:,.0f} W" in text
    assert "8 busy · 0 held, idle · 0 free" in text


async def test_a_silent_fleet_says_so(small: Centre) -> None:
    """What was heard long ago is not shown as now."""
    small.clock[0] += 3_600_000
    _, text, _ = await _get(small, "/")
    assert 'class="n silent"' in text
    assert "1 silent" in text
    assert "°C · " not in text


async def test_figures_are_those_of_the_endpoints(small: Centre) -> None:
    """One way of the data: the page reads what anybody can ask for."""
    _, job = await small.get("/v1/jobs/west/1000")
    _, text, _ = await _get(small, "/jobs/west/1000")
    assert energy(job["energy_uj"]) in text
    assert f"{int(job['energy_uj']):,} µJ" in text
    _, report = await small.get("/v1/report", by="account", since="-24h")
    _, text, _ = await _get(small, "/report?by=account&since=-24h")
    assert f"{int(report['energy_uj']):,} µJ" in text


async def test_what_is_wrong_is_a_page_too(small: Centre) -> None:
    """With the status of the endpoint, and its words."""
    for path, status, says in (
        ("/jobs/west/999", 404, "no job 999 of cluster west"),
        ("/nodes/west/<b>", 404, "no node &lt;b&gt;"),
        ("/jobs?sort=shoe", 400, "sort=shoe"),
        ("/?colour=red", 400, "known: group, show"),
        ("/report?by=shoe", 400, "account"),
        ("/report?since=yesterday", 400, "not a time"),
    ):
        got, text, headers = await _get(small, path)
        assert (status, "text/html; charset=utf-8") == (got, headers["Content-Type"]), path
        assert says in text, path


async def test_a_name_is_never_markup(small: Centre) -> None:
    """A job's name comes from anybody: it is shown as it is, and drives nothing."""
    labels = {"job_id": "7</td>", "user": HOSTILE, "account": HOSTILE, "name": HOSTILE}
    await small.fed(Feeder(node="node<i>", labels=labels, raw_id="7"))
    for path in (
        "/",
        "/jobs",
        "/jobs/west/7%3C%2Ftd%3E",
        "/report?by=user",
        "/report.html?by=user",
    ):
        status, text, _ = await _get(small, path)
        assert status == 200, path
        assert "<img" not in text, path
        assert "alert(1)&gt;" in text or path == "/", path
        assert "<script>alert" not in text, path
        assert "\u202e" not in text, path


async def test_jobs_are_sorted_and_searched(small: Centre) -> None:
    """By every column both ways; words are sought in id, name, user, account, state."""
    for number, user in ((2001, "zoe"), (2002, "yan")):
        labels = {"job_id": str(number), "user": user, "account": "geo", "name": f"n{number}"}
        feeder = Feeder(
            node=f"m{number}", journal=f"m{number}", uuid=f"G{number}", labels=labels,
            raw_id=str(number), origin_ms=small.clock[0] // 900_000 * 900_000 - 1_800_000,
        )  # fmt: skip
        await small.fed(feeder, windows=number - 1950)
    for query, expected in (
        ("sort=user", ["2001", "2002", "1000"]),
        ("sort=user&order=asc", ["1000", "2002", "2001"]),
        ("sort=energy", ["1000", "2002", "2001"]),
        ("sort=job&order=asc", ["1000", "2001", "2002"]),
        ("q=GEO+n2001", ["2001"]),
        ("q=nobody", []),
        ("user=yan", ["2002"]),
        ("account=geo&sort=job", ["2002", "2001"]),
    ):
        _, text, _ = await _get(small, f"/jobs?since=-365d&{query}")
        assert expected == re.findall(r'<a href="/jobs/west/(\d+)', text), query


async def test_what_did_not_change_is_not_sent_again(small: Centre) -> None:
    """Pages and files have entity tags; a file that is named by its version is kept for ever."""
    _, text, headers = await _get(small, "/health")
    status, body, _ = await _get(small, "/health", If_None_Match=headers["ETag"])
    assert (304, "") == (status, body)
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        _, _, kept = await _get(small, path)
        assert "immutable" in kept["Cache-Control"]
        _, _, asked = await _get(small, path.partition("?")[0])
        assert asked["Cache-Control"] == "no-cache"
        status, _, _ = await _get(small, path, If_None_Match=asked["ETag"])
        assert status == 304
    assert (await _get(small, "/static/..%2Froutes.py"))[0] == 404


async def test_many_who_look_ask_once(small: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept for a moment: the ledger is not asked anew for each reader."""
    asked = []
    rows = Fleet.rows

    def counted(self: Fleet) -> list[NodeRow]:
        asked.append("rows")
        return rows(self)

    monkeypatch.setattr(Fleet, "rows", counted)
    for _ in range(5):
        assert (await _get(small, "/health?nodes=all"))[0] == 200
    assert asked == ["rows"]


async def test_no_watt_is_drawn_twice(small: Centre) -> None:
    """A host's meter sees its components again: the plot adds up to what the report has."""
    drawn = None
    for _ in range(20):  # a history that takes long is left out, until it is there
        _, text, _ = await _get(small, "/")
        drawn = re.search(r'<script type="application/json">(.*?)</script>', text)
        if drawn is not None:
            break
    assert drawn is not None
    data = json.loads(drawn[1])
    assert ["gpu", "cpu", "dram", "overhead"] == [one["name"] for one in data["series"]]
    hours = (data["until"] - data["starts"][0]) / 3600 / len(data["starts"])
    kwh = sum(value or 0 for one in data["series"] for value in one["values"]) * hours / 1000
    _, report = await small.get("/v1/report", by="account", since="-24h")
    assert pytest.approx(report["energy_kwh"], rel=0.01) == kwh


async def test_what_energy_costs_and_emits(small: Centre) -> None:
    """Where factors are set, a job and a report tell both, and whose word it is."""
    _, report = await small.get("/v1/report", by="account", since="-24h")
    _, text, _ = await _get(small, "/report?by=account&since=-24h")
    assert f"{float(report['cost']):,.2f} EUR" in text
    assert carbon(report["carbon_g"]) in text
    assert "0.21 EUR/kWh (contract)" in text
    assert "380 g/kWh (Grid &amp; Co" in text
    _, job = await small.get("/v1/jobs/west/1000")
    _, text, _ = await _get(small, "/jobs/west/1000")
    assert f"{float(job['cost']):,.2f} EUR" in text
    assert "8 \N{MULTIPLICATION SIGN} NVIDIA H100 80GB HBM3" in text
    assert "Class A: counted, alone on its devices" in text


async def test_budgets_tell_how_they_stand(small: Centre) -> None:
    """Nested, with what is used, where it will end, and who draws most."""
    _, answer = await small.get("/v1/budgets")
    states = {one["name"]: one["state"] for one in answer["budgets"]}
    assert states == {"site": "warn", "physics": "hard", "month": "ok"}
    _, text, _ = await _get(small, "/budgets")
    rows = re.findall(r'<th scope="row" class="text in(\d)">(\w+)</th>', text)
    assert rows == [("0", "site"), ("1", "physics"), ("0", "month")]
    assert "near its limit" in text
    assert "exceeded" in text
    for one in answer["budgets"]:
        assert percent(one["used_ratio"]) in text
    assert "job 1000" in text
    _, text, _ = await _get(small, "/")
    assert "nearest budget" in text


async def test_a_report_is_one_file(small: Centre) -> None:
    """Style, script and figures are in it; its own policy lets nothing else in."""
    status, text, _ = await _get(small, "/report.html?by=account")
    assert status == 200
    assert not re.search(
        r"(src|href|action)=\"", text.partition("<body")[2].partition("<script>")[0]
    )
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]
    assert "uPlot" in text
    assert '"kind": "bars"' in text
