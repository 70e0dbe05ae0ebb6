"""`wattkeeper report`: who, how much, what it cost."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, Feeder
from tests.cli.conftest import Run
from wattkeeper.cli.worth import factor_words
from wattkeeper.factors.settings import FactorsSection
from wattkeeper.units import carbon, money

PRICED = {
    "factors": FactorsSection.model_validate(
        {
            "price": {"value": "0.20", "unit": "EUR/kWh", "source": "contract"},
            "carbon": {"value": 380, "source": "grid", "kind": "average", "market": "location"},
            "pue": {"value": "1.25"},
        }
    )
}


def rows(text: str) -> list[dict[str, str]]:
    """Read CSV."""
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_a_table_with_cost_and_carbon(centre: Centre, run: Run) -> None:
    """Columns that are known, a total, and by which factors."""
    await centre.fed()
    done = await run("report", "--since", "-1h")
    for part in ("cost", "CO2e", "class", "0.0625 EUR", "119 g", "physics", "total"):
        assert part in done.out, done.out
    assert "price: 0.2 EUR/kWh (contract)" in done.out
    assert "carbon: 380 g/kWh (grid, location-based average)" in done.out
    assert "PUE: 1.25" in done.out
    assert "dram" not in done.out


async def test_without_factors_no_columns_of_them(centre: Centre, run: Run) -> None:
    """No empty columns."""
    await centre.fed()
    done = await run("report", "--since", "-1h")
    assert "cost" not in done.out
    assert "CO2e" not in done.out


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_csv_adds_up(centre: Centre, run: Run) -> None:
    """Exact decimals in a column each."""
    await centre.fed()
    done = await run("report", "--since", "-1h", "--format", "csv")
    found = rows(done.out)
    assert Decimal("0.062500") == sum(Decimal(row["cost"]) for row in found)
    assert {"EUR"} == {row["currency"] for row in found}
    (own,) = (row for row in found if row["key"] == "physics")
    assert (own["least_uj"], own["accuracy"]) == (own["most_uj"], "A")


async def test_a_sweep_is_a_line(centre: Centre, run: Run) -> None:
    """Jobs that share a name, with what one of them used; a filter by user."""
    await centre.fed()
    for number in (124, 125):
        labels = {"job_id": f"{number}", "user": "alice", "account": "physics", "name": "train"}
        uuid = f"GPU-{number}"
        feeder = Feeder(
            node=f"n{number}", journal=uuid, raw_id=f"{number}", labels=labels, uuid=uuid
        )
        await centre.fed(feeder)
    done = await run("report", "--by", "name", "--user", "alice", "--since", "-1h")
    for part in ("user alice", "median/job", "train", "   3 "):
        assert part in done.out, done.out
    assert "(idle)" not in done.out
    query = ("--by", "name", "--user", "alice", "--since", "-1h", "--series", "hour")
    done = await run("report", *query, "--format", "json")
    body = json.loads(done.out)
    used = 3 * 180 * (GPU_UJ + CPU_UJ // 2)
    assert (str(used), 3) == (body["rows"][0]["energy_uj"], body["rows"][0]["jobs"])
    assert used == sum(map(int, body["series"]["rows"][0]["energy_uj"]))
    done = await run("report", "--series", "day")
    assert (2, True) == (done.code, "--format json" in done.err)


async def test_a_period_in_a_time_zone(centre: Centre, run: Run) -> None:
    """What is wrong is said in the aggregator's words."""
    await centre.fed()
    done = await run("report", "--period", "2027-01", "--timezone", "Europe/Berlin")
    assert "2026-12-31 23:00:00Z to 2027-01-31 23:00:00Z" in done.out
    done = await run("report", "--timezone", "Berlin")
    assert (2, True) == (done.code, "is no time zone" in done.err)


@pytest.mark.parametrize(
    ("text", "said"),
    [("0", "0.00 EUR"), ("1234567.891", "1,234,567.89 EUR"), ("0.004", "0.0040 EUR"),
     ("-0.05", "-0.0500 EUR"), ("-12", "-12.00 EUR")],
)  # fmt: skip
def test_money(text: str, said: str) -> None:
    """Cents; below ten of them, with as many digits as are left to see."""
    assert said == money(text, "EUR")


@pytest.mark.parametrize(
    ("text", "said"), [("0", "0.00 g"), ("950.5", "950 g"), ("1500", "1.50 kg"), ("2e7", "20.0 t")]
)
def test_carbon(text: str, said: str) -> None:
    """In the unit that fits."""
    assert said == carbon(text)


def test_a_factor_that_changes_or_is_not_known() -> None:
    """Its mean and its range; how long it was a guess."""
    factor: dict[str, Any] = {
        "factor": "carbon", "unit": "g/kWh", "mean": "301.123456", "least": "100", "most": "400",
        "estimated_ratio": 0.25, "sources": ["a", "b"], "version": None, "kind": None,
        "market": None,
    }  # fmt: skip
    said = "301.1235 g/kWh on average, 100 to 400 (a, b), estimated for 25 % of the time"
    assert said == factor_words(factor)
    assert "no value is known yet" == factor_words(factor | {"mean": None})
