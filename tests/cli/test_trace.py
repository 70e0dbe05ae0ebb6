"""`wattkeeper trace`, as a user runs it."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS, Feeder
from tests.aggregator.past import Past
from tests.aggregator.past import rows as windows_as_rows
from tests.cli.conftest import Run
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.ledger.queries.job import Job, job
from wattkeeper.ledger.store import Ledger

JOB_J = 180 * (GPU_UJ + CPU_UJ // 2) / 1e6


async def test_a_plot_and_what_it_adds_up_to(recall: Run) -> None:
    """Within 80 columns: the plot, its times, mean, peak and energy beside the books'."""
    done = await recall("trace", "123")
    assert (done.code, done.err) == (0, "")
    for part in (
        "Job 123 train", "500 W │", "0 W └──", "08:00", "08:30", "█ gpu ▓ cpu",
        "gpu 400 W 400 W 200 Wh 200 Wh", "all 225 Wh 225 Wh", "in steps of 10s",
    ):  # fmt: skip
        assert part in " ".join(done.out.split()), done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "less than the books" not in done.out


async def test_in_json_and_csv(recall: Run) -> None:
    """The series as they are; each format adds up to the books."""
    done = await recall("trace", "123", "--format", "json")
    answer = json.loads(done.out)
    assert (answer["unit"], answer["energy_joules"]) == ("watts", pytest.approx(JOB_J))
    done = await recall("trace", "123", "--format", "csv", "--by", "node", "--step", "5m")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert rows[0] == {
        "start": rfc3339(START_MS), "component": "gpu", "node": "node001", "power_watts": "400.0"
    }  # fmt: skip
    assert sum(float(row["power_watts"]) for row in rows) * 300 == pytest.approx(JOB_J)


async def test_taken_apart(fresh: Past, recall: Run) -> None:
    """A layer for each node, the smallest ones together; and a row for each."""
    for number in range(4, 14):
        fresh.feed(Feeder(node=f"node{number:03}", journal=f"j{number}", uuid=f"GPU-{number}"))
    done = await recall("trace", "123", "--by", "node")
    assert done.code == 0
    for part in (
        "█ gpu node001", "17 others", "cpu node011 50 W 50 W", "gpu 4,400 W 4,400 W 2.20 kWh",
        "2 smaller series are not listed",
    ):  # fmt: skip
        assert part in " ".join(done.out.split()), done.out
    assert max(map(len, done.out.splitlines())) <= 80


async def test_inside_a_job(recall: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ID it is $SLURM_JOB_ID; without that, wrong use."""
    monkeypatch.setenv("SLURM_JOB_ID", "124")
    assert "Job 124" in (await recall("trace")).out
    monkeypatch.delenv("SLURM_JOB_ID")
    done = await recall("trace")
    assert (done.code, "SLURM_JOB_ID" in done.err) == (2, True)


async def test_which_job(fresh: Past, recall: Run) -> None:
    """One that is not known is 1; several are wrong use."""
    done = await recall("trace", "999")
    assert (done.code, done.out, "no such job" in done.err) == (1, "", True)
    done = await recall("trace", "100-130")
    assert (done.code, "is 2 jobs (123, 124" in done.err) == (2, True)
    labels = {"job_id": "ns/pod é", "user": "eve"}
    fresh.feed(Feeder(node="n7", journal="j7", raw_id="u-7", uuid="GPU-7", labels=labels))
    done = await recall("trace", "ns/pod é")
    assert (done.code, "Job ns/pod é" in done.out) == (0, True)


async def test_a_part_of_its_time(recall: Run) -> None:
    """Says that the books are of the whole."""
    done = await recall("trace", "123", "--since", rfc3339(START_MS + 900_000))
    assert (done.code, "of the whole job" in done.out) == (0, True)
    assert "gpu 400 W 400 W 100 Wh 200 Wh" in " ".join(done.out.split())


async def test_history_that_misses_a_part(fresh: Past, recall: Run) -> None:
    """Is blank in the plot, and said in words."""
    del fresh.rows.rows[60:120]
    done = await recall("trace", "123")
    assert "(blank: not metered)" in done.out
    assert "The trace has 16.7 % less than the books" in done.out
    fresh.rows.rows.clear()
    done = await recall("trace", "123")
    assert (done.code, "No history of this time" in done.out) == (1, True)
    assert "200 Wh" in done.out


async def test_books_that_are_behind(fresh: Past, recall: Run) -> None:
    """The newest windows may be in the history first."""
    feeder = Feeder(node="node005", journal="j5", raw_id="125", labels={"job_id": "125"}, uuid="G5")
    fresh.feed(feeder, windows=30)
    records = feeder.run(30)
    fresh.rows.write(windows_as_rows(feeder, records), {})
    fresh.clock[0] = max(fresh.clock[0], feeder.at_ms)
    done = await recall("trace", "125")
    assert "The trace has 100 % more than the books: its newest part is" in done.out


async def test_what_was_settled_is_in_no_trace(
    fresh: Past, recall: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer says how much that is, and the trace is not called incomplete for it."""
    more = GPU_UJ * 90

    def settled(ledger: Ledger, cluster: str, key: str, *more_of_it: Any) -> Job | None:
        found = job(ledger, cluster, key, *more_of_it)
        assert found is not None
        by_split = {**found.energy_by_split_uj, "settled": more}
        return replace(found, energy_uj=found.energy_uj + more, energy_by_split_uj=by_split)

    monkeypatch.setattr("wattkeeper.aggregator.telemetry_trace.job", settled)
    done = await recall("trace", "123")
    assert "100 Wh in the books was idle on GPUs that only its scheduler knew" in done.out
    assert "less than the books" not in done.out


async def test_a_store_that_fails_is_an_outage(fresh: Past, recall: Run) -> None:
    """And says so in its own words."""
    fresh.rows.fails = "the disk is full"
    done = await recall("trace", "123")
    assert (done.code, "no history now: the disk is full" in done.err) == (3, True)


async def test_an_aggregator_without_history(fresh: Past, command: Run) -> None:
    """Is a "no", with what to do; the books answer all the same."""
    with ThreadPoolExecutor(2) as pool:
        async with TestServer(fresh.app(pool, fresh.bare)) as server:
            url = str(server.make_url(""))
            done = await command("trace", "123", "--url", url)
            assert (done.code, "keeps no history" in done.err) == (1, True)
            assert (await command("job", "123", "--url", url)).code == 0


async def test_bad_questions_are_2(recall: Run) -> None:
    """In the aggregator's words."""
    for args, says in (
        (("--step", "soon"), "is not a duration"),
        (("--by", "user"), "is none of node"),
        (("--since", "yesterday"), "is not a time"),
        (("--since", "2020-01-01", "--until", "2020-01-02"), "ran from"),
    ):
        done = await recall("trace", "123", *args)
        assert (done.code, says in done.err) == (2, True), done.err
