"""Reports: energy told apart in time, by job and by accuracy, and by a part of the fleet."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.ledger import schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.accuracy import grade, grade_of
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.queries.grain import grain
from wattkeeper.ledger.queries.job_detail import job_energy, job_hardware, job_span
from wattkeeper.ledger.queries.report import DIMENSIONS, Report, ReportRow, report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.grid import DAY_MS, floor
from wattkeeper.model.meter import Component
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

SLOTS = 3 * 96
LABELS = {"user": "ada", "account": "lab", "name": "sweep", "partition": "gpu"}
LINES = st.lists(st.integers(-10, SLOTS + 10).map(lambda n: T0 + n * SLOT), max_size=12)
SPANS = st.tuples(st.integers(0, SLOTS - 1), st.integers(1, SLOTS)).map(
    lambda pair: (T0 + pair[0] * SLOT, T0 + min(SLOTS, pair[0] + pair[1]) * SLOT)
)


def fill(ledger: Ledger) -> Ledger:
    """Book three days of two clusters: four jobs, of which three are one sweep."""
    intake = Intake(ledger)
    for number, cluster in enumerate(("west", "east")):
        journal = Journal(f"journal-{cluster}", f"n{number}", cluster=cluster)
        journal.holders = {
            16: holder("7", T0, job_id="7_1", array="7", **LABELS),
            17: holder("8", T0, job_id="7_2", array="7", **LABELS),
            18: holder("9", T0, user="bob", account="ops", name="train"),
        }
        gpu = Meter(journal, 1, f"gpu/GPU-{cluster}")
        cpu = Meter(journal, 2, "cpu/0/package", Component.CPU)
        for meter in (gpu, cpu):
            meter.point()
            for slot in range(SLOTS):
                split = 1 if meter is cpu else 3 if slot % 50 == 0 else 0
                shares = ((16, slot + 1), (17 + slot % 2, 10**6 + slot), (1, 100), (2, slot % 7))
                meter.window(*shares, ms=SLOT, split=split)
        journal.deliver(intake, T0 + (SLOTS + 4) * SLOT)
    intake.commit_sync()
    return ledger


def job_energies(found: Report) -> Counter[int]:
    """Return what each job used in all rows; none is twice in one."""
    energies: Counter[int] = Counter()
    for row in found.rows:
        assert len(row.by_job) == len({job.id for job in row.by_job})
        energies.update({job.id: job.uj for job in row.by_job})
    return energies


@pytest.fixture(scope="module")
def days() -> Iterator[Ledger]:
    """Three days of books, to be read only; what schedulers say of some jobs is in them."""
    ledger = fill(Ledger.open("sqlite://"))
    runs = [
        WorkloadInfo(
            "west", "simulated", raw_id, f"7_{raw_id}", user="ada", account="lab",
            name="sweep", array="7", namespace=space, owner_kind="Job", owner_name="tune",
            start_ms=T0, labels={"qos": "high", "team": team},
        )
        for raw_id, space, team in (("7", "a", "red"), ("8", "", "blue"))
    ]  # fmt: skip
    record_knowledge(ledger, "simulated", Knowledge(runs))
    yield ledger
    ledger.close()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    by=st.sampled_from(["account", "name", "node", "array"]),
    most=st.integers(0, 4),
    lines=LINES,
    span=SPANS,
)
def test_rows_that_are_put_together_add_up(
    days: Ledger, by: str, most: int, lines: list[int], span: tuple[int, int]
) -> None:
    """Those that used most stay; in the rest no energy, time or job is lost, or told twice."""
    whole = report(days, by, *span, lines=lines)
    few = report(days, by, *span, lines=lines, most=most)
    groups = [row for row in whole.rows if row.kind == "group"]
    kinds = ["group"] * min(most, len(groups)) + ["rest"] * (len(groups) > most)
    nobodys = [row for row in whole.rows if row.kind != "group"]
    assert kinds == [row.kind for row in few.rows][: len(kinds)]
    assert groups[:most] == few.rows[: min(most, len(groups))]
    assert nobodys == few.rows[len(kinds) :]
    assert (whole.total_uj, whole.workload_uj) == (few.total_uj, few.workload_uj)
    for one in fields(ReportRow)[2:-1]:
        had, has = (
            [
                Counter(x if isinstance(x := getattr(row, one.name), dict) else {0: x})
                for row in rows
            ]
            for rows in (whole.rows, few.rows)
        )
        assert sum(had, Counter()) == sum(has, Counter())
    assert job_energies(whole) == job_energies(few)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(by=st.sampled_from([*DIMENSIONS, "label:team", "label:x"]), lines=LINES, span=SPANS)
def test_rows_add_up_to_the_balance_however_time_is_cut(
    days: Ledger, by: str, lines: list[int], span: tuple[int, int]
) -> None:
    """All rows to what was counted, workloads to theirs; each cell between two lines to its own."""
    found = report(days, by, *span, lines=lines)
    answer = balance(days, *span)
    assert answer.balanced
    assert answer.total_uj == found.total_uj == sum(row.energy_uj for row in found.rows)
    assert sum(meter.workload_uj for meter in answer.meters) == found.workload_uj
    posted: Counter[int] = Counter()
    inside = sorted({span[0], *(line for line in lines if span[0] < line < span[1])})
    with days.reading() as connection:
        posting = schema.posting.c
        for slot, uj in connection.execute(sa.select(posting.slot, posting.uj)):
            if span[0] <= slot < span[1]:
                posted[bisect_right(inside, slot)] += uj
    told: Counter[int] = Counter()
    for row in found.rows:
        assert row.energy_uj == sum(row.timed_uj.values()) == sum(row.by_grade_uj.values())
        assert row.energy_uj == sum(row.by_source_uj.values()) == sum(row.by_split_uj.values())
        for at_ms, uj in row.timed_uj.items():
            told[max(1, bisect_right(inside, at_ms))] += uj
    assert posted == told


def test_labels_are_groups(days: Ledger) -> None:
    """Those that the scheduler told; all other jobs are one group without a name."""
    found = [row.key for row in report(days, "label:team").rows if row.kind == "group"]
    assert ["", "blue", "red"] == sorted(found)


@given(LINES, SPANS)
def test_a_grain_is_no_finer_than_it_must_be(lines: list[int], span: tuple[int, int]) -> None:
    """No cell lies on both sides of a line; a day without a line is told as a day."""
    found = grain(lines, *span)
    inside = {line for line in lines if span[0] < line < span[1]}
    if found is None:
        assert not inside
        return
    assert all(line % found.step_ms == 0 for line in inside)
    for line in inside:
        day = floor(line, DAY_MS)
        cut = any(begin <= day < end for begin, end in found.fine)
        assert cut == any(day < other < day + DAY_MS for other in inside)


def test_nodes_that_clusters_call_alike(ledger: Ledger) -> None:
    """Are two rows, by their clusters; of one cluster, and of another name, as they are called."""
    intake = Intake(ledger)
    for cluster, node in (("west", "n1"), ("east", "n1"), ("east", "n2")):
        journal = Journal(f"journal-{cluster}-{node}", node, cluster=cluster)
        gpu = Meter(journal, 1, f"gpu/GPU-{cluster}-{node}")
        gpu.point()
        gpu.window((1, 100), ms=SLOT)
        journal.deliver(intake, T0 + 4 * SLOT)
    intake.commit_sync()
    found = report(ledger, "node")
    assert [("east/n1", 100), ("n2", 100), ("west/n1", 100)] == [
        (row.key, row.energy_uj) for row in found.rows
    ]
    assert ["n1", "n2"] == [
        row.key for row in report(ledger, "node", only={"cluster": "east"}).rows
    ]
    racks = report(ledger, "group:rack", groups={"n1": "r1", "n2": "r2"})
    assert [("r1", 200), ("r2", 100)] == [(row.key, row.energy_uj) for row in racks.rows]


def test_a_sweep_is_one_line(ledger: Ledger) -> None:
    """What a search used is the sum of its jobs, told with the least, the most and their states."""
    fill(ledger)
    runs = [
        WorkloadInfo("west", "simulated", "7", "7_1", state="COMPLETED", start_ms=T0),
        WorkloadInfo("west", "simulated", "8", "7_2", state="FAILED", start_ms=T0),
    ]
    record_knowledge(ledger, "simulated", Knowledge(runs))
    (row,) = (
        one for one in report(ledger, "name", only={"cluster": "west"}).rows if one.key == "sweep"
    )
    assert 2 == row.jobs
    assert row.energy_uj == sum(job.uj for job in row.by_job)
    assert ["COMPLETED", "FAILED"] == [job.state for job in row.by_job]
    found = report(ledger, "array", only={"cluster": "west"})
    assert ("7", row.energy_uj) == (found.rows[0].key, found.rows[0].energy_uj)
    assert ("west", "7_2") == found.names[row.by_job[-1].id]
    keys = [one.key for one in report(ledger, "array").rows if one.kind == "group"]
    assert {"west/7", "east/7", ""} == set(keys)


def test_a_part_of_the_fleet(ledger: Ledger) -> None:
    """Clusters add up to the fleet with what is nobody's; accounts and users to what jobs used."""
    fill(ledger)
    whole = report(ledger, "user", T0, T0 + DAY_MS)
    clusters = [
        report(ledger, "user", T0, T0 + DAY_MS, only={"cluster": name}) for name in ("west", "east")
    ]
    assert whole.total_uj == sum(part.total_uj for part in clusters)
    for name, values in (("user", ("ada", "bob")), ("account", ("lab", "ops"))):
        parts = [report(ledger, "name", T0, T0 + DAY_MS, only={name: one}) for one in values]
        assert whole.workload_uj == sum(part.total_uj for part in parts)
        assert {"group"} == {row.kind for part in parts for row in part.rows}
    assert not report(ledger, "name", only={"user": "nobody", "cluster": "west"}).rows


def test_jobs_and_their_groups_are_told_alike_over_time(ledger: Ledger) -> None:
    """In the same cells, on both databases: a group's energy in each is that of its jobs."""
    fill(ledger)
    lines = [T0 + DAY_MS // 2, T0 + DAY_MS // 2 + SLOT, T0 + 2 * DAY_MS]
    span = (T0, T0 + SLOTS * SLOT)
    of_jobs: Counter[int] = Counter()
    for number in range(1, 7):
        own = job_span(ledger, number)
        assert own is not None
        for at_ms, uj in job_energy(ledger, number, own, lines).items():
            of_jobs[bisect_right(lines, at_ms)] += uj
    of_groups: Counter[int] = Counter()
    for by in ("account", "node"):
        of_groups.clear()
        for row in report(ledger, by, *span, lines=lines, only={"partition": "gpu"}).rows:
            for at_ms, uj in row.timed_uj.items():
                of_groups[bisect_right(lines, at_ms)] += uj
        rest = report(ledger, by, *span, lines=lines, only={"account": "ops"})
        for row in rest.rows:
            for at_ms, uj in row.timed_uj.items():
                of_groups[bisect_right(lines, at_ms)] += uj
        assert 4 == len(of_groups)
        assert of_jobs == of_groups
    assert job_span(ledger, 99) is None
    assert [("cpu", "", 1), ("gpu", "", 1)] == [
        (one.component, one.model, one.count) for one in job_hardware(ledger, 1)
    ]


@pytest.mark.parametrize(
    ("method", "split", "expected"),
    [(0, 0, "A"), (0, 2, "B"), (0, 3, "B"), (0, 1, "C"), (1, 0, "C"), (1, 3, "C"), (1, 1, "D"),
     (2, 0, "D"), (2, 1, "D")],
)  # fmt: skip
def test_classes_of_accuracy(method: int, split: int, expected: str) -> None:
    """Each pair of source and split has one."""
    assert expected == grade(method, split)


def test_a_class_is_what_nearly_all_energy_is_of() -> None:
    """95 % or more of it is of the class, or of a better one."""
    assert "A" == grade_of({"A": 95, "D": 5})
    assert "B" == grade_of({"A": 94, "B": 1, "D": 5})
    assert "D" == grade_of({"A": 94, "D": 6})
    assert grade_of({}) is None
    assert grade_of({"A": 0}) is None
