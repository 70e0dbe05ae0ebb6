"""One look at everything that `/metrics` shows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from wattkeeper.aggregator import answers
from wattkeeper.aggregator.budget_metrics import NO_BUDGETS, BudgetFigures
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.history_metrics import HistoryFigures
from wattkeeper.aggregator.polls import Poll, Polls
from wattkeeper.aggregator.recording import Recording
from wattkeeper.aggregator.shown_jobs import JobFigures, ShownJobs
from wattkeeper.ledger.exported import AccountTotal, account_totals
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.queries.balance import Balance, balance
from wattkeeper.ledger.store import LeaseLostError, Ledger
from wattkeeper.model.grid import floor
from wattkeeper.tls.server import ServerCertificates

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that `/metrics` shows, at one instant.

    Where this aggregator does not lead, it says nothing of what one says for all. `since_ms`: when
    it began, or began to lead: what has not happened yet has been due since then.
    """

    jobs: Sequence[JobFigures]
    jobs_omitted: int
    accounts: Sequence[AccountTotal]
    idle_gpus: Mapping[str, int]
    nodes: Sequence[answers.Node]
    residual_uj: int
    problems: int
    coverage: float | None
    polls: Sequence[Poll]
    intake: Counter[str]
    intake_refused: Counter[str]
    committed_ms: int | None
    moved: int = 0
    leads: bool = True
    history: HistoryFigures | None = None
    budgets: BudgetFigures = NO_BUDGETS
    since_ms: int | None = None
    connections_refused: Counter[str] = field(default_factory=Counter)
    certificate_end_s: float | None = None


@dataclass(slots=True)
class DeliveryCounts:
    """What the intake counted since the start. `cut`: connections that were not served."""

    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    committed_ms: int | None = None
    moved: int = 0


class Looker:
    """Takes snapshots. What is costly on a large fleet is looked up less often.

    `checker` runs the balance, the costliest part, which nothing but the first look waits for.
    `budgets` says how these stood last.
    """

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        jobs: ShownJobs,
        counts: DeliveryCounts,
        polls: Polls,
        lease: Lease,
        recording: Recording | None,
        certificates: ServerCertificates | None,
        *,
        checker: Executor,
        budgets: Callable[[], BudgetFigures],
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._jobs = jobs
        self._counts = counts
        self._polls = polls
        self._lease = lease
        self._term: int | None = None
        self._recording = recording
        self._certificates = certificates
        self._budgets = budgets
        self._now_ms = now_ms
        self._since_ms = now_ms()
        self._balance = Cached(self._check, 60, pool=checker, patience_s=1)
        self._accounts = Cached(lambda: account_totals(ledger), 0)

    @property
    def parts(self) -> tuple[Cached[Any], ...]:
        """What a new snapshot wants anew; the balance is of whole hours and waits its time."""
        return self._jobs.choice, self._accounts

    def look(self) -> Snapshot:
        """Return what there is to show now. Blocks."""
        term = self._lease.token
        if term is None:
            return self._follow()
        if term != self._term:
            # Another one may have exported since: its marks count.
            self._term = term
            self._since_ms = self._now_ms()
            self._jobs.forget()
        try:
            return self._lead()
        except LeaseLostError:
            return self._follow()

    def _lead(self) -> Snapshot:
        shown, omitted = self._jobs.look()
        books = self._balance.get()
        return replace(
            self._follow(),
            jobs=shown,
            jobs_omitted=omitted,
            accounts=self._accounts.get(),
            nodes=self._fleet.nodes(),
            residual_uj=books.residual_uj,
            problems=len(books.problems),
            coverage=books.coverage,
            polls=self._polls.now(),
            leads=True,
            budgets=self._budgets(),
        )

    def _follow(self) -> Snapshot:
        recording, shown = self._recording, self._certificates
        return Snapshot(
            jobs=(),
            jobs_omitted=0,
            accounts=(),
            idle_gpus=self._fleet.allocated_idle_gpus(),
            nodes=(),
            residual_uj=0,
            problems=0,
            coverage=None,
            polls=(),
            intake=Counter(self._counts.taken),
            intake_refused=Counter(self._counts.refused),
            connections_refused=Counter(self._counts.cut),
            certificate_end_s=None if shown is None else shown.validity.end.timestamp(),
            committed_ms=self._counts.committed_ms,
            moved=self._counts.moved,
            leads=False,
            since_ms=self._since_ms,
            history=None if recording is None else HistoryFigures.of(recording),
        )

    def scraped(self, snapshot: Snapshot) -> None:
        """Note that somebody was shown it."""
        self._jobs.scraped(snapshot.jobs)

    def _check(self) -> Balance:
        until_ms = floor(self._now_ms(), self._ledger.slot_ms) + self._ledger.slot_ms
        return balance(self._ledger, until_ms - _HOUR_MS - self._ledger.slot_ms, until_ms)
