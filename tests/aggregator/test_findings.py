"""How the aggregator is, part by part; and the history of what was delivered to it."""

import asyncio
import json
import sys
from typing import Any

import pytest

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS
from wattkeeper.aggregator.config import NO_HISTORY, AggregatorSettings, TelemetrySection
from wattkeeper.aggregator.opening import StartError
from wattkeeper.aggregator.runtime import Aggregator
from wattkeeper.telemetry.base import TelemetryError


async def found(centre: Centre) -> dict[str, Any]:
    """Return the findings by subject."""
    status, body = await centre.get("/v1/findings")
    assert status == 200
    return {one["subject"]: one for one in body["findings"]}


async def test_what_was_delivered_is_history(centre: Centre) -> None:
    """From the same deliveries, with the ledger's own energy, and after a restart too."""
    await centre.fed(windows=180)
    await centre.aggregator.stop()
    await centre.aggregator_again()
    query = {"metric": "energy", "by": "component", "since": "2027-01-15T08:00Z", "step": "15m"}
    status, body = await centre.get("/v1/telemetry", **query, until="2027-01-15T08:30Z")
    assert status == 200
    by = {one["labels"]["component"]: one["values"] for one in body["series"]}
    assert by == {"gpu": [90 * GPU_UJ / 1e6] * 2, "cpu": [90 * CPU_UJ / 1e6] * 2}
    status, trace = await centre.get("/v1/jobs/west/123/trace")
    assert status == 200
    _, job = await centre.get("/v1/jobs/west/123")
    assert trace["energy_joules"] == pytest.approx(int(job["energy_uj"]) / 1e6)


async def test_a_trace_that_is_ahead_of_the_books(centre: Centre) -> None:
    """Its mean is that of the time which it knows."""
    feeder = await centre.fed(windows=6)
    records = feeder.run(60)
    centre.clock[0] = feeder.at_ms + 5_000
    await centre.deliver(feeder.batch(records))
    recording = centre.aggregator._recording
    assert recording is not None
    assert await asyncio.to_thread(recording.flush)
    _, trace = await centre.get("/v1/jobs/west/123/trace")
    gpu = next(part for part in trace["components"] if part["component"] == "gpu")
    assert (gpu["mean_watts"], gpu["peak_watts"]) == (pytest.approx(400), pytest.approx(400))
    assert gpu["energy_joules"] == 66 * GPU_UJ / 1e6
    assert int(gpu["ledger_energy_uj"]) == 6 * GPU_UJ


async def test_all_is_well(centre: Centre) -> None:
    """Books and history say so."""
    await centre.fed(windows=6)
    states = {subject: one["state"] for subject, one in (await found(centre)).items()}
    assert states == {"ledger": "ok", "telemetry": "ok"}
    assert 'wattkeeper_telemetry_state{state="ok"} 1.0' in await centre.text("/metrics")


async def test_a_history_that_fails(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, with what to do; the books go on, and agents keep what it lacks."""
    recording = centre.aggregator._recording
    assert recording is not None

    def refuse(*_: Any) -> None:
        raise TelemetryError("telemetry: no space left")

    with monkeypatch.context() as patch:
        patch.setattr(recording.store, "write", refuse)
        feeder = await centre.fed(windows=6)
        history = (await found(centre))["history"]
        assert (history["state"], history["detail"]) == ("failing", "telemetry: no space left")
        assert "nothing is lost" in history["fix"]
        centre.aggregator.exporter.expire()
        text = await centre.text("/metrics")
        assert 'wattkeeper_telemetry_state{state="failing"} 1.0' in text
        assert (await centre.deliver(feeder.batch([])))[1]["committed"] == 0
    await centre.aggregator.commit()
    assert (await centre.deliver(feeder.batch([])))[1]["committed"] == 14
    assert "history" not in await found(centre)


async def test_doctor_tells_of_the_aggregator(centre: Centre) -> None:
    """Below the node's own findings, where an aggregator answers."""
    empty = str(centre.aggregator.settings.data_dir / "no-such-folder")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wattkeeper", "doctor", "--format", "json",
        "--data-dir", empty, "--path.sysfs", empty, "--path.cgroupfs", empty,
        "--aggregator.url", centre.aggregator.url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await program.communicate()
    subjects = [one["subject"] for one in json.loads(out)["findings"]]
    assert ["delivery", "aggregator/ledger", "aggregator/telemetry"] == subjects[-3:]


async def test_no_history_if_none_is_wanted(centre: Centre) -> None:
    """The books alone; questions say what to do."""
    settings = centre.aggregator.settings
    await centre.aggregator.stop()
    alone = settings.model_copy(update={"telemetry": TelemetrySection(url=NO_HISTORY)})
    centre.aggregator = Aggregator(alone, now_ms=lambda: centre.clock[0])
    await centre.aggregator.start()
    await centre.fed(windows=6)
    assert list(await found(centre)) == ["ledger"]
    status, body = await centre.get("/v1/telemetry", metric="power")
    assert (status, body["type"]) == (404, "urn:wattkeeper:problem:no-telemetry")
    assert "wattkeeper_telemetry" not in await centre.text("/metrics")


async def test_a_folder_that_is_none(centre: Centre) -> None:
    """The aggregator does not start, and says why."""
    settings: AggregatorSettings = centre.aggregator.settings
    await centre.aggregator.stop()
    (settings.data_dir / "telemetry").rename(settings.data_dir / "aside")
    (settings.data_dir / "telemetry").write_text("a file")
    with pytest.raises(StartError, match=r"^telemetry: "):
        await Aggregator(settings, now_ms=lambda: START_MS).start()
