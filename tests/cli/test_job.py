"""`wattkeeper job`: what it cost and emitted, for people and for papers."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, Feeder
from tests.cli.conftest import Run
from tests.cli.test_report import PRICED
from wattkeeper import __version__
from wattkeeper.cli.cite import cite
from wattkeeper.cli.familiar import compare
from wattkeeper.cli.job_trace import bars
from wattkeeper.model.microjoules import UJ_PER_KWH

JOB_UJ = 180 * (GPU_UJ + CPU_UJ // 2)
POUND_G = Decimal("453.59237")


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_what_a_job_cost(centre: Centre, run: Run) -> None:
    """The same as its row of a report, with factors and class, in every format."""
    await centre.fed()
    done = await run("job", "123", "--format", "json")
    found = json.loads(done.out)
    facility = Decimal(JOB_UJ) / UJ_PER_KWH * Decimal("1.25")
    assert Decimal(found["cost"]) == round(facility * Decimal("0.20"), 6)
    assert Decimal(found["carbon_g"]) == round(facility * 380, 3)
    assert ("EUR", "A", 0.0) == tuple(
        found[name] for name in ("currency", "accuracy", "carbon_estimated_ratio")
    )
    assert [("cpu", None, 1), ("gpu", None, 1)] == [
        (one["component"], one["model"], one["count"]) for one in found["hardware"]
    ]
    report = json.loads((await run("report", "--since", "-1h", "--format", "json")).out)
    (row,) = (row for row in report["rows"] if row["key"] == "physics")
    assert (row["cost"], row["carbon_g"]) == (found["cost"], found["carbon_g"])
    done = await run("job", "123", "--format", "csv")
    (flat,) = csv.DictReader(io.StringIO(done.out))
    assert (found["cost"], "EUR") == (flat["cost"], flat["currency"])
    done = await run("job", "123")
    for part in ("0.0562 EUR", "0.2 EUR/kWh (contract), PUE 1.25", "107 g", "class", "counted,"):
        assert part in done.out, done.out
    assert len(done.out.splitlines()) <= 24


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_a_sentence_for_a_paper(centre: Centre, run: Run) -> None:
    """Energy, hardware, method, coverage, intensity with its source, version."""
    await centre.fed()
    done = await run("job", "123", "--cite")
    assert done.out == (
        "Job 123 on cluster west used 225 Wh of electricity (GPUs 200 Wh, processors 25.0 Wh) on "
        "1 processor socket and 1 GPU in 0.5 GPU hours on 2027-01-15. It was metered with "
        f"Wattkeeper {__version__} by the devices' own energy counters; 100 % of the time was "
        "metered. With a PUE of 1.25 and a carbon intensity of 380 g/kWh (grid, location-based "
        "average), this is 107 g of CO2 equivalents.\n"
    )
    labels = {"job_id": "124", "user": "alice", "account": "physics"}
    await centre.fed(
        Feeder(node="node002", journal="j2", raw_id="124", labels=labels, uuid="GPU-2")
    )
    done = await run("job", "123-124", "--cite")
    told = (await run("job", "123-124")).out
    assert "2 jobs: 450 Wh, 0 % of it idle, 1.0 GPU hours, 0.11 EUR, 214 g of CO2e." in told, told
    for part in ("2 jobs on cluster west used 450 Wh", "100 % or more of the time", "214 g"):
        assert part in done.out, done.out


@pytest.mark.parametrize("centre", [PRICED], indirect=True)
async def test_comparisons_on_request_only(centre: Centre, run: Run) -> None:
    """With their source."""
    await centre.fed()
    assert "flight" not in (await run("job", "123")).out
    done = await run("job", "123", "--compare")
    for part in ("1/8,400 of a passenger's flight", "a car's lifetime", "Strubell"):
        assert part in done.out, done.out


async def test_without_factors_nothing_is_made_up(centre: Centre, run: Run) -> None:
    """No cost, no carbon, no comparison."""
    await centre.fed()
    out = (await run("job", "123")).out
    assert "cost" not in out
    assert "CO2" not in out
    assert "CO2" not in (await run("job", "123", "--cite")).out
    assert "is not known" in (await run("job", "123", "--compare")).out


async def test_its_trace_on_a_line(recall: Run) -> None:
    """Where there is a history of it."""
    done = await recall("job", "123")
    assert "trace" in done.out
    assert "█" in done.out or "@" in done.out


def test_sums_that_are_estimates_or_shares_say_so() -> None:
    """Parts by source, shares of devices, and guessed factors."""
    job: dict[str, Any] = {
        "cluster": "c", "job_id": "1", "energy_uj": "1000000000",
        "energy_by_component_uj": {"gpu": "1000000000"}, "gpu_seconds": 0, "hardware": [],
        "energy_by_source_uj": {"counter": "750000000", "integrated": "250000000"},
        "energy_by_split_uj": {"shared": "500000000"}, "coverage": 0.9, "start": None,
        "end": None, "as_of": None, "carbon_g": "10.0", "carbon_estimated_ratio": 0.5,
        "factors": [{
            "factor": "carbon", "unit": "g/kWh", "mean": "300", "least": "200", "most": "400",
            "estimated_ratio": 0.5, "sources": ["UK"], "version": None, "kind": "marginal",
            "market": None,
        }],
    }  # fmt: skip
    assert cite([job]) == (
        "Job 1 on cluster c used 1.00 kJ of electricity (GPUs 1.00 kJ). It was metered with "
        f"Wattkeeper {__version__} by the devices' own energy counters (75 %) and power readings, "
        "integrated over time (25 %); 90 % of the time was metered; 50 % of it is a share of "
        "devices that others used too. With a carbon intensity of 300 g/kWh on average, 200 to "
        "400 (UK, marginal), this is 10.0 g of CO2 equivalents (50 % of it by estimated "
        "factors), without the energy of cooling and distribution."
    ).replace("1.00 kJ", "1,000 J")


def test_the_comparisons_of_the_paper() -> None:
    """One flight is one flight (Strubell, Ganesh, McCallum: ACL 2019, table 1)."""
    flight, life, car = compare(str(1_984 * POUND_G))
    assert "1 times a passenger's flight New York - San Francisco and back" == flight
    assert life.startswith("0.18 times")
    assert compare(str(126_000 * POUND_G))[2].startswith("1 times a car's lifetime")
    assert compare(str(250 * 126_000 * POUND_G))[2].startswith("250 times")
    assert car.startswith("0.016 times")


def test_bars_of_a_trace() -> None:
    """From zero to the greatest; a hole is a hole; many values are their means."""
    assert "▁▅█·" == bars([0.0, 3.5, 7.0, None], plain=False)
    assert "._@ " == bars([0.0, 1.0, 7.0, None], plain=True)
    assert "" == bars([], plain=False)
    assert "▁▁" == bars([0.0, 0.0], plain=False)
    assert "█" * 48 == bars([5.0] * 1000, plain=False)
