"""In whatever order windows, answers, commits, crashes and settlements come: the same books."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.books import SLOT, T0, WINDOW, Journal, Meter, holder
from tests.ledger.settling import answer, gpu, run, settle_all, settled
from tests.postgresql.fixtures import empty

from wattkeeper.ledger import schema
from wattkeeper.ledger.entitlement import Entitled, entitle
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.queries.balance import balance
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.model.holder import Account
from wattkeeper.model.window import Tombstone
from wattkeeper.schedulers.base import WorkloadInfo

BEGIN = T0 + SLOT - 12 * WINDOW
"""Where the world begins: a slot line lies in the middle of it."""
WINDOWS = 28
"""How long it lasts: all of it within the grace in which grants may still turn up."""
GPUS = 2
MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Crash(Exception):  # noqa: N818 - it is what happens, not what is reported
    """The machine stops before a transaction is committed."""


class Fragile(Ledger):
    """A ledger whose next transaction can be made to crash at its end."""

    crashes = False

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Write as a ledger does, or crash before the commit."""
        with super().writing() as connection:
            yield connection
            if self.crashes:
                self.crashes = False
                raise Crash


_OPENED = Ledger.open("sqlite://")
LEDGER = Fragile(_OPENED.engine, _OPENED.slot_ms)
"""In memory, emptied before each example: opening one compiles every statement anew."""


@dataclass(frozen=True)
class Job:
    """A job of the world: on which GPUs, from when to when; when its end gets known."""

    number: int
    gpus: tuple[int, ...]
    start_ms: int
    end_ms: int
    told_after: int


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Draw jobs that follow each other on each GPU."""
    found: list[Job] = []
    free = [BEGIN] * GPUS
    for number in range(1, draw(st.integers(0, 5)) + 1):
        gpus = draw(st.sampled_from([(0,), (1,), (0, 1)]))
        start = max(free[index] for index in gpus) + draw(st.integers(0, 6)) * 3_700
        end = start + draw(st.integers(1, 20)) * 6_300
        if end > BEGIN + (WINDOWS - 1) * WINDOW:
            break
        for index in gpus:
            free[index] = end
        found.append(Job(number, gpus, start, end, draw(st.integers(0, 3))))
    return found


KINDS = ["time", "more-time", "answer", "again", "settle", "deliver", "commit", "lost"]
KINDS += ["restart", "crash", "crash-commit", "round", "round", "round"]
BOOKING = {"answer", "again", "settle", "commit", "crash", "crash-commit", "round"}
"""After which other postings may be in the ledger."""
STEPS = st.lists(st.sampled_from(KINDS), min_size=10, max_size=50)
"""`round` is what the aggregator does in peace: take, commit, ask, settle."""


@dataclass
class World:
    """One node with idle and shared GPUs, its scheduler, and the centre."""

    jobs: Sequence[Job]
    ledger: Fragile = LEDGER
    now_ms: int = BEGIN
    journal: Journal = field(default_factory=lambda: Journal(holders={16: holder("99")}))
    meters: list[Meter] = field(default_factory=list)
    idle: list[tuple[int, int, int, int]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    polls: dict[int, int] = field(default_factory=dict)
    newest: tuple[int, list[WorkloadInfo]] = (BEGIN, [])

    def __post_init__(self) -> None:
        """Empty the ledger; the scheduler is known from the beginning."""
        empty(self.ledger)
        self.intake = Intake(self.ledger)
        self.meters = [gpu(self.journal, index, BEGIN) for index in range(GPUS)]
        for meter in self.meters:
            meter.point()
        self.ask()

    def time(self, windows: int, *, lost: bool = False) -> None:
        """Let time pass: every GPU writes its windows, or what stands for a lost one."""
        for _ in range(windows):
            if self.now_ms >= BEGIN + WINDOWS * WINDOW:
                return
            for index, meter in enumerate(self.meters):
                uj = 700_001 + (meter.at_ms // WINDOW * 37 + index * 11) % 1_000
                if lost and not index:
                    window = meter.next_window((1, uj))
                    self.journal.write(Tombstone(meter.number, "lost"))
                    meter.at_ms, meter.uj = window.end_ms, window.last_uj
                    if meter.at_ms % SLOT == 0:
                        meter.point()
                    continue
                self.idle.append((index, meter.at_ms, meter.at_ms + WINDOW, uj))
                meter.window((1, uj), *([(16, 5_003)] if index else []))
            self.now_ms += WINDOW

    def ask(self) -> None:
        """Let the scheduler answer: what runs, and the ends that are told by now."""
        # Polls do not lie on the lines of windows.
        at_ms = self.now_ms + 3_300
        infos = []
        for job in self.jobs:
            if job.start_ms <= at_ms < job.end_ms:
                self.seen.add(job.number)
                infos.append(run(job.number, job.start_ms, *job.gpus))
            elif at_ms >= job.end_ms:
                polls = self.polls[job.number] = self.polls.get(job.number, 0) + 1
                if polls > job.told_after:
                    infos.append(run(job.number, job.start_ms, end_ms=job.end_ms))
        self.newest = (at_ms, infos)
        answer(self.ledger, self.intake, at_ms, *infos)

    def step(self, kind: str) -> None:
        """Do one of the things that may happen at any time."""
        if kind in ("time", "more-time", "lost"):
            self.time(3 if kind == "more-time" else 1, lost=kind == "lost")
        if kind in ("deliver", "round"):
            self.journal.deliver(self.intake, self.now_ms)
        if kind in ("commit", "round"):
            self.intake.commit_sync()
        if kind == "restart":
            self.intake = Intake(self.ledger)
        if kind in ("answer", "round"):
            self.ask()
        if kind == "again":
            answer(self.ledger, self.intake, self.newest[0], *self.newest[1])
        if kind in ("settle", "round"):
            settle(self.ledger, self.now_ms)
        if kind.startswith("crash"):
            self.crash(kind)

    def crash(self, kind: str) -> None:
        """Break off a settlement or a commit; then the aggregator starts anew."""
        self.ledger.crashes = True
        try:
            if kind == "crash":
                settle(self.ledger, self.now_ms)
            else:
                self.intake.commit_sync()
        except (Crash, LedgerError):
            pass
        self.intake = Intake(self.ledger)

    def end(self) -> None:
        """Let everything arrive."""
        self.time(WINDOWS)
        for _ in range(5):
            self.ask()
        self.journal.deliver(self.intake, self.now_ms)
        self.intake.commit_sync()
        settle_all(self.ledger, self.now_ms)

    def expected(self) -> dict[str, tuple[int, int]]:
        """Return what full knowledge of all jobs that the scheduler named gives each of them."""
        found: dict[str, tuple[int, int]] = {}
        for index, from_ms, to_ms, uj in self.idle:
            grants = [
                Entitled(job.number, job.start_ms, job.end_ms)
                for job in self.jobs
                if index in job.gpus and job.number in self.seen
            ]
            for number, (part_uj, part_ms) in entitle(from_ms, to_ms, uj, grants).items():
                for name, sign in ((str(number), 1), ("idle", -1)):
                    known = found.get(name, (0, 0))
                    found[name] = (known[0] + sign * part_uj, known[1] + sign * part_ms)
        return found


@pytest.mark.long
@MANY
@given(jobs(), STEPS)
def test_the_same_books_whatever_the_order(jobs: list[Job], steps: list[str]) -> None:
    """Each job gets what full knowledge gives it; at every moment the books balance."""
    world = World(jobs)
    for kind in steps:
        world.step(kind)
        if kind in BOOKING:
            check_lives(world)
        if kind == "settle":
            check(world)
    world.end()
    check(world)
    expected = world.expected()
    found = {name: sums for name, sums in settled(world.ledger).items() if sums != (0, 0)}
    assert found == expected
    again = settled(world.ledger)
    world.ask()
    settle_all(world.ledger, world.now_ms)
    assert settled(world.ledger) == again


def check(world: World) -> None:
    """Assert that the accounts sum to the meters, and that idle is nowhere below nothing."""
    answered = balance(world.ledger)
    assert answered.residual_uj == 0
    assert all("was refused: lost" in why for why in answered.problems)
    table = schema.posting.c
    of_idle = (
        sa.select(sa.func.sum(table.uj).label("uj"), sa.func.sum(table.ms).label("ms"))
        .where(table.holder == Account.IDLE)
        .group_by(table.slot, table.meter)
    )
    with world.ledger.reading() as connection:
        for row in connection.execute(of_idle):
            assert row.uj >= 0
            assert row.ms >= 0


def check_lives(world: World) -> None:
    """Assert that no job has been given time beyond its life, as far as anybody told."""
    lives = {str(job.number): (job.end_ms - job.start_ms) * len(job.gpus) for job in world.jobs}
    for name, (uj, ms) in settled(world.ledger).items():
        assert name == "idle" or (uj >= 0 and 0 <= ms <= lives[name])
