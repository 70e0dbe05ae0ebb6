"""Which run a holder belongs to, rule by rule, and what a scheduler's answer changes."""

from collections.abc import Callable, Mapping

import pytest
import sqlalchemy as sa
from tests.ledger.books import T0, Journal, Meter

from wattkeeper.ledger import schema
from wattkeeper.ledger.erasing import MARK
from wattkeeper.ledger.identities import forget
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.labels import MAX_LABELS, bounded
from wattkeeper.ledger.queries.job import JobFilter, job, jobs
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import ENDED, record_knowledge
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import HolderInfo
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

S1, S2 = "s1G5M83WF2QA00", "s1G5M83WF2QA01"
SECOND, MINUTE = 1_000, 60_000
Hold = tuple[str, str, Mapping[str, str], int, int]
"""Node, raw id, labels, birth and windows of 10 s, each of 1,000 µJ."""


@pytest.fixture
def see(intake: Intake) -> Callable[..., None]:
    """Deliver holders, each node's one after the other; the same node goes on where it was."""
    nodes: dict[str, tuple[Journal, Meter]] = {}

    def go(*holds: Hold, manager: str = "slurm") -> None:
        for node, raw_id, labels, birth_ms, windows in holds:
            if node not in nodes:
                journal = Journal(name=f"journal-{node}", node=node)
                nodes[node] = journal, Meter(journal, name=f"gpu/GPU-{node}")
            journal, meter = nodes[node]
            if birth_ms > meter.at_ms:
                meter.window((1, 1), ms=birth_ms - meter.at_ms)
            number = 16 + len(journal.holders)
            journal.holders[number] = HolderInfo(manager, raw_id, birth_ms, dict(labels))
            meter.run(windows, (number, 1_000))
            journal.deliver(intake, T0 + 40 * 86_400_000)
        intake.commit_sync()

    return go


def told(start_ms: int | None, end_ms: int | None = None, **more: object) -> WorkloadInfo:
    """Return what Slurm says of a run of job 7."""
    known: dict[str, object] = {"state": "RUNNING" if end_ms is None else "COMPLETED", **more}
    return WorkloadInfo("c", "slurm", "7", "7", start_ms=start_ms, end_ms=end_ms, **known)  # type: ignore[arg-type]


def runs(ledger: Ledger) -> list[tuple[int | None, int, str]]:
    """Return start, energy and state of every run of job 7, in order."""
    found = sorted(jobs(ledger, JobFilter()), key=lambda one: one.run)
    return [(one.start_ms and one.start_ms - T0, one.energy_uj, one.state) for one in found]


def test_a_requeue_at_once_that_was_thought_to_be_one_run(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """Holders merged by lives that touch are two runs as soon as the scheduler says so."""
    see(("n1", "7", {}, T0, 6), ("n1", "7", {}, T0 + MINUTE, 6))
    assert runs(ledger) == [(0, 12_000, "RUNNING")]
    first = told(T0, T0 + MINUTE, account="lab")
    record_knowledge(ledger, "slurm", Knowledge([first, told(T0 + MINUTE, account="lab")]))
    assert runs(ledger) == [(0, 6_000, "COMPLETED"), (MINUTE, 6_000, "RUNNING")]
    record_knowledge(ledger, "slurm", Knowledge([told(T0 + MINUTE, T0 + 2 * MINUTE)]))
    assert runs(ledger) == [(0, 6_000, "COMPLETED"), (MINUTE, 6_000, "COMPLETED")]


def test_the_run_that_nobody_saw_ending_ended_when_the_next_began(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """A requeue between two polls: the former run is over, its holder stays its own."""
    record_knowledge(ledger, "slurm", Knowledge([told(T0)]))
    see(("n1", "7", {}, T0 + 300, 3), ("n1", "7", {}, T0 + 35 * SECOND, 3))
    assert runs(ledger) == [(0, 6_000, "RUNNING")]
    record_knowledge(ledger, "slurm", Knowledge([told(T0 + 34 * SECOND)]))
    assert runs(ledger) == [(0, 3_000, ENDED), (34 * SECOND, 3_000, "RUNNING")]
    record_knowledge(ledger, "slurm", Knowledge([told(T0, T0 + 32 * SECOND, state="")]))
    assert runs(ledger)[0] == (0, 3_000, ENDED)
    record_knowledge(ledger, "slurm", Knowledge([told(T0, T0 + 33 * SECOND, state="REQUEUED")]))
    assert runs(ledger)[0] == (0, 3_000, "REQUEUED")


def test_a_sluid_is_one_run_whatever_the_times_say(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """A node with a wrong clock, named by SLUID, still finds its run; another SLUID does not."""
    wrong = T0 + 20 * MINUTE
    see(("n1", S1, {"sluid": S1}, T0, 6), ("n2", S1, {"sluid": S1}, wrong, 6))
    see(("n3", S2, {"sluid": S2}, T0 + MINUTE, 6))
    info = told(T0, T0 + MINUTE, other_id=S1, run=S1)
    record_knowledge(ledger, "slurm", Knowledge([info]))
    found = job(ledger, "c", "7")
    assert found is not None
    assert (found.energy_uj, found.nodes, found.runs) == (12_000, ["n1", "n2"], 1)
    record_knowledge(ledger, "slurm", Knowledge([told(T0 + MINUTE, other_id=S2, run=S2)]))
    assert [energy for _, energy, _ in runs(ledger)] == [12_000, 6_000]


@pytest.mark.parametrize("claimed", ["8", S1])
def test_no_node_makes_one_job_of_two(
    ledger: Ledger, see: Callable[..., None], claimed: str
) -> None:
    """Whoever delivers for one node leaves jobs of others alone, whatever ids it says are one."""
    see(("n1", "7", {"user": "ann"}, T0, 6), ("n2", "8", {"user": "bob"}, T0, 6))
    labels = {"sluid": claimed, "user": "eve"}
    see(("n3", "7", labels, T0, 6), ("n3", "8", labels, T0 + MINUTE, 6))
    found = {one.job_id: (one.user, one.energy_uj) for one in jobs(ledger, JobFilter())}
    assert found == {"7": ("ann", 12_000), "8": ("bob", 12_000)}


def test_restart_counts_and_starts_on_the_node_tell_runs_apart_alone(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """Without any scheduler, what the prolog was told is enough."""
    see(
        ("n1", "7", {"restart_count": "0"}, T0, 3),
        ("n1", "7", {"restart_count": "1"}, T0 + 30 * SECOND, 3),
        ("n2", "7", {"start_time": str(T0 // 1000)}, T0, 3),
        ("n2", "7", {"start_time": str(T0 // 1000 + 30)}, T0 + 30 * SECOND, 3),
    )
    assert [energy for _, energy, _ in runs(ledger)] == [6_000, 6_000]


def test_a_number_given_again_before_the_scheduler_says_so(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """A holder far from every known life is a run of its own, and then the scheduler's."""
    later = T0 + 30 * 86_400_000
    see(("n1", "7", {}, T0, 6))
    record_knowledge(ledger, "slurm", Knowledge([told(T0, T0 + MINUTE, account="lab")]))
    see(("n1", "7", {}, later, 6))
    assert runs(ledger) == [(0, 6_000, "COMPLETED"), (later - T0, 6_000, "RUNNING")]
    record_knowledge(ledger, "slurm", Knowledge([told(later, account="ops")]))
    rows = {row.key: row.energy_uj for row in report(ledger, "account").rows if row.key}
    assert rows == {"lab": 6_000, "ops": 6_000}


def test_a_start_that_moved_is_the_same_run(ledger: Ledger, see: Callable[..., None]) -> None:
    """Slurm moves the start to when powered-up nodes were ready; the restart count is the same."""
    record_knowledge(ledger, "slurm", Knowledge([told(T0, run="0")]))
    see(("n1", "7", {}, T0 + 5 * MINUTE, 6))
    record_knowledge(ledger, "slurm", Knowledge([told(T0 + 5 * MINUTE, run="0")]))
    assert runs(ledger) == [(5 * MINUTE, 6_000, "RUNNING")]


def test_a_static_pod_is_named_by_two_uids(ledger: Ledger, see: Callable[..., None]) -> None:
    """The node knows the hash of its file, the API server the UID of its image."""
    uid, mirror = "0" * 16 + "ab" * 8, "11111111-2222-3333-4444-555555555555"
    see(("n1", uid, {}, T0, 6), manager="kubernetes")
    info = WorkloadInfo(
        "c", "kubernetes", uid, "proxy-n1", other_id=mirror, run=uid, start_ms=T0 - 86_400_000
    )
    record_knowledge(ledger, "kubernetes", Knowledge([info]))
    found = job(ledger, "c", "proxy-n1")
    assert found is not None
    assert (found.energy_uj, found.runs) == (6_000, 1)


def test_array_tasks_are_named_by_marks_alone(ledger: Ledger, see: Callable[..., None]) -> None:
    """Before the scheduler speaks, a task is known as people call it."""
    see(("n1", "34", {"array_job_id": "20", "array_task_id": "3", "job_id": "34"}, T0, 3))
    found = job(ledger, "c", "20_3")
    assert found is not None
    assert (found.array, found.raw_id) == ("20", "34")


def test_an_end_without_a_word_is_an_end(ledger: Ledger) -> None:
    """A scheduler that lost a run knows when it saw it last, not what became of it."""
    record_knowledge(ledger, "slurm", Knowledge([told(T0)]))
    record_knowledge(ledger, "slurm", Knowledge([told(T0, T0 + MINUTE, state="")]))
    (gone,) = jobs(ledger, JobFilter())
    assert (gone.state, gone.end_ms) == (ENDED, T0 + MINUTE)


def test_a_run_that_is_no_longer_named_is_over(ledger: Ledger) -> None:
    """Where an answer names all that runs, what is missing has ended; it may come back."""
    record_knowledge(ledger, "slurm", Knowledge([told(T0)], granted_ms=T0 + SECOND))
    record_knowledge(ledger, "slurm", Knowledge([], granted_ms=T0 + MINUTE))
    (gone,) = jobs(ledger, JobFilter())
    assert (gone.state, gone.end_ms) == (ENDED, T0 + MINUTE)
    record_knowledge(ledger, "slurm", Knowledge([told(T0)], granted_ms=T0 + 2 * MINUTE))
    (back,) = jobs(ledger, JobFilter())
    assert (back.state, back.end_ms) == ("RUNNING", None)
    record_knowledge(ledger, "slurm", Knowledge([]))
    assert jobs(ledger, JobFilter()) == [back]


def test_an_answer_that_says_the_same_writes_nothing(
    ledger: Ledger, see: Callable[..., None]
) -> None:
    """Thousands of jobs are told again every half minute."""
    see(("n1", "7", {}, T0, 6))
    known = Knowledge([told(T0, labels={"qos": "high"}, account="lab")])
    record_knowledge(ledger, "slurm", known)
    statements: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement.split(maxsplit=1)[0])

    sa.event.listen(ledger.engine, "before_cursor_execute", note)
    record_knowledge(ledger, "slurm", known)
    sa.event.remove(ledger.engine, "before_cursor_execute", note)
    assert set(statements) <= {"BEGIN", "SELECT", "SET"}


def test_labels_are_dimensions_of_reports(ledger: Ledger, see: Callable[..., None]) -> None:
    """QOS and every label; what has none stands in a row without a key."""
    see(("n1", "7", {}, T0, 6), ("n2", "8", {}, T0, 3))
    record_knowledge(ledger, "slurm", Knowledge([told(T0, labels={"qos": "high", "team": "x"})]))
    for by, expected in (
        ("qos", [("high", 6_000, 1), ("", 3_000, 1)]),
        ("label:team", [("x", 6_000, 1), ("", 3_000, 1)]),
        ("label:none", [("", 9_000, 2)]),
    ):
        rows = report(ledger, by).rows
        assert [(row.key, row.energy_uj, row.jobs) for row in rows] == expected
    record_knowledge(ledger, "slurm", Knowledge([told(T0, labels={"qos": "low"})]))
    assert report(ledger, "qos").rows[0].key == "low"


def test_labels_are_bounded() -> None:
    """Users write them: few, short, and nothing that a terminal would obey."""
    labels = {f"k{number:03}": "v" for number in range(100)}
    assert list(bounded(labels)) == list(labels)[:MAX_LABELS]
    hostile = {"a": "x\x1b[31m\n\0" + "y" * 10_000, "b" * 65: "z", "c\n": "z", "d": ""}
    kept = bounded(hostile)
    assert set(kept) == {"a"}
    assert (len(kept["a"]), kept["a"].isprintable()) == (256, True)


def test_erased_names_stay_away(ledger: Ledger, see: Callable[..., None]) -> None:
    """The scheduler goes on to tell them, and even that it was two runs; figures stay."""
    see(("n1", "7", {}, T0, 6), ("n1", "7", {}, T0 + MINUTE, 6))
    labels = {"qos": "high", "comment": "call me", "owner": "Team of Ada"}
    one = told(T0, user="ada", name="secret", labels=labels)
    record_knowledge(ledger, "slurm", Knowledge([one]))
    assert forget(ledger, "ada", T0 + DAY_MS).runs == 1
    ended = told(T0, T0 + MINUTE, user="ada", name="secret", labels=labels)
    again = told(T0 + MINUTE, user="ada", name="secret", labels=labels)
    record_knowledge(ledger, "slurm", Knowledge([ended, again]))
    with ledger.reading() as connection:
        names = connection.execute(sa.select(schema.identity.c.user, schema.identity.c.name)).all()
        kept = connection.execute(sa.select(schema.label.c.key, schema.label.c.value)).all()
    ((called, name),) = set(names)
    assert (called.startswith(MARK), name) == (True, "")
    assert {tuple(row) for row in kept} == {("qos", "high"), ("owner", f"Team of {called}")}
    assert [energy for _, energy, _ in runs(ledger)] == [6_000, 6_000]
