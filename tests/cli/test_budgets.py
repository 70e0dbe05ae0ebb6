"""`wattkeeper budgets` against a real aggregator."""

import csv
import io
import json

import pytest

from tests.aggregator.conftest import Centre
from tests.cli.conftest import Run

SETTINGS = {
    "budgets": {
        "site": {"demand": "600W", "raise_after": "0s"},
        "rack": {"watts": "490W", "group": "rack=r12", "inside": "site", "raise_after": "0s"},
    },
    "groups": {"rack": {"r12": ("node[001-018]",)}},
}


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_table(centre: Centre, run: Run) -> None:
    """Nested, with what is used, who draws most, and 1 where one is exceeded."""
    await centre.fed(windows=99)
    assert await centre.aggregator.budgeting.assess()
    done = await run("budgets")
    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert ["site", "600", "W", "mean", "to", "08:30"] == lines[1].split()[:6]
    assert "  rack" == lines[2][:6]
    assert "EXCEEDED" in lines[2]
    assert "102 %" in lines[2]
    assert "rack: EXCEEDED since" in done.out
    assert "most draw job 123 (500 W)" in done.out
    assert "site: the highest interval of the month is 500 W, 83.3 %, from 2027-01-15" in done.out
    assert (await run("budgets", "site")).code == 0


@pytest.mark.parametrize("centre", [SETTINGS], indirect=True)
async def test_json_and_csv(centre: Centre, run: Run) -> None:
    """The answer as it is, and flat rows; both exit like the table."""
    await centre.fed(windows=9)
    assert await centre.aggregator.budgeting.assess()
    done = await run("budgets", "--format", "json")
    assert (1, ["site", "rack"]) == (
        done.code, [one["name"] for one in json.loads(done.out)["budgets"]],
    )  # fmt: skip
    done = await run("budgets", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert (1, "hard", "0.83333") == (done.code, rows[1]["state"], rows[0]["forecast_ratio"][:7])


async def test_none(centre: Centre, run: Run) -> None:
    """Said in words; one that is asked for by name and is not there is a no."""
    done = await run("budgets")
    assert (done.code, "No budgets" in done.out) == (0, True)
    done = await run("budgets", "site")
    assert (done.code, "no budget 'site'" in done.err) == (1, True)
