"""Keeping the audit log: who read about others' jobs, and who changed what."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from aiohttp import web

from wattkeeper.aggregator.access.gate import Handler, caller_of
from wattkeeper.aggregator.access.roles import Role
from wattkeeper.aggregator.problem import ProblemError
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.ledger import audit
from wattkeeper.ledger.audit import Entry
from wattkeeper.ledger.store import Ledger, LedgerError
from wattkeeper.listening.keeper import address_of
from wattkeeper.model.state import Finding, State

READS: Mapping[str, str] = {
    "/": "fleet",
    "/v1/fleet": "fleet",
    "/v1/jobs": "jobs",
    "/jobs": "jobs",
    "/v1/jobs/{cluster}/{id}": "job",
    "/v1/jobs/{cluster}/{id}/trace": "job",
    "/jobs/{cluster}/{id}": "job",
    "/v1/report": "report",
    "/report": "report",
    "/report.html": "report",
    "/v1/telemetry": "telemetry",
    "/v1/budgets": "budgets",
    "/budgets": "budgets",
    "/v1/devices": "devices",
    "/nodes/{cluster}/{node}": "devices",
    "/v1/audit": "audit",
}
"""What tells of people, by path."""
CHANGES: Mapping[str, str] = {"/v1/statements": "close", "/v1/forget": "forget"}
"""What changes something, by the path that is posted to."""
DONE = web.RequestKey("DONE", str)
"""Where a handler says what it did."""

_OTHERS_TOLD = {Role.OPERATOR, Role.MANAGER}
_ASKED = ("user", "account", "by", "id", "cluster", "q")
"""Parameters that say whom somebody asked for."""
_TROUBLE = "audit"
_HOUR_MS = 3_600_000
_EVERY_S = 2.0
_LOOK_S = 60.0
_DAY_S = 24 * 3600.0
_LONGEST = 200
_MOST_KINDS = 1_000
"""Different things in an hour that are told apart."""
_MOST_WAITING = 20_000
"""Entries that wait while the ledger does not take them."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Alike:
    """What is done again and again: told when it begins, and once an hour how often it was."""

    since_ms: int
    last: Entry
    more: int = 0


class Auditing:
    """Notes who asks for others' jobs and who changes things, and writes it.

    Whatever is alike is one entry an hour. `watched` returns what is configured, and blocks; of
    aggregators that share a ledger the one that `leads` compares it with what it was.
    """

    def __init__(
        self,
        ledger: Ledger,
        keep_ms: int,
        watched: Callable[[], Mapping[str, str]],
        *,
        leads: Callable[[], bool],
        troubles: Troubles,
        writer: Executor,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._keep_ms = keep_ms
        self._watched = watched
        self._leads = leads
        self._troubles = troubles
        self._writer = writer
        self._now_ms = now_ms
        self._alike: dict[Entry, _Alike] = {}
        self._waiting: list[Entry] = []
        self._flushing = asyncio.Lock()
        self._lost = 0

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the tasks that write, watch and clean up; they run until they are cancelled."""
        each = ((self.flush, _EVERY_S), (self.look, _LOOK_S), (self.expire, _DAY_S))
        return [asyncio.create_task(_again(*one), name="audit") for one in each]

    def findings(self) -> list[Finding]:
        """Tell where it is not written, or was not."""
        if why := self._troubles.why(_TROUBLE):
            detail = f"{len(self._waiting)} entries are not written: {why}"
            return [Finding("audit", State.FAILING, detail, "it is tried again")]
        if self._lost:
            detail = f"{self._lost} entries were lost while the ledger did not take them"
            return [Finding("audit", State.STALE, detail, "the log of that time is not whole")]
        return []

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note a request that tells of people, or changes something, and its result."""
        act = _act(request)
        if act is None:
            return await handler(request)
        status = 500
        try:
            answer = await handler(request)
            status = answer.status
        except ProblemError as problem:
            status = problem.status
            raise
        finally:
            self._note(request, act, status)
            if request.method == "POST":
                await self.flush()
        return answer

    def _note(self, request: web.Request, act: str, status: int) -> None:
        caller = caller_of(request)
        # Left out are own jobs, and doors that stayed closed to who proved nothing.
        refused = status == 403 and caller.proven
        if request.method != "POST" and caller.role not in _OTHERS_TOLD and not refused:
            return
        peer = request.transport and request.transport.get_extra_info("peername")
        entry = Entry(
            0,
            caller.name[:_LONGEST],
            caller.role.value,
            address_of(peer),
            act,
            _what(request),
            str(status),
        )
        self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        """Queue an entry, or count it to one of this hour."""
        now_ms = self._now_ms()
        if entry not in self._alike and len(self._alike) >= _MOST_KINDS:
            what = f"more than {_MOST_KINDS} different things in an hour"
            entry = replace(entry, who="", address="", act="many", what=what, result="")
        known = self._alike.get(entry)
        dated = replace(entry, at_ms=now_ms)
        if known is not None and now_ms - known.since_ms < _HOUR_MS:
            known.more += 1
            known.last = dated
            return
        if known is not None:
            self._repeats(known)
        self._alike[entry] = _Alike(now_ms, dated)
        self._queue(dated)

    def _repeats(self, known: _Alike) -> None:
        if known.more:
            self._queue(replace(known.last, times=known.more))

    def _queue(self, entry: Entry) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(entry)
        else:
            self._lost += 1

    async def flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        before_ms = self._now_ms() - _HOUR_MS
        for entry, known in list(self._alike.items()):
            if known.since_ms <= before_ms:
                self._repeats(known)
                del self._alike[entry]
        async with self._flushing:
            some = list(self._waiting)
            if some and await self._done(lambda: audit.append(self._ledger, some)):
                del self._waiting[: len(some)]

    async def look(self) -> None:
        """Compare what is configured with what it was when it was last looked at."""

        def compare() -> None:
            for entry in audit.changed(self._ledger, self._watched(), self._now_ms()):
                _log.info("configuration: %s", entry.what)

        if self._leads():
            await self._done(compare)

    async def expire(self) -> None:
        """Drop old entries."""
        if self._leads():
            before_ms = self._now_ms() - self._keep_ms
            await self._done(lambda: audit.expire(self._ledger, before_ms))

    async def end(self) -> None:
        """Write all that is known; the tasks have ended."""
        for known in self._alike.values():
            self._repeats(known)
        self._alike.clear()
        await self.flush()

    async def _done(self, work: Callable[[], None]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except LedgerError as error:
            self._troubles.failed(_TROUBLE, error)
            return False
        self._troubles.recovered(_TROUBLE)
        return True


def _act(request: web.Request) -> str | None:
    resource = request.match_info.route.resource
    path = "" if resource is None else resource.canonical
    return CHANGES.get(path) if request.method == "POST" else READS.get(path)


def _what(request: web.Request) -> str:
    """Return whom or what was asked for, as far as it is told apart."""
    if DONE in request:
        return request[DONE][:_LONGEST]
    names = "/".join(request.match_info.values())
    asked = [f"{name}={request.query[name]}" for name in _ASKED if request.query.get(name)]
    return " ".join(filter(None, (names, *asked)))[:_LONGEST]


async def _again(work: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        await work()
        await asyncio.sleep(pause_s)
