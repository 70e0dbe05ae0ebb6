"""The agent: reads the sources, books, journals, delivers. The loops around it are in `service`."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec

from wattkeeper.agent.config import POINT_INTERVAL, AgentSettings
from wattkeeper.agent.sender import Sender
from wattkeeper.agent.transport import Transport
from wattkeeper.delivery.wire import Live, Snapshot, SourceReport
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey
from wattkeeper.metering.book import Ruling
from wattkeeper.metering.counter import Break, Identity
from wattkeeper.metering.journal import Journal, JournalError
from wattkeeper.metering.merge import merge
from wattkeeper.metering.sampler import Sampler
from wattkeeper.model.clock import NS_PER_MS, NS_PER_S, Clock
from wattkeeper.model.holder import FIRST_HOLDER, HolderInfo
from wattkeeper.model.meter import MeterSpec
from wattkeeper.model.reading import Gauge, Reading
from wattkeeper.model.state import Finding, State
from wattkeeper.model.window import Policy, Record, Window
from wattkeeper.sources.base import Source
from wattkeeper.tls.server import ServerCertificates
from wattkeeper.values import milliseconds

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_MERGE_PENDING = 20_000
"""Records kept in memory, while the disk takes none, before they are merged by the hour."""


class Holders(Protocol):
    """Who holds what, put together from every way of seeing it."""

    async def look(self) -> None:
        """Bring the view up to date."""
        ...

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return claims by meter name."""
        ...

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return what is known of the holders."""
        ...

    def findings(self) -> Sequence[Finding]:
        """Return how the seeing goes."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


@dataclass(slots=True)
class Agent:
    """One node's agent.

    `boot` is the kernel's boot id. `memos` gives what else must survive a restart, as plain data
    by name; it is committed with the books. `changed_hands` tells whether a meter got or lost a
    holder since a boot instant, also while no agent ran; `edges` when holders really came and
    went, of those that the last look found; `counted` what is counted about them; `certificates`
    what it listens with, `refused` whom it did not serve, by reason. `tick` and
    `deliver_once` are all there is to it: a service calls them by the clock, a simulation as fast
    as it can.
    """

    settings: AgentSettings
    clock: Clock
    boot: str
    sources: Sequence[Source]
    holders: Holders
    journal: Journal
    transport: Transport | None = None
    memos: Callable[[], Mapping[str, Any]] = dict
    changed_hands: Callable[[str, int], bool] = lambda _meter, _since_ns: False
    edges: Callable[[], Sequence[HolderEdge]] = tuple
    counted: Callable[[], Sequence[Gauge]] = tuple
    sampler: Sampler = field(init=False)
    sender: Sender | None = field(init=False, default=None)
    trouble: str = field(init=False, default="")
    ticks: int = field(init=False, default=0)
    tick_seconds: float = field(init=False, default=0.0)
    missed_ticks: int = field(init=False, default=0)
    read_seconds: dict[str, float] = field(init=False, default_factory=dict)
    oldest_pending_s: float = field(init=False, default=0.0)
    certificates: ServerCertificates | None = field(init=False, default=None)
    refused: Counter[str] = field(init=False, default_factory=Counter)
    _pending: list[Record] = field(init=False, default_factory=list)
    _lock: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        interval_ns = milliseconds(self.settings.sample_interval) * NS_PER_MS
        self.sampler = Sampler(
            Ruling(
                milliseconds(self.settings.window),
                milliseconds(POINT_INTERVAL),
                self.settings.max_holders,
                Policy[self.settings.static_power.upper()],
            ),
            self.journal.dictionary,
            Identity(self.boot, self.journal.meta.nonce),
            self.journal.states(),
            max_gap_ns=max(10 * NS_PER_S, interval_ns * 5 // 2),
            log=_log_break,
            changed_hands=self.changed_hands,
        )
        if self.journal.set_aside:
            log.error("the journal begins anew: %s", self.journal.set_aside)
        if self.transport is not None:
            self.sender = Sender(self.journal, self.transport, self.clock, self.boot)

    async def start(self) -> None:
        """Discover what there is."""
        await asyncio.gather(*(source.start() for source in self.sources))

    async def tick(self, *, checkpoint: bool = False) -> None:
        """Read every source, look who holds what, book, and commit what is done.

        `checkpoint` commits the open windows too, so that a mark survives a crash.
        """
        began_ns = self.clock.boot_ns()
        deadline_s = self.settings.sample_interval.total_seconds() * 0.8
        answers = await asyncio.gather(*(self._read(source, deadline_s) for source in self.sources))
        readings: list[Reading] = [reading for answer in answers for reading in answer]
        await self.holders.look()
        async with self._lock:
            self.journal.dictionary.describe(self.holders.infos())
            self.sampler.step(
                self.specs(),
                readings,
                self.holders.claims(),
                self.clock.boot_ns(),
                self.clock.wall_ns(),
                self.edges(),
            )
            self._pending += self.sampler.take()
            if self._pending or checkpoint:
                await self._commit()
        self.ticks += 1
        self.tick_seconds = (self.clock.boot_ns() - began_ns) / NS_PER_S

    async def deliver_once(self) -> bool:
        """Send what the journal holds next; True if there is more to send at once."""
        if self.sender is None:
            return False
        try:
            async with self._lock:
                # Taken here: what it looks at changes on this loop only.
                snapshot = self.snapshot()
                batch = await _in_thread(self.sender.prepare, snapshot)
            answer = await self.sender.transfer(batch)
            async with self._lock:
                return await _in_thread(self.sender.settle, answer, self._held())
        except JournalError as error:
            self._ail(str(error))
            return False

    async def close(self) -> None:
        """Commit the open windows, then let go of everything."""
        async with self._lock:
            await self._commit()
        for source in self.sources:
            await source.close()
        await self.holders.close()
        if self.transport is not None:
            await self.transport.close()
        self.journal.close()

    def specs(self) -> list[MeterSpec]:
        """Return every meter known now."""
        return [spec for source in self.sources for spec in source.meters()]

    def gauges(self) -> list[Gauge]:
        """Return live values that belong to no meter."""
        found = [gauge for source in self.sources for gauge in source.gauges()]
        return [*found, *self.counted()]

    def findings(self) -> list[Finding]:
        """Return the state of every part of this agent."""
        found = [finding for source in self.sources for finding in source.findings()]
        found += self.sampler.findings()
        found += self.holders.findings()
        found.append(self._journal_finding())
        if self.sender is not None:
            found += self.sender.findings()
        if self.certificates is not None:
            found.append(self.certificates.finding())
        return found

    def snapshot(self) -> Snapshot:
        """Return what the node looks like now, for live views at the centre."""
        return Snapshot(
            meters=tuple(self._live()),
            sources=tuple(
                SourceReport(finding.subject, finding.state, finding.detail[:256])
                for finding in self.findings()
            ),
            advertise=self.settings.advertised,
            pending=self.journal.pending,
        )

    async def _read(self, source: Source, deadline_s: float) -> Sequence[Reading]:
        began_ns = self.clock.boot_ns()
        readings = await source.read(deadline_s)
        self.read_seconds[source.name] = (self.clock.boot_ns() - began_ns) / NS_PER_S
        return readings

    def _live(self) -> list[Live]:
        offset_ms = (self.clock.wall_ns() - self.clock.boot_ns()) // NS_PER_MS
        live = []
        for metered in self.sampler.metered.values():
            reading, state = metered.reading, metered.book.state
            if reading is None or not metered.live:
                continue
            claims = [claim.holder for claim in state.claims or () if claim.holder is not None]
            holders = tuple(dict.fromkeys(map(self.journal.dictionary.payer, claims)))
            live.append(
                Live(
                    state.number,
                    reading.boot_ns // NS_PER_MS + offset_ms,
                    metered.power_mw,
                    reading.temperature_mc,
                    reading.utilization_ppm,
                    holders,
                    () if state.last is None else state.last.parts_ppm(holders),
                )
            )
        return live

    def _held(self) -> list[int]:
        """Return the holders that open or unwritten windows name, or that hold a meter now."""
        held: list[int] = []
        for metered in self.sampler.metered.values():
            state = metered.book.state
            if state.open is not None:
                held += [entry.payer for entry in state.open.entries.values()]
            held += [
                self.journal.dictionary.payer(claim.holder)
                for claim in state.claims or ()
                if claim.holder is not None
            ]
        for record in self._pending:
            if isinstance(record, Window):
                held += [part.holder for part in record.shares]
        return [number for number in held if number >= FIRST_HOLDER]

    async def _commit(self) -> None:
        """Journal what is done, with the books as they stand; on failure keep it and go on."""
        states = {
            name: msgspec.msgpack.encode(state) for name, state in self.sampler.states().items()
        }
        try:
            await _in_thread(self._journal, states, self.memos())
        except JournalError as error:
            self._ail(str(error))
            if len(self._pending) > _MERGE_PENDING:
                self._pending = merge(self._pending)
            return
        if self.trouble:
            log.info("the journal can be written again")
        self.trouble = ""

    def _journal(self, states: Mapping[str, bytes], memos: Mapping[str, Any]) -> None:
        self.journal.append(self._pending, states, memos)
        self._pending = []
        self.journal.shrink()
        since_ms = self.journal.pending_since_ms()
        now_ms = self.clock.wall_ns() // NS_PER_MS
        self.oldest_pending_s = 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1000

    def _ail(self, trouble: str) -> None:
        if not self.trouble:
            log.error("%s; windows are kept in memory meanwhile", trouble)
        self.trouble = trouble

    def _journal_finding(self) -> Finding:
        if self.trouble:
            fix = "make room or give the agent another data_dir; metering goes on meanwhile"
            return Finding("journal", State.FAILING, self.trouble, fix)
        if self.journal.set_aside:
            fix = "its undelivered windows are in that file only; restart when you have seen to it"
            detail = f"began anew: {self.journal.set_aside}"
            return Finding("journal", State.STALE, detail, fix)
        detail = f"{self.journal.pending} records not committed by the aggregator"
        return Finding("journal", State.OK, detail)


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` in a thread. A cancelled caller waits for its end, and keeps the lock until then.

    Otherwise the last commit of an agent that stops would repeat the one still being written.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _log_break(meter: str, step: Break) -> None:
    log.warning("%s: new epoch: %s", meter, step.reason)
