"""`wattkeeper close` and `wattkeeper statement`."""

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest

from tests.aggregator.conftest import TOKEN, Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from tests.aggregator.test_statements import TODAY, TOMORROW
from tests.cli.conftest import Run
from tests.cli.test_report import PRICED
from wattkeeper.model.grid import DAY_MS

TOKENED = PRICED | TOKEN


@pytest.mark.parametrize("centre", [TOKENED], indirect=True)
async def test_from_closing_to_an_adjustment(centre: Centre, run: Run, tmp_path: Path) -> None:
    """Closed with the token, listed, shown as it was hashed, checked, and adjusted."""
    feeder = Feeder()
    assert centre.headers is not None
    centre.headers["Authorization"] = "Bearer s3cret"
    await centre.fed(feeder)
    centre.clock[0] = TOMORROW
    done = await run("close", TODAY)
    assert (2, True) == (done.code, "wants a token: show it with --token-file" in done.err)
    path = tmp_path / "token"
    path.write_text("s3cret\n", "utf-8")
    done = await run("close", TODAY, "--token-file", str(path))
    for part in ("Statement 1: 2027-01-15 (UTC)", "physics", "(idle)", "0.0625 EUR", "sha256 "):
        assert part in done.out, done.out + done.err
    hashed = done.out.split("sha256 ")[1].strip()
    done = await run("statement", "1", "--format", "json")
    assert hashed == hashlib.sha256(done.out.encode()).hexdigest()
    done = await run("statement")
    assert (0, True, True) == (done.code, hashed[:16] in done.out, "yes" in done.out)
    done = await run("statement", TODAY, "--check")
    assert (0, True) == (done.code, "the books say the same" in done.out)
    centre.clock[0] = START_MS
    await centre.fed(Feeder(node="n2", journal="j2", raw_id="9", uuid="GPU-2", labels={}))
    centre.clock[0] = TOMORROW + DAY_MS
    done = await run("statement", TODAY, "--check")
    assert (1, True) == (done.code, "have changed since" in done.out)
    done = await run("close", "2027-01-16", "--token-file", str(path), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert {("1", TODAY)} == {(row["statement"], row["period"]) for row in rows}
    assert 180 * (GPU_UJ + CPU_UJ) == sum(int(row["energy_uj"]) for row in rows)
    done = await run("statement", "2")
    assert "Adjustment of statement 1 (2027-01-15):" in done.out
    for form in ("json", "csv"):
        done = await run("statement", "--format", form)
        assert hashed in done.out
        assert 0 == (await run("statement", "2", "--check", "--format", form)).code


async def test_what_cannot_be_closed_or_shown(centre: Centre, run: Run) -> None:
    """In the aggregator's words."""
    done = await run("close", TODAY)
    assert (2, True) == (done.code, "close it after that" in done.err)
    done = await run("statement", "9")
    assert (1, True) == (done.code, "is no statement" in done.err)
    done = await run("statement", "--check")
    assert (2, True) == (done.code, "which statement" in done.err)
    done = await run("close", TODAY, "--token-file", "/nowhere")
    assert (2, True) == (done.code, "cannot be read" in done.err)
    assert [] == json.loads((await run("statement", "--format", "json")).out)["statements"]
