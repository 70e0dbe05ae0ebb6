"""Labels from people, however hostile or many, neither break `/metrics` nor let it grow."""

import re
import shutil
import string
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.aggregator.test_metrics import samples
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.metrics import Exporter
from wattkeeper.aggregator.shown_jobs import JobFigures
from wattkeeper.aggregator.snapshot import Snapshot
from wattkeeper.ledger.exported import AccountTotal
from wattkeeper.ledger.queries.job import Job
from wattkeeper.model.holder import MAX_LABEL

EXPOSITIONS = Path(__file__).parents[1] / "fixtures" / "exposition"
HOSTILE = (
    'quote " and \\ and \n newline',
    "x" * 10_000,
    "\ud800 surrogate",
    "bell \x07 escape \x1b[31m nul \x00",
    'a="b",c',
    "\u202eright to left",
    "ünïcödé 名前 🎉",
    "",
)
EMPTY = Job(
    id=1, cluster="west", job_id="1", raw_id="1", run=1, runs=1, manager="slurm", user="alice",
    account="physics", partition="gpu", namespace="", owner_kind="", owner_name="", array="",
    name="train", state="RUNNING", start_ms=0, end_ms=None, nodes=["n"], energy_uj=1,
    energy_by_component_uj={"gpu": 1}, energy_by_source_uj={}, energy_by_split_uj={},
 energy_by_grade_uj={},
    allocated_idle_uj=0, mean_watts=None, peak_watts=None, gpu_seconds=0.0,
    allocated_idle_gpu_seconds=0.0, coverage=None, as_of_ms=0, final=None,
)  # fmt: skip
ACCOUNT = "wattkeeper_account_energy_joules_total"
IDLE = "wattkeeper_allocated_idle_gpus"


def figures(job: Job, *ids: str) -> JobFigures:
    """Return a job as it is shown under its ids."""
    keys = tuple((job.cluster, job.manager, one) for one in ids or (job.raw_id,))
    return JobFigures(job, keys[0], keys, job.energy_by_component_uj, 5, {"gpu": 1.0})


def snapshot(
    jobs: list[JobFigures], accounts: list[AccountTotal], idle: dict[str, int] | None = None
) -> Snapshot:
    """Return a snapshot of jobs and accounts only."""
    return Snapshot(jobs, 0, accounts, idle or {}, (), 0, 0, None, (), Counter(), Counter(), None)


def exposition(shown: Snapshot, identity: str = "user", max_values: int = 1000) -> str:
    """Return the text of it."""
    exporter = Exporter(
        Cached(lambda: shown, 0),
        identity=identity,
        max_values=max_values,
        group_kinds=(),
        scraped=lambda _: None,
    )
    return exporter.render()[0].decode()


def hostile(value: str, number: int = 1) -> JobFigures:
    """Return a job all of whose names are this."""
    names = ("cluster", "job_id", "user", "account", "partition", "namespace", "owner_name", "name")
    job = replace(EMPTY, **dict.fromkeys(names, value), id=number)  # type: ignore[arg-type]
    return figures(job, str(number), f"{value}{number}")


@given(value=st.one_of(st.sampled_from(HOSTILE), st.text(max_size=300)))
def test_any_name_is_read_back(value: str) -> None:
    """A parser reads every label, printable and no longer than MAX_LABEL."""
    text = exposition(snapshot([hostile(value)], [AccountTotal(value, value, 1, 5, 0, 0, 0)]))
    found = [s for f in text_string_to_metric_families(text) for s in f.samples]
    labels = [label for sample in found for label in sample.labels.values()]
    assert all(len(label) <= MAX_LABEL and label.isprintable() for label in labels)
    assert samples(text, "wattkeeper_job_energy_joules_total")


def test_long_names_that_become_alike_are_one_series() -> None:
    """What is cut ends with … and never stands twice, which Prometheus would refuse."""
    long = "x" * 10_000
    jobs = [figures(replace(EMPTY, id=n), f"{long}{n}") for n in range(3)]
    accounts = [AccountTotal("west", f"{long}{n}", n + 1, 7_000_000, 0, 0, 0) for n in range(3)]
    text = exposition(snapshot(jobs, accounts))
    assert len(samples(text, "wattkeeper_workload_info")) == 1
    name = f"{'x' * (MAX_LABEL - 1)}…"
    assert samples(text, ACCOUNT) == {(name, "west"): 21.0}


@pytest.mark.promtool
def test_promtool_reads_hostile_names() -> None:
    """`promtool check metrics` has no complaint."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    jobs = [hostile(value, number) for number, value in enumerate(HOSTILE)]
    accounts = [
        AccountTotal("west", value, number, 1, 0, 0, 0) for number, value in enumerate(HOSTILE, 1)
    ]
    text = exposition(snapshot(jobs, accounts, dict.fromkeys(HOSTILE, 1)))
    command = [promtool, "check", "metrics"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_hundred_thousand_accounts() -> None:
    """The first 1,000 have series, the rest one together, and the sums stay right."""
    many = 100_000
    accounts = [AccountTotal("west", f"a{n}", n, n * 1_000_000, 0, n, n) for n in range(1, many)]
    text = exposition(snapshot([], accounts, {f"a{n}": 1 for n in range(1, many)}))
    found = samples(text, ACCOUNT)
    assert len(found) == 1001
    assert sum(found.values()) == sum(range(1, many))
    assert found["other", "west"] == sum(range(1001, many))
    idle = samples(text, IDLE)
    assert (len(idle), sum(idle.values())) == (1001, many - 1)


def test_the_rest_never_falls() -> None:
    """Accounts that come later go to the rest; nobody ever leaves it for a series of its own."""
    seen: dict[tuple[str, ...], float] = {}
    accounts: list[AccountTotal] = []
    for number in range(1, 12):
        accounts = [replace(one, uj=one.uj + 1_000_000 * one.number) for one in accounts]
        accounts.append(AccountTotal("west", f"a{99 - number}", number, 1_000_000, 0, 0, 0))
        found = samples(exposition(snapshot([], accounts), max_values=3), ACCOUNT)
        assert all(found[key] >= value for key, value in seen.items())
        seen = found
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("identity", "hidden"),
    [
        ("user", ["name-x"]),
        ("account", ["name-x", "user-x"]),
        ("none", ["name-x", "user-x", "account-x", "namespace-x", "owner-x", "pod-x"]),
    ],
)
def test_identity_on_the_whole_exposition(identity: str, hidden: list[str]) -> None:
    """Every word that tells of a person, wherever it stands."""
    job = replace(
        EMPTY,
        manager="kubernetes",
        job_id="pod-x",
        user="user-x",
        account="account-x",
        namespace="namespace-x",
        owner_kind="Job",
        owner_name="owner-x",
        name="name-x",
    )
    accounts = [AccountTotal("west", "account-x", 1, 5_000_000, 0, 0, 0)]
    text = exposition(snapshot([figures(job)], accounts, {"account-x": 2}), identity)
    words = ["user-x", "account-x", "namespace-x", "owner-x", "pod-x", "name-x"]
    found = [word for word in words if re.search(rf'"{word}"', text)]
    assert found == [word for word in words if word not in hidden]
    assert sum(samples(text, ACCOUNT).values()) == 5.0
    assert sum(samples(text, IDLE).values()) == 2.0


def test_device_series_have_no_label_of_a_job() -> None:
    """In neither program: a job's end must not end the series of a GPU."""
    personal = {"workload", "job_id", "manager", "user", "account", "partition", "namespace"}
    checked = 0
    for file in EXPOSITIONS.glob("*.prom"):
        for name, labels in re.findall(r"^(\w+)\{(.*)\}", file.read_text(), re.MULTILINE):
            if name.startswith(("wattkeeper_gpu_", "wattkeeper_cpu_", "wattkeeper_host_")):
                checked += 1
                assert not personal & set(re.findall(r'(\w+)="', labels)), name
    assert checked > 20


def test_names_of_metrics_are_plain() -> None:
    """Every name of a metric and a label is one that Prometheus takes without quotes."""
    plain = set(string.ascii_lowercase + string.digits + "_")
    text = exposition(snapshot([figures(EMPTY)], []))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert set(sample.name).union(*sample.labels) <= plain
