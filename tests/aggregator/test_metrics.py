"""`/metrics` of the aggregator."""

import asyncio
import shutil
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from wattkeeper.aggregator.budget_metrics import BudgetFigures
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.label_values import cut
from wattkeeper.aggregator.metrics import Exporter
from wattkeeper.aggregator.polls import Polls
from wattkeeper.aggregator.snapshot import Snapshot
from wattkeeper.ledger import schema
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import Knowledge, NodeGpus, WorkloadInfo

GOLDEN = Path(__file__).parents[1] / "fixtures" / "exposition" / "aggregator.prom"
GROUPS = {
    "groups": {"rack": {"r12": ("node[001-018]",)}, "row": {"a": ("node001",)}},
    "budgets": {
        "feeder": {"demand": "800W"},
        "rack12": {"watts": "450W", "group": "rack=r12", "inside": "feeder", "raise_after": "0s"},
        "physics": {"energy": "9kWh", "account": "physics"},
    },
    "alerts": {"via": "webhook", "url": "http://127.0.0.1:9"},
}


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
    await centre.aggregator.budgeting.assess()
    return await centre.text("/metrics")


def comparable(text: str) -> str:
    """Leave out what differs from run to run."""
    varying = (
        "wattkeeper_intake_bytes_total ",
        "wattkeeper_telemetry_database_bytes ",
        "wattkeeper_alerts_",
    )
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


async def test_a_gpu_that_only_the_scheduler_granted_is_idle_too(centre: Centre) -> None:
    """Nothing of the job runs, so its node sees nobody; a silent node tells nothing of now."""
    feeder = await centre.fed()
    run = WorkloadInfo(
        "west", "slurm", "9", "9", account="chemistry", start_ms=START_MS,
        gpus=(NodeGpus("node001", (0,)),),
    )  # fmt: skip
    ledger, now_ms = centre.aggregator.ledger, centre.clock[0]
    known = Knowledge([run], granted_ms=now_ms)
    await asyncio.to_thread(record_knowledge, ledger, "slurm", known, now_ms=now_ms)
    for ppm, held, expected in (
        (0, False, {("chemistry",): 1.0}),
        (0, True, {("physics",): 1.0}),
        (900_000, False, {}),
    ):
        await centre.deliver(feeder.batch([], feeder.snapshot(ppm, held=held)))
        centre.aggregator.exporter.expire()
        assert expected == samples(await centre.text("/metrics"), "wattkeeper_allocated_idle_gpus")
    await centre.deliver(feeder.batch([], feeder.snapshot(0, held=False)))
    centre.clock[0] += 600_000
    centre.aggregator.exporter.expire()
    assert samples(await centre.text("/metrics"), "wattkeeper_allocated_idle_gpus") == {}


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


def test_a_slow_value_does_not_hold_up_who_asks() -> None:
    """After the first one the older is given, and the new one the next time."""
    go_on, values = threading.Event(), iter([1, 2])

    def compute() -> int:
        value = next(values)
        if value == 2:
            go_on.wait(20)
        return value

    with ThreadPoolExecutor(1) as pool:
        cached = Cached(compute, 3600, pool=pool, patience_s=0.01)
        assert cached.get() == 1
        cached.expire()
        assert [cached.get(), cached.get()] == [1, 1]
        go_on.set()
        pool.submit(int).result(20)  # comes after the new value
        assert cached.get() == 2


def test_a_new_value_is_waited_for_where_it_is_quick() -> None:
    """Who asks gets the newest, and expiry reaches what it is made of."""
    counts = [0, 0]

    def part() -> int:
        counts[0] += 1
        return counts[0]

    inner = Cached(part, 60)
    with ThreadPoolExecutor(1) as pool:
        outer = Cached(lambda: inner.get() * 10, 60, pool=pool, patience_s=20, parts=(inner,))
        assert [outer.get(), outer.get()] == [10, 10]
        outer.expire()
        assert outer.get() == 20


def shown(snapshot: Snapshot) -> str:
    """Return the exposition of a snapshot."""
    exporter = Exporter(
        Cached(lambda: snapshot, 0),
        identity="none",
        max_values=1,
        group_kinds=(),
        scraped=lambda _: None,
    )
    return exporter.render()[0].decode()


def test_what_never_was_is_due_since_the_beginning() -> None:
    """So that the alerts on what is stale fire too where there was no success since a restart."""
    polls = Polls(("slurm",))
    polls.failed("slurm", "connection refused")
    snapshot = replace(
        Snapshot((), 0, (), {}, (), 0, 0, None, polls.now(), Counter(), Counter(), None),
        since_ms=START_MS,
    )
    due = {"scheduler_answer": {("slurm",): START_MS / 1000}, "commit": {(): START_MS / 1000}}
    for budgets, more in (
        (BudgetFigures(), {"budget_evaluated": {}}),
        (BudgetFigures(watched=True), {"budget_evaluated": {(): START_MS / 1000}}),
    ):
        text = shown(replace(snapshot, budgets=budgets))
        for name, expected in (due | more).items():
            assert samples(text, f"wattkeeper_{name}_timestamp_seconds") == expected


def test_the_schedulers_answers_are_metrics() -> None:
    """State, time and length of the last answer."""
    polls = Polls(("slurm", "kubernetes"))
    polls.answered("slurm", START_MS, 0.25)
    polls.failed("slurm", "connection refused")
    text = shown(Snapshot((), 0, (), {}, (), 0, 0, None, polls.now(), Counter(), Counter(), None))
    states = samples(text, "wattkeeper_scheduler_state")
    assert [key for key, value in states.items() if value] == [
        ("slurm", "failing"),
        ("kubernetes", "waiting"),
    ]
    prefix = "wattkeeper_scheduler_answer"
    assert samples(text, f"{prefix}_seconds") == {("slurm",): 0.25}
    assert samples(text, f"{prefix}_timestamp_seconds") == {("slurm",): START_MS / 1000}
