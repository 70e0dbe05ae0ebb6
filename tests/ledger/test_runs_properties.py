"""In whatever order nodes and schedulers speak, each holder's energy is found under its own run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.books import T0, WINDOW, Journal, Meter
from tests.postgresql.fixtures import empty

from wattkeeper.ledger import schema
from wattkeeper.ledger.erasing import MARK
from wattkeeper.ledger.identities import forget
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.job import job
from wattkeeper.ledger.queries.report import report
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.window import Share, Window
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

SECOND = 1_000
LEDGER = Ledger.open("sqlite://")
ID = "7"


@dataclass(frozen=True)
class TrueRun:
    """A run as it truly was: its SLUID, restarts, life and nodes."""

    sluid: str
    restarts: int
    start_ms: int
    end_ms: int
    nodes: tuple[int, ...]

    def info(self, at_ms: int, told: "Told") -> WorkloadInfo:
        """Return what the scheduler says of it at an instant."""
        over = self.end_ms <= at_ms
        counted = str(self.restarts) if told.counts else ""
        return WorkloadInfo(
            "c", "slurm", ID, ID,
            other_id=self.sluid if told.sluids else "",
            run=self.sluid if told.sluids else counted,
            account="lab", user="ada", state="COMPLETED" if over else "RUNNING",
            start_ms=self.start_ms, end_ms=self.end_ms if over else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What this Slurm tells: its nodes name holders by number, or by SLUID, marks know both."""

    sluids: bool
    counts: bool
    raw: str
    labels: frozenset[str]


@dataclass
class Node:
    """A node that books what its holders used, `uj` by run."""

    journal: Journal
    meter: Meter
    uj: dict[int, int] = field(default_factory=dict)
    sent: int = 0

    @classmethod
    def of(
        cls, number: int, runs: Sequence[TrueRun], told: Told, skew: int, prologs: Sequence[int]
    ) -> "Node":
        """Return a node that saw its part of the runs, by its own clock."""
        journal = Journal(name=f"journal-{number}", node=f"n{number}")
        node = cls(journal, Meter(journal, name=f"gpu/GPU-{number}"))
        lives: list[tuple[int, int, int]] = []
        for index, run in enumerate(runs):
            if number in run.nodes:
                birth = run.start_ms + prologs[index] + skew
                journal.holders[16 + len(lives)] = holder(run, told, birth)
                lives.append((index, birth, run.end_ms + skew))
        node.write(lives)
        return node

    def write(self, lives: Sequence[tuple[int, int, int]]) -> None:
        """Write windows up to the end of the last run; `lives`: run, birth, end on its clock."""
        meter = self.meter
        for _, begin, end in lives:
            if begin - meter.at_ms > 600_000:
                meter.window((1, 5), ms=begin - meter.at_ms - 50_000)
            while meter.at_ms < end:
                self._book(self._share(meter.next_window((1, 0)), lives))
        meter.run(2, (1, 7))

    def _share(self, window: Window, lives: Sequence[tuple[int, int, int]]) -> Window:
        shares = []
        for number, (run, birth, death) in enumerate(lives, 16):
            begin, end = max(birth, window.start_ms), min(death, window.end_ms)
            if begin < end:
                uj = 10_000 * (run + 1) + end - begin
                shares.append(Share(number, uj, begin - window.start_ms, end - window.start_ms))
                self.uj[run] = self.uj.get(run, 0) + uj
        idle = WINDOW - sum(share.to_ms - share.from_ms for share in shares)
        shares.append(Share(1, 3, 0, max(0, idle)))
        last = window.first_uj + sum(share.uj for share in shares)
        return msgspec.structs.replace(window, shares=tuple(shares), last_uj=last)

    def _book(self, window: Window) -> None:
        self.journal.write(window)
        self.meter.at_ms, self.meter.uj = window.end_ms, window.last_uj

    def send(self, intake: Intake, records: int, now_ms: int) -> None:
        """Deliver some records more."""
        upto = min(len(self.journal.records), self.sent + records)
        intake.accept(self.journal.batch(self.sent + 1, upto, now_ms), now_ms)
        self.sent = upto


RUNS = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 1, 3, 50, 2_592_000)),  # seconds since the one before
        st.integers(12, 60),  # seconds it ran
        st.sets(st.integers(0, 2), min_size=1),  # nodes
    ),
    min_size=1,
    max_size=4,
)
TOLD = st.builds(
    Told,
    sluids=st.booleans(),
    counts=st.booleans(),
    raw=st.sampled_from(("number", "sluid")),
    labels=st.frozensets(st.sampled_from(("sluid", "job_id", "restart_count", "start_time"))),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 12)),
        st.tuples(st.just("ask"), st.integers(0, 30_000), st.just(0)),
        st.tuples(st.just("far"), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.just(0)),
        st.tuples(st.just("erase"), st.just(0), st.just(0)),
    ),
    max_size=25,
)


def truth(drawn: Sequence[tuple[int, int, set[int]]]) -> list[TrueRun]:
    """Lay the runs one after the other; a month later the number was given to another job."""
    runs: list[TrueRun] = []
    at_ms, restarts = T0 + 20 * SECOND, 0
    for number, (pause, lasts, nodes) in enumerate(drawn):
        restarts = 0 if pause > 3600 else restarts + 1
        start = at_ms + pause * SECOND
        at_ms = start + lasts * SECOND
        sluid = f"s1G5M83WF2QA0{number}"
        runs.append(TrueRun(sluid, restarts, start, at_ms, tuple(sorted(nodes))))
    return runs


def holder(run: TrueRun, told: Told, birth_ms: int) -> HolderInfo:
    """Return the holder that a node saw of a run."""
    everything = {
        "sluid": run.sluid,
        "job_id": ID,
        "restart_count": str(run.restarts),
        "start_time": str(run.start_ms // SECOND),
    }
    by_sluid = told.sluids and told.raw == "sluid"
    labels = {name: everything[name] for name in told.labels if told.sluids or name != "sluid"}
    if by_sluid:
        labels["sluid"] = run.sluid
    return HolderInfo("slurm", run.sluid if by_sluid else ID, birth_ms, labels)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    RUNS,
    TOLD,
    STEPS,
    st.lists(st.integers(-1_900, 1_900), min_size=3, max_size=3),
    st.lists(st.integers(0, 900), min_size=4, max_size=4),
    st.booleans(),
)
def test_every_holder_is_found_under_its_own_run(
    drawn: Sequence[tuple[int, int, set[int]]],
    told: Told,
    steps: Sequence[tuple[str, int, int]],
    skews: Sequence[int],
    prologs: Sequence[int],
    complete: bool,
) -> None:
    """Late windows, late names, requeues at once, a number given again: one run stays one."""
    runs = truth(drawn)
    nodes = [Node.of(number, runs, told, skew, prologs) for number, skew in enumerate(skews)]
    ledger = empty(LEDGER)
    intake = Intake(ledger)
    now_ms = runs[-1].end_ms + DAY_MS
    at_ms = T0
    erased: set[str] = set()

    def ask() -> None:
        known = [run for run in runs if run.start_ms <= at_ms]
        if at_ms % 2 == 0:
            known = [run for run in known if at_ms < run.end_ms]
        infos = [run.info(at_ms, told) for run in known]
        record_knowledge(ledger, "slurm", Knowledge(infos, at_ms if complete else None))

    for kind, a, b in steps:
        if kind == "send":
            nodes[a].send(intake, b, now_ms)
        elif kind == "commit":
            intake.commit_sync()
        elif kind == "erase":
            forget(ledger, "ada", at_ms + 1)
            erased |= {run.sluid for run in runs if run.start_ms <= at_ms}
        else:
            at_ms += 31 * DAY_MS if kind == "far" else a
            ask()
    for node in nodes:
        node.send(intake, len(node.journal.records), now_ms)
    intake.commit_sync()
    total = report(ledger, "user").total_uj
    at_ms = (now_ms // 2) * 2 + 1
    ask()
    assert report(ledger, "user").total_uj == total
    for number, run in enumerate(runs):
        found = job(ledger, "c", ID, run=number + 1)
        assert found is not None
        used = sum(node.uj.get(number, 0) for node in nodes)
        assert (found.runs, found.energy_uj) == (len(runs), used)
        assert (found.start_ms, found.end_ms) == (run.start_ms, run.end_ms)
        hidden = not found.user or found.user.startswith(MARK)
        assert hidden or (found.user == "ada" and run.sluid not in erased)
        assert erased or not hidden
        assert found.nodes == [f"n{node}" for node in run.nodes]
    with ledger.reading() as connection:
        identities = connection.scalar(sa.select(sa.func.count()).select_from(schema.identity))
    assert identities == len(runs)
