"""`/v1/report`: cost and carbon, filters, series and time zones."""

import asyncio
import threading
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.factors.settings import FactorsSection
from wattkeeper.ledger.store import LedgerError
from wattkeeper.model.microjoules import UJ_PER_KWH

WINDOWS = 180
GPU, CPU = WINDOWS * GPU_UJ, WINDOWS * CPU_UJ
BOB = {"job_id": "124", "user": "bob", "account": "chemistry", "partition": "cpu"}
PRICED = {
    "factors": FactorsSection.model_validate(
        {
            "price": {"value": "0.20", "unit": "EUR/kWh", "source": "contract", "version": "7"},
            "carbon": {"value": 380, "source": "grid", "kind": "average", "market": "location"},
            "pue": {"value": "1.25"},
        }
    )
}


async def fed(centre: Centre) -> None:
    """Book half an hour of two nodes, a job on each."""
    await centre.fed()
    await centre.fed(Feeder(node="node003", journal="j2", raw_id="124", labels=BOB, uuid="GPU-2"))


def kwh(uj: int) -> Decimal:
    """Return exact kilowatt-hours."""
    return Decimal(uj) / UJ_PER_KWH


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_cost_and_carbon_by_constants(centre: Centre) -> None:
    """Energy by PUE by factor; rows add up to the whole to the last digit that is told."""
    await fed(centre)
    status, body = await centre.get("/v1/report", by="account", since="-1h")
    assert 200 == status
    assert "EUR" == body["currency"]
    whole = kwh(int(body["energy_uj"])) * Decimal("1.25")
    assert Decimal(body["cost"]) == round(whole * Decimal("0.20"), 6)
    assert Decimal(body["carbon_g"]) == round(whole * 380, 3)
    for name in ("cost", "carbon_g"):
        assert Decimal(body[name]) == sum(Decimal(row[name]) for row in body["rows"])
    assert 0 == body["cost_estimated_ratio"] == body["rows"][0]["carbon_estimated_ratio"]
    (row,) = (row for row in body["rows"] if row["key"] == "physics")
    used = kwh(GPU + CPU // 2) * Decimal("1.25") * Decimal("0.20")
    assert abs(Decimal(row["cost"]) - used) < Decimal("0.000001")
    assert "0.000000" == row["allocated_idle_cost"]
    price, carbon, pue = body["factors"]
    assert ("price", "EUR/kWh", "0.2", "constant") == tuple(
        price[name] for name in ("factor", "unit", "mean", "how")
    )
    assert (["contract"], "7") == (price["sources"], price["version"])
    assert ("average", "location", "380") == (carbon["kind"], carbon["market"], carbon["most"])
    assert ("pue", "1.25", 0.0) == (pue["factor"], pue["least"], pue["estimated_ratio"])


async def test_without_factors_there_is_energy_alone(centre: Centre) -> None:
    """Nothing is called free of cost."""
    await centre.fed()
    _, body = await centre.get("/v1/report", since="-1h")
    assert (None, None, None, []) == tuple(
        body[name] for name in ("cost", "carbon_g", "currency", "factors")
    )
    assert {None} == {row["cost"] for row in body["rows"]}
    assert str(GPU + CPU - CPU // 8 - (CPU - CPU // 2 - CPU // 8)) == body["workload_uj"]
    assert 500 == pytest.approx(body["mean_watts"] * 2, rel=0.01)  # half of the hour


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_what_a_row_tells(centre: Centre) -> None:
    """Axes and class of accuracy, the spread over jobs, the job that used most."""
    await fed(centre)
    _, body = await centre.get("/v1/report", by="partition", since="-1h")
    (row,) = (row for row in body["rows"] if row["key"] == "gpu")
    used = str(GPU + CPU // 2)
    assert {"counter": used} == row["energy_by_source_uj"]
    assert {"exclusive": used} == row["energy_by_split_uj"]
    assert ("A", {"A": used}) == (row["accuracy"], row["energy_by_accuracy_uj"])
    assert {"cluster": "west", "job_id": "123"} == row["energy_of_jobs"].pop("most_job")
    assert {"least_uj": used, "median_uj": used, "most_uj": used} == row["energy_of_jobs"]
    assert {"": used} == row["energy_by_state_uj"]
    idle = next(row for row in body["rows"] if row["kind"] == "idle")
    assert (None, {}) == (idle["energy_of_jobs"], idle["energy_by_state_uj"])
    assert 2 == body["jobs"]


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_the_largest_groups(centre: Centre) -> None:
    """All others are one row; rows and series still add up to the whole, and cost does."""
    await fed(centre)
    _, whole = await centre.get("/v1/report", by="user", since="-1h", series="hour")
    status, body = await centre.get("/v1/report", by="user", since="-1h", series="hour", limit="1")
    assert (200, ["group", "rest"]) == (status, [row["kind"] for row in body["rows"]][:2])
    assert (None, 1) == (body["rows"][1]["key"], body["rows"][1]["jobs"])
    for name in ("energy_uj", "cost", "carbon_g", "jobs"):
        assert whole[name] == body[name]
    for name in ("cost", "carbon_g", "energy_uj"):
        assert Decimal(body[name]) == sum(Decimal(row[name]) for row in body["rows"])
    steps = [sum(map(int, row["energy_uj"])) for row in body["series"]["rows"]]
    assert int(body["energy_uj"]) == sum(steps)
    assert ["rest"] == [row["kind"] for row in body["series"]["rows"]][-1:]


async def test_long_reports_hold_up_nothing_else(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have threads of their own, and a limit."""
    begun, over = threading.Semaphore(0), threading.Event()

    def long(*_: object, **__: object) -> None:
        begun.release()
        over.wait(20)
        raise LedgerError("it was slow")

    monkeypatch.setattr("wattkeeper.aggregator.reporting.report", long)
    asked = [asyncio.create_task(centre.get("/v1/report")) for _ in range(6)]
    assert await asyncio.to_thread(begun.acquire, timeout=20)
    status, _ = await centre.get("/v1/nodes")
    over.set()
    assert [200, 503] == [status, *{one[0] for one in await asyncio.gather(*asked)}]


async def test_only_a_part(centre: Centre) -> None:
    """Of a user's jobs by name; an unknown user has none."""
    await fed(centre)
    _, body = await centre.get("/v1/report", by="name", since="-1h", user="alice")
    assert ([("train", "group")], {"user": "alice"}) == (
        [(row["key"], row["kind"]) for row in body["rows"]],
        body["only"],
    )
    _, body = await centre.get("/v1/report", by="name", since="-1h", user="carol")
    assert ([], "0", None) == (body["rows"], body["energy_uj"], body["accuracy"])


def table(tmp_path: Path, rows: Mapping[int, str]) -> Path:
    """Write a table of prices by milliseconds from the start."""
    path = tmp_path / "price.csv"
    lines = [f"{rfc3339(START_MS + after)},{price}\n" for after, price in rows.items()]
    path.write_text("time,value\n" + "".join(lines), "utf-8")
    return path


async def test_a_price_that_changes_within_a_slot(centre: Centre, tmp_path: Path) -> None:
    """A slot costs its mean by time; a table that changed is read again, a broken one is not."""
    await centre.fed()
    path = table(tmp_path, {-3_600_000: "0.10", 300_000: "0.40", 1_800_000: "9"})
    priced = FactorsSection.model_validate({"price": {"file": str(path), "unit": "EUR/kWh"}})
    settings = centre.aggregator.settings.model_copy(update={"factors": priced})
    await centre.aggregator.stop()
    centre.aggregator.settings = settings
    await centre.aggregator_again()
    _, body = await centre.get("/v1/report", since=rfc3339(START_MS), until=rfc3339(START_MS + 1))
    half = kwh((GPU + CPU) // 2)
    assert Decimal(body["cost"]) == round(half * (Decimal("0.10") + Decimal("0.80")) / 3, 6)
    version = body["factors"][0]["version"]
    assert version.startswith("sha256:")
    path.write_text("nothing", "utf-8")
    _, body = await centre.get("/v1/report", since="-1h")
    assert version == body["factors"][0]["version"]
    _, told = await centre.get("/v1/findings")
    (found,) = (one for one in told["findings"] if one["subject"] == "factors/price")
    assert ("failing", True) == (found["state"], "does not begin" in found["detail"])
    table(tmp_path, {-3_600_000: "0.30"})
    _, body = await centre.get("/v1/report", since="-1h")
    assert Decimal(body["cost"]) == round(kwh(GPU + CPU) * Decimal("0.30"), 6)


async def test_series_of_a_day_in_its_time_zone(centre: Centre) -> None:
    """Steps add up to the rows, and begin with the zone's hours and days."""
    await fed(centre)
    for step, zone in (("hour", "UTC"), ("hour", "Asia/Kolkata"), ("day", "Asia/Kathmandu")):
        query = {"by": "user", "since": "-30h", "series": step, "timezone": zone}
        _, body = await centre.get("/v1/report", **query)
        assert (zone, step) == (body["timezone"], body["series"]["step"])
        starts = body["series"]["starts"]
        assert body["since"] == starts[0]
        for row, told in zip(body["rows"], body["series"]["rows"], strict=True):
            assert (row["key"], row["kind"]) == (told["key"], told["kind"])
            assert len(starts) == len(told["energy_uj"])
            assert int(row["energy_uj"]) == sum(map(int, told["energy_uj"]))
            assert 2 >= sum(uj != "0" for uj in told["energy_uj"])


async def test_many_groups_share_the_rest_of_a_series(centre: Centre) -> None:
    """The largest have rows of their own; all others are one."""
    for number in range(14):
        labels = {"job_id": str(number), "user": f"u{number:02}", "account": "a"}
        uuid = f"GPU-{number}"
        feeder = Feeder(
            node=f"n{number}", journal=f"j{number}", raw_id=str(number), labels=labels, uuid=uuid
        )
        await centre.fed(feeder, windows=number + 1)
    _, body = await centre.get("/v1/report", by="user", since="-1h", series="hour")
    rows = {(row["key"], row["kind"]): row for row in body["series"]["rows"]}
    assert 12 == sum(kind == "group" for _, kind in rows)
    rest = sum(int(row["energy_uj"]) for row in body["rows"] if row["key"] in ("u00", "u01"))
    assert rest == sum(map(int, rows[None, "rest"]["energy_uj"])) > 0
    assert int(body["energy_uj"]) == sum(
        int(uj) for row in rows.values() for uj in row["energy_uj"]
    )


async def test_a_period_of_the_calendar(centre: Centre) -> None:
    """`2027-01` of Berlin begins an hour before that of UTC."""
    await centre.fed()
    _, body = await centre.get("/v1/report", period="2027-01", timezone="Europe/Berlin")
    assert ("2026-12-31T23:00:00Z", "2027-01-31T23:00:00Z") == (body["since"], body["until"])
    assert str(GPU + CPU) == body["energy_uj"]


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ({"period": "soon"}, "period", "2026-Q1"),
        ({"period": "2026", "since": "-1h"}, None, "instead of since"),
        ({"timezone": "Berlin"}, "timezone", "Europe/Berlin"),
        ({"series": "minute"}, "series", "'hour', 'day' or 'month'"),
        ({"series": "hour", "since": "-90d"}, "series", "longer step"),
    ],
)
async def test_questions_that_cannot_be_meant(
    centre: Centre, query: dict[str, str], field: Any, said: str
) -> None:
    """The problem names the parameter."""
    status, body = await centre.get("/v1/report", **query)
    assert (400, field) == (status, body.get("field"))
    assert said in body["detail"]
