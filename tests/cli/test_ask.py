"""The commands that ask, in every format, against a real aggregator."""

import asyncio
import csv
import io
import json

import pytest
import sqlalchemy as sa

from tests.aggregator.conftest import Centre
from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from tests.cli.conftest import Run
from wattkeeper.ledger import schema
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

JOB_UJ = 180 * (GPU_UJ + CPU_UJ // 2)


def rows(text: str) -> list[dict[str, str]]:
    """Read CSV back."""
    return list(csv.DictReader(io.StringIO(text)))


async def test_job_on_one_screen(centre: Centre, run: Run) -> None:
    """Energy, components, power, hours, coverage and how sure: in words, within 80 columns."""
    await centre.fed()
    done = await run("job", "123")
    assert (done.code, done.err) == (0, "")
    for part in (
        "Job 123", "train", "alice", "physics", "node001", "0:30:00", "225 Wh", "200 Wh",
        "mean 450 W", "gpu", "cpu", "100 %", "counted by the hardware", "alone on its devices",
    ):  # fmt: skip
        assert part in done.out, done.out
    assert max(map(len, done.out.splitlines())) <= 80


async def test_job_in_json_and_csv(centre: Centre, run: Run) -> None:
    """Both carry the exact microjoules."""
    await centre.fed()
    done = await run("job", "123", "--format", "json")
    assert str(JOB_UJ) == json.loads(done.out)["energy_uj"]
    done = await run("job", "123", "--format", "csv")
    (row,) = rows(done.out)
    assert (str(JOB_UJ), str(180 * GPU_UJ), "node001") == (
        row["energy_uj"],
        row["gpu_uj"],
        row["nodes"],
    )


async def test_job_inside_a_job(centre: Centre, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ID it is $SLURM_JOB_ID; without that, wrong use."""
    await centre.fed()
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    assert (await run("job")).code == 0
    monkeypatch.delenv("SLURM_JOB_ID")
    done = await run("job")
    assert (done.code, "SLURM_JOB_ID" in done.err) == (2, True)


async def test_an_unknown_job_is_1(centre: Centre, run: Run) -> None:
    """The answer is no, and it says what may be the reason."""
    await centre.fed()
    done = await run("job", "999")
    assert (done.code, done.out, "no such job" in done.err) == (1, "", True)


async def test_an_array_by_its_own_id(centre: Centre, run: Run) -> None:
    """What sbatch printed means every task of it."""
    await centre.fed()
    labels = {"job_id": "500_3", "user": "bob", "account": "chemistry"}
    await centre.fed(
        Feeder(node="node002", journal="j2", raw_id="501", labels=labels, uuid="GPU-2")
    )
    done = await run("job", "500", "--format", "json")
    assert (0, "500_3") == (done.code, json.loads(done.out)["job_id"])


async def test_a_range_of_jobs(centre: Centre, run: Run) -> None:
    """A range is a table, or a list in JSON."""
    await centre.fed()
    labels = {"job_id": "124", "user": "bob", "account": "chemistry"}
    await centre.fed(
        Feeder(node="node002", journal="j2", raw_id="124", labels=labels, uuid="GPU-2")
    )
    done = await run("job", "100-130")
    assert (done.code, "123" in done.out, "124" in done.out) == (0, True, True)
    done = await run("job", "100-130", "--format", "json")
    assert {"123", "124"} == {job["job_id"] for job in json.loads(done.out)}


async def test_jobs_of_mine_and_of_others(
    centre: Centre, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mine by default, `--all`, `--user`, `--account`; none is said in words."""
    await centre.fed()
    monkeypatch.setattr("getpass.getuser", lambda: "carol")
    done = await run("jobs", "--since", "-24h")
    assert (done.code, "No jobs of carol" in done.out) == (0, True)
    for args in (("--all",), ("--user", "alice"), ("--account", "physics")):
        done = await run("jobs", *args, "--format", "csv")
        assert [row["job_id"] for row in rows(done.out)] == ["123"], args
    done = await run("jobs", "--all")
    assert "225 Wh" in done.out
    done = await run("jobs", "--all", "--format", "json")
    assert json.loads(done.out)["jobs"][0]["job_id"] == "123"


async def test_report_in_every_format(centre: Centre, run: Run) -> None:
    """Rows add up to the total; what is nobody's stands apart."""
    await centre.fed()
    done = await run("report", "--by", "user", "--since", "-1h", "--format", "csv")
    by_key = {row["key"] or row["kind"]: int(row["energy_uj"]) for row in rows(done.out)}
    assert by_key["alice"] == JOB_UJ
    assert sum(by_key.values()) == 180 * (GPU_UJ + CPU_UJ)
    done = await run("report", "--by", "user", "--since", "-1h")
    for part in ("alice", "(system)", "total", "250 Wh"):
        assert part in done.out, done.out
    done = await run("report", "--format", "json")
    assert json.loads(done.out)["by"] == "account"


async def test_balance_says_yes(centre: Centre, run: Run) -> None:
    """Exit code 0 in every format."""
    await centre.fed()
    done = await run("balance", "--since", "-1h")
    assert (done.code, "The books balance." in done.out) == (0, True)
    done = await run("balance", "--since", "-1h", "--format", "json")
    assert (done.code, json.loads(done.out)["residual_uj"]) == (0, "0")
    done = await run("balance", "--since", "-1h", "--format", "csv")
    assert (done.code, len(rows(done.out))) == (0, 2)


async def test_balance_says_no_and_names_the_meter(centre: Centre, run: Run) -> None:
    """One microjoule more in one posting: exit code 1, with the meter's name."""
    await centre.fed()
    gpu = sa.select(schema.meter.c.id).where(schema.meter.c.component == "gpu").scalar_subquery()
    posting = schema.posting
    with centre.aggregator.ledger.writing() as connection:
        connection.execute(
            sa.update(posting).where(posting.c.meter == gpu).values(uj=posting.c.uj + 1)
        )
    done = await run("balance", "--since", "-1h")
    assert (done.code, "do NOT balance" in done.out, "gpu/GPU-5c1f" in done.out) == (1, True, True)
    for form in ("json", "csv"):
        assert (await run("balance", "--since", "-1h", "--format", form)).code == 1


async def test_too_little_coverage_is_1(centre: Centre, run: Run) -> None:
    """Balanced is not complete: a node that fell silent lowers coverage."""
    await centre.fed()
    feeder = Feeder(node="node002", journal="j2", raw_id="9", uuid="GPU-2")
    feeder.run(30)
    batch = feeder.batch(feeder.run(30))
    await centre.deliver(batch)
    await centre.aggregator.commit()
    done = await run("balance", "--since", "-1h", "--min-coverage", "1")
    expected = 0 if "100 % of the time" in done.out else 1
    assert expected == done.code, done.out


async def test_nobody_answers(
    run: Run, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """The message says what to do."""
    done = await run("jobs", "--all", "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert (done.code, done.out) == (3, "")
    assert "wattkeeper aggregator" in done.err
    assert "--url" in done.err


async def test_bad_questions_are_2(centre: Centre, run: Run) -> None:
    """What the aggregator refuses is shown in its words."""
    await centre.fed()
    done = await run("report", "--by", "shoe")
    assert (done.code, "'shoe' is none of user" in done.err) == (2, True)
    done = await run("balance", "--since", "yesterday")
    assert (done.code, "is not a time" in done.err) == (2, True)


IDLE_UJ = 9_000_000_000


async def settled(centre: Centre) -> None:
    """Make a part of the job's GPU energy one in which nothing of it ran."""
    await centre.fed()
    gpu = sa.select(schema.meter.c.id).where(schema.meter.c.component == "gpu").scalar_subquery()

    def idle() -> None:
        with centre.aggregator.ledger.writing() as connection:
            for table in (schema.posting, schema.rollup):
                own = sa.and_(table.c.meter == gpu, table.c.holder > 16)
                first = sa.select(sa.func.min(table.c.to_ms)).where(own).scalar_subquery()
                change = sa.update(table).where(own, table.c.to_ms == first)
                connection.execute(change.values(idle_uj=IDLE_UJ, idle_ms=18_000))

    await asyncio.to_thread(idle)


async def test_allocated_but_idle_is_everywhere(centre: Centre, run: Run) -> None:
    """A job, a list and a report tell energy and GPU time of it, in words and exactly."""
    await settled(centre)
    done = await run("job", "123", "--format", "csv")
    (row,) = rows(done.out)
    expected = (str(IDLE_UJ), "0.0025", "18.0")
    names = ("allocated_idle_uj", "allocated_idle_kwh", "allocated_idle_gpu_seconds")
    assert expected == tuple(row[name] for name in names)
    done = await run("report", "--by", "account", "--since", "-1h", "--format", "csv")
    (group,) = (row for row in rows(done.out) if row["key"] == "physics")
    assert expected == tuple(group[name] for name in names)
    done = await run("report", "--by", "account", "--since", "-1h")
    for part in ("idle h", "1.11 %"):
        assert part in done.out, done.out
    done = await run("jobs", "--all")
    assert "1.11 %" in done.out, done.out
    done = await run("job", "123")
    assert "while its devices had nothing to do" in done.out, done.out


async def test_a_job_tells_whether_it_is_final(centre: Centre, run: Run) -> None:
    """Not while it runs; after its end, once its node went on without it."""
    feeder = await centre.fed()
    assert "still running" in (await run("job", "123")).out
    end_ms = feeder.at_ms
    known = WorkloadInfo(
        "west", "slurm", "123", "123", state="COMPLETED", start_ms=START_MS, end_ms=end_ms + 10_000
    )
    ledger = centre.aggregator.ledger
    await asyncio.to_thread(record_knowledge, ledger, "slurm", Knowledge([known]), now_ms=end_ms)
    assert "settling" in (await run("job", "123")).out
    await centre.fed(feeder, windows=2)
    done = await run("job", "123", "--format", "json")
    assert json.loads(done.out)["final"] is True


async def test_the_runs_of_a_requeued_job(centre: Centre, run: Run) -> None:
    """The newest by default, an older one by its number; a list says which one it is."""
    await centre.fed()
    runs = [
        WorkloadInfo("west", "slurm", "123", "123", run="0", state="REQUEUED",
                     start_ms=START_MS, end_ms=START_MS + 60_000),
        WorkloadInfo("west", "slurm", "123", "123", run="1", state="RUNNING",
                     start_ms=START_MS + 120_000),
    ]  # fmt: skip
    ledger = centre.aggregator.ledger
    await asyncio.to_thread(
        record_knowledge, ledger, "slurm", Knowledge(runs), now_ms=centre.clock[0]
    )
    for args, expected in ((("--run", "1"), "REQUEUED"), (("--run", "2"), "RUNNING")):
        done = await run("job", "123", *args, "--format", "json")
        found = json.loads(done.out)
        assert (found["state"], found["runs"]) == (expected, 2)
    done = await run("job", "123", "--run", "3")
    assert (done.code, "123, run 3: no such job" in done.err) == (1, True)
    done = await run("jobs", "--all", "--state", "Requeued")
    assert "123 (1/2)" in done.out, done.out


async def test_components_and_tasks_by_their_ids(centre: Centre, run: Run) -> None:
    """`22+0`, `22` and `123_[0-9]` mean what Slurm means by them."""
    for number, job_id in enumerate(("22+0", "22+1", "123_4", "123_11")):
        labels = {"job_id": job_id, "user": "bob", "account": "chemistry"}
        name = f"{number}"
        await centre.fed(
            Feeder(node=f"n{name}", journal=f"j{name}", raw_id=name, labels=labels, uuid=name),
            windows=3,
        )
    for typed, expected in (
        ("22+0", ["22+0"]),
        ("22", ["22+0", "22+1"]),
        ("123_[0-9]", ["123_4"]),
        ("123_[0-11]", ["123_4", "123_11"]),
    ):
        done = await run("job", typed, "--format", "csv")
        assert [row["job_id"] for row in rows(done.out)] == expected, typed
