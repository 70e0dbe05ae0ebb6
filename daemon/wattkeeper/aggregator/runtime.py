"""The composition root of the centre: puts ledger, intake, schedulers and HTTP together."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from aiohttp import web

from wattkeeper.aggregator import audit_answers
from wattkeeper.aggregator.access.callers import Callers
from wattkeeper.aggregator.access.gate import Gate
from wattkeeper.aggregator.access.known_tokens import KnownTokens
from wattkeeper.aggregator.api import Api
from wattkeeper.aggregator.app import build
from wattkeeper.aggregator.audit_state import configured
from wattkeeper.aggregator.auditing import Auditing
from wattkeeper.aggregator.budgeting import Budgeting
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.closed import Closed
from wattkeeper.aggregator.committing import Committing
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.fetching import Fetching
from wattkeeper.aggregator.fleet import Fleet
from wattkeeper.aggregator.identities import Identities
from wattkeeper.aggregator.leading import Leading
from wattkeeper.aggregator.limiting import Limiting
from wattkeeper.aggregator.live import Live
from wattkeeper.aggregator.metrics import Exporter
from wattkeeper.aggregator.opening import (
    check_clock,
    join,
    open_certificates,
    open_factors,
    open_folder,
    open_history,
    open_ledger,
)
from wattkeeper.aggregator.polls import Polls
from wattkeeper.aggregator.pricing import Pricing
from wattkeeper.aggregator.recording import Recording
from wattkeeper.aggregator.serving import serve
from wattkeeper.aggregator.shown_jobs import ShownJobs
from wattkeeper.aggregator.snapshot import DeliveryCounts, Looker
from wattkeeper.aggregator.targets import Targets
from wattkeeper.aggregator.threads import Threads
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.aggregator.windows import Deliveries
from wattkeeper.budgets.budget import Budget
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.queries.shown import newest_workload
from wattkeeper.ledger.store import Ledger
from wattkeeper.listening import door
from wattkeeper.listening.keeper import Keeper
from wattkeeper.model.state import Finding, State
from wattkeeper.schedulers.base import Scheduler
from wattkeeper.tls.server import ServerCertificates
from wattkeeper.values import host_port, milliseconds

_FRESH_S = 5.0
"""Age up to which `/metrics` shows the same snapshot again."""
_PATIENCE_S = 3.0
"""How long a scrape waits for a new snapshot where there is an older one."""
_BOOKS_WAIT = "nothing is lost: agents keep what is not committed, and it is tried again"

_log = logging.getLogger(__name__)

T = TypeVar("T")


def wall_ms() -> int:
    """Return UTC milliseconds."""
    return time.time_ns() // 1_000_000


class Aggregator:
    """The centre: takes deliveries, keeps the books, answers.

    `schedulers` are asked for names, each at its own interval. `now_ms` is its clock, UTC
    milliseconds: a simulation gives its own.
    """

    def __init__(
        self,
        settings: AggregatorSettings,
        schedulers: Sequence[Scheduler] = (),
        *,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self.settings = settings
        self.port = host_port(settings.listen)[1]
        self._schedulers = tuple(schedulers)
        self.polls = Polls(scheduler.name for scheduler in self._schedulers)
        self._now_ms = now_ms
        self._counts = DeliveryCounts()
        self._targets = Targets(settings.data_dir / "targets.json")
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: int | None = None
        self._ledger: Ledger | None = None
        self._lease: Lease | None = None
        self._newest_run = 0
        self._intake: Intake | None = None
        self._pricing: Pricing | None = None
        self._api: Api | None = None
        self._recording: Recording | None = None
        self._runner: web.AppRunner | None = None
        self._keeper = Keeper(settings.limits.of_connections, self._counts.cut)
        self._certificates: ServerCertificates | None = None
        self._exporter: Exporter | None = None
        self._troubles = Troubles()
        self._tokens = KnownTokens(settings.access.tokens_file, self._troubles, now_ms)
        self.callers = Callers(
            settings.access, settings.listen, settings.token, self._tokens, now_ms
        )
        self._committing: Committing | None = None
        self._leading: Leading | None = None
        self._budgets: list[Budget] = []
        self._budgeting: Budgeting | None = None
        self._identities: Identities | None = None
        self._auditing: Auditing | None = None
        self._threads = Threads()

    @property
    def ledger(self) -> Ledger:
        """The open ledger."""
        return _started(self._ledger)

    @property
    def lease(self) -> Lease:
        """Its share in what one aggregator does for all."""
        return _started(self._lease)

    @property
    def intake(self) -> Intake:
        """Where deliveries go."""
        return _started(self._intake)

    @property
    def budgeting(self) -> Budgeting:
        """What evaluates budgets."""
        return _started(self._budgeting)

    @property
    def identities(self) -> Identities:
        """What keeps names of people for a time."""
        return _started(self._identities)

    @property
    def auditing(self) -> Auditing:
        """What notes who reads about others and who changes what."""
        return _started(self._auditing)

    @property
    def exporter(self) -> Exporter:
        """What renders `/metrics`."""
        return _started(self._exporter)

    @property
    def pricing(self) -> Pricing:
        """What knows price, carbon intensity and PUE."""
        return _started(self._pricing)

    @property
    def app(self) -> web.Application:
        """The HTTP application that is served."""
        return _started(self._runner).app

    @property
    def url(self) -> str:
        """Where it answers."""
        host = host_port(self.settings.listen)[0]
        scheme = "https" if self.settings.tls_server_config.on else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Open the ledger, listen, and begin to commit and to poll.

        Raises:
            StartError: port in use, folder not writable, a ledger that cannot be used.

        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads.commit, self._open)
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        self._tasks += _started(self._committing).begin()
        self._tasks += self._tokens.begin()
        self._leading = Leading(
            self.ledger,
            self.lease,
            self._schedulers,
            self.polls,
            troubles=self._troubles,
            writer=self._threads.commit,
            settle=self.settle,
            now_ms=self._now_ms,
        )
        self._tasks += self._leading.begin()
        fetching = Fetching(
            self.settings.factors,
            self.ledger,
            leads=self._leads,
            troubles=self._troubles,
            writer=self._threads.commit,
            now_ms=self._now_ms,
        )
        self._tasks += fetching.begin()
        self._tasks += self.budgeting.begin()
        self._tasks += self.identities.begin()
        self._tasks += self.auditing.begin()
        _log.info("listening on %s, ledger %s", self.url, self.ledger)
        _log.info("%s", self.callers)

    async def stop(self) -> None:
        """Take no more deliveries, commit what was taken, let go of everything."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._committing is not None:
            await self._committing.commit()
            self._committing = None
        await self._end_writing()
        if self._api is not None:
            self._api.close()
            self._api = None
        self._threads.end()
        self.callers.close()
        if self._recording is not None:
            self._recording.store.close()
            self._recording = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _end_writing(self) -> None:
        """Write the last of the audit log, and let another aggregator lead."""
        if self._auditing is not None:
            await self._auditing.end()
            self._auditing = None
        if self._leading is not None:
            await self._leading.end()
            self._leading = None

    async def run(self, until: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until the event is set. Raises what a task of its own died of.

        `ready` is called when it answers.
        """
        await self.start()
        ready()
        try:
            waiting = asyncio.create_task(until.wait())
            await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            for task in self._tasks:
                if task.done():
                    task.result()
                    raise RuntimeError(f"the task {task.get_name()!r} has ended")
        finally:
            await self.stop()

    def findings(self) -> list[Finding]:
        """Return how the centre is: its books, its schedulers, its history."""
        found = [
            Finding("ledger", State.FAILING, f"{what}: {why}", _BOOKS_WAIT)
            for what in ("commit", "settlement", "lease")
            if (why := self._troubles.why(what))
        ] or [Finding("ledger", State.OK, "takes what is delivered")]
        found += self._tokens.findings()
        if self._certificates is not None:
            found.append(self._certificates.finding())
        found += self.polls.findings()
        parts = (self._pricing, self._recording, self._budgeting, self._identities, self._auditing)
        for part in parts:
            if part is not None:
                found += part.findings()
        return found

    async def commit(self) -> bool:
        """Commit what was taken; see `Committing`."""
        return await _started(self._committing).commit()

    async def settle(self) -> bool:
        """Settle what can be; see `Committing`."""
        return await _started(self._committing).settle()

    def _leads(self) -> bool:
        return self.lease.token is not None

    def _open(self) -> None:
        settings = self.settings
        self._certificates = open_certificates(settings)
        self._lock = open_folder(settings)
        self._ledger = open_ledger(settings)
        check_clock(self._ledger, self._now_ms())
        self._lease = join(settings, self._ledger)
        self._newest_run = newest_workload(self._ledger)
        takeover_ms = milliseconds(settings.takeover_after)
        self._intake = Intake(self._ledger, takeover_after_ms=takeover_ms)
        self._pricing = open_factors(settings, self._ledger, self._troubles)
        store = open_history(settings, self._ledger)
        if store is not None:
            self._recording = Recording(store, self._ledger, self._intake, self._troubles)
        self._committing = Committing(
            self._ledger,
            self._intake,
            self._lease,
            self._recording,
            self._targets,
            self._counts,
            shortest_s=settings.commit_interval.total_seconds(),
            troubles=self._troubles,
            threads=self._threads,
            now_ms=self._now_ms,
        )
        # Here, since time zones are files.
        self._budgets = [section.budget(name) for name, section in settings.budgets.items()]
        self._targets.load()
        self._tokens.look()

    async def _listen(self) -> None:
        settings, ledger = self.settings, self.ledger
        live = Live(ledger)
        fleet = Fleet(ledger, live, settings, self._now_ms)
        self._budgeting = Budgeting(
            self._budgets,
            ledger,
            live,
            fleet,
            self.lease,
            alerts=settings.alerts,
            pool=self._threads.budgets,
            silent_after_ms=milliseconds(settings.silent_after),
            troubles=self._troubles,
            now_ms=self._now_ms,
        )
        self._exporter = self._exports(fleet)
        recording = self._recording
        limiting = Limiting(settings.limits, self._counts.taken)
        deliveries = Deliveries(
            self.intake,
            recording,
            live,
            self._targets,
            self._counts,
            limiting,
            pool=self._threads.unpack,
            reader=self._threads.read,
            now_ms=self._now_ms,
        )
        self._api = Api(
            ledger,
            fleet,
            self._targets,
            self._now_ms,
            findings=self.findings,
            telemetry=None if recording is None else recording.store,
            pricing=self.pricing,
            leads=self._leads,
        )
        statements = Closed(ledger, self.pricing, pool=self._threads.ask, now_ms=self._now_ms)
        self._keep_watch()
        app = build(
            (
                *self._api.endpoints(),
                *self._budgeting.endpoints(),
                *statements.endpoints(),
                audit_answers.endpoint(ledger, self._now_ms),
            ),
            deliveries,
            statements,
            self.identities,
            self.auditing,
            self._exporter,
            Gate(self.callers),
            self._threads,
            self._keeper,
            limiting,
        )
        self._runner = door.runner(app, self._keeper, shutdown_s=5)
        self.port = await serve(self._runner, settings, self._keeper, self._certificates)

    def _keep_watch(self) -> None:
        """Make what keeps names for a time, and what notes who reads them."""
        self._identities = Identities(
            self.ledger,
            milliseconds(self.settings.retention.identities),
            leads=self._leads,
            troubles=self._troubles,
            writer=self._threads.commit,
            now_ms=self._now_ms,
        )
        self._auditing = Auditing(
            self.ledger,
            milliseconds(self.settings.retention.audit),
            partial(configured, self.settings, self._tokens),
            leads=self._leads,
            troubles=self._troubles,
            writer=self._threads.commit,
            now_ms=self._now_ms,
        )

    def _exports(self, fleet: Fleet) -> Exporter:
        metrics = self.settings.metrics
        jobs = ShownJobs(
            self.ledger,
            newest=self._newest_run,
            max_jobs=metrics.max_jobs,
            ended_for_ms=milliseconds(metrics.ended_jobs_for),
            now_ms=self._now_ms,
        )
        looker = Looker(
            self.ledger,
            fleet,
            jobs,
            self._counts,
            self.polls,
            self.lease,
            self._recording,
            self._certificates,
            checker=self._threads.check,
            budgets=self.budgeting.figures,
            now_ms=self._now_ms,
        )
        # Its costly parts rest for themselves, and longer.
        snapshot = Cached(
            looker.look,
            _FRESH_S,
            rests=3,
            pool=self._threads.look,
            patience_s=_PATIENCE_S,
            parts=looker.parts,
        )
        return Exporter(
            snapshot,
            identity=metrics.identity,
            max_values=metrics.max_values,
            group_kinds=fleet.group_kinds,
            scraped=looker.scraped,
        )


def _started(part: T | None) -> T:
    if part is None:
        raise RuntimeError("the aggregator is not started")
    return part
