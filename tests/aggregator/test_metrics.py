"""`/metrics` of the aggregator."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, Feeder
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.label_values import cut
from wattkeeper.ledger import schema
from wattkeeper.model.holder import MAX_LABEL

GOLDEN = Path(__file__).parents[1] / "fixtures" / "exposition" / "aggregator.prom"
GROUPS = {"groups": {"rack": {"r12": ("node[001-018]",)}, "row": {"a": ("node001",)}}}


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric by the values of its labels, in the labels' order."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def filled(centre: Centre) -> str:
    """Feed a node twice, with a look in between, and return the exposition."""
    feeder = await centre.fed()
    exporter = centre.aggregator.exporter
    await asyncio.to_thread(exporter.render)
    exporter.expire()
    await centre.fed(feeder, windows=3)
    await centre.deliver(feeder.batch([], feeder.snapshot(utilization_ppm=0)))
    return await centre.text("/metrics")


def comparable(text: str) -> str:
    """Leave out what differs from run to run."""
    varying = "wattkeeper_intake_bytes_total "
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(varying))


@pytest.mark.parametrize("centre", [GROUPS], indirect=True)
async def test_golden_exposition(centre: Centre, pytestconfig: pytest.Config) -> None:
    """The whole exposition, as kept; `--regenerate` writes it anew."""
    text = comparable(await filled(centre))
    if pytestconfig.getoption("--regenerate"):
        await asyncio.to_thread(GOLDEN.write_text, text)
    assert await asyncio.to_thread(GOLDEN.read_text) == text


@pytest.mark.promtool
@pytest.mark.parametrize("centre", [GROUPS], indirect=True)
async def test_promtool_finds_nothing(centre: Centre) -> None:
    """`promtool check metrics` has no complaint."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    text = await filled(centre)
    done = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_energy_and_power_of_a_job(centre: Centre) -> None:
    """Joules to the last booking, watts between the last two."""
    text = await filled(centre)
    energy = samples(text, "wattkeeper_job_energy_joules_total")
    assert energy["west", "gpu", "slurm", "123"] == 183 * GPU_UJ / 1e6
    power = samples(text, "wattkeeper_job_power_watts")
    assert pytest.approx(power["west", "gpu", "slurm", "123"]) == 400
    assert pytest.approx(power["west", "cpu", "slurm", "123"]) == 50
    accounts = samples(text, "wattkeeper_account_energy_joules_total")
    expected = 183 * (GPU_UJ + CPU_UJ // 2) / 1e6
    assert {("physics", "west"): expected} == accounts
    assert samples(text, "wattkeeper_allocated_idle_gpus") == {("physics",): 1.0}
    assert samples(text, "wattkeeper_ledger_residual_joules") == {(): 0.0}


@pytest.mark.parametrize(
    ("centre", "shown", "hidden"),
    [
        ({"metrics": {"identity": "user"}}, ["alice", "physics"], ["train"]),
        ({"metrics": {"identity": "account"}}, ["physics"], ["alice", "train"]),
        ({"metrics": {"identity": "none"}}, ["workload_info"], ["physics", "alice", "train"]),
    ],
    indirect=["centre"],
    ids=["user", "account", "none"],
)
async def test_identity_decides_who_is_named(
    centre: Centre, shown: list[str], hidden: list[str]
) -> None:
    """A job's name never is, its user only if asked for."""
    text = await filled(centre)
    assert [word for word in shown if word not in text] == []
    assert [word for word in hidden if word in text] == []


@pytest.mark.parametrize("centre", [{"metrics": {"max_jobs": 2}}], indirect=True)
async def test_the_number_of_jobs_is_capped(centre: Centre) -> None:
    """The newest have series; how many more there are is said."""
    for number in range(5):
        raw = str(100 + number)
        await centre.fed(
            Feeder(
                node=f"n{number}",
                journal=f"j{number}",
                raw_id=raw,
                uuid=f"GPU-{number}",
                labels={"job_id": raw, "account": "physics"},
            ),
            windows=3,
        )
    text = await centre.text("/metrics")
    assert len(samples(text, "wattkeeper_workload_info")) == 2
    assert samples(text, "wattkeeper_jobs_omitted") == {(): 3.0}


async def test_totals_never_fall(centre: Centre) -> None:
    """What is taken back from the books stays in the exported total, and is counted apart."""
    before = samples(await filled(centre), "wattkeeper_account_energy_joules_total")

    def take_back() -> None:
        with centre.aggregator.ledger.writing() as connection:
            for table in (schema.posting, schema.rollup):
                connection.execute(sa.delete(table).where(table.c.holder > 16))

    await asyncio.to_thread(take_back)
    centre.aggregator.exporter.expire()
    text = await centre.text("/metrics")
    assert before
    assert before == samples(text, "wattkeeper_account_energy_joules_total")
    taken = samples(text, "wattkeeper_account_taken_back_joules")
    assert list(before.values()) == list(taken.values())


async def test_openmetrics_is_negotiated(centre: Centre) -> None:
    """A scraper that asks for OpenMetrics gets it."""
    url = f"{centre.aggregator.url}/metrics"
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with centre.session.get(url, headers=accept) as answer:
        assert "openmetrics" in answer.headers["Content-Type"]
        assert (await answer.text()).endswith("# EOF\n")


def test_labels_are_cut() -> None:
    """To MAX_LABEL characters, without control characters; others stay as they are."""
    assert cut("plain") == "plain"
    assert len(cut("x" * 10_000)) == MAX_LABEL
    assert cut("a\nb\x1bc") == "a b c"


def test_cached_values_rest() -> None:
    """Computed at most every so often, and never for more than 1/20 of the time."""
    now, calls = [0.0], [0]

    def compute() -> int:
        calls[0] += 1
        now[0] += 2.0
        return calls[0]

    cached = Cached(compute, 5, clock=lambda: now[0])
    assert [cached.get(), cached.get()] == [1, 1]
    now[0] = 41.9
    assert cached.get() == 1
    now[0] = 42.1
    assert cached.get() == 2
    cached.expire()
    assert cached.get() == 3
