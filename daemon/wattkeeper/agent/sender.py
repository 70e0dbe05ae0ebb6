"""The sender: keeps delivering what the journal holds, and releases what is committed."""

import logging
import random
from dataclasses import dataclass

from wattkeeper import __version__
from wattkeeper.agent.transport import RefusedError, Transport, UnreachableError
from wattkeeper.delivery.wire import Ack, Batch, Snapshot
from wattkeeper.metering.dictionary import EPOCH, HOLDER, METER
from wattkeeper.metering.journal import Journal
from wattkeeper.model.clock import NS_PER_MS, Clock
from wattkeeper.model.state import Finding, State

log = logging.getLogger(__name__)

_LARGEST = 1 << 20
"""Bytes of records in one delivery while a backlog drains."""
_SMALLEST = 16 << 10
_MOST_HOLDERS = 5_000
"""Dictionary entries in one delivery: after weeks without an aggregator all would be too large."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class Known:
    """What the last answer said is known of this journal."""

    accepted: int = 0
    meters: int = 0
    holders: int = 0
    epochs: int = 0


class Sender:
    """Delivers one journal.

    The caller serialises `prepare` and `settle` with everything else that touches the journal's
    dictionary; only the transfer itself runs beside the metering.
    """

    def __init__(
        self,
        journal: Journal,
        transport: Transport,
        clock: Clock,
        boot: str,
    ) -> None:
        self._journal = journal
        self._transport = transport
        self._clock = clock
        self._boot = boot
        self._known = Known()
        self._size = _LARGEST
        self._failures = 0
        self._forked = False
        self.trouble: str = ""
        self.delivered_records = 0
        self.failed_deliveries = 0

    def prepare(self, snapshot: Snapshot) -> Batch:
        """Return the next delivery; without records it still brings the snapshot."""
        journal, known = self._journal, self._known
        stretch = journal.stretch(known.accepted, self._size)
        entries = journal.dictionary.entries
        holders = sorted(number for number in entries[HOLDER] if number > known.holders)
        return Batch(
            cluster=journal.meta.cluster,
            node=journal.meta.node,
            journal=journal.meta.journal,
            boot=self._boot,
            agent=__version__,
            wall_ms=self._clock.wall_ns() // NS_PER_MS,
            boot_ms=self._clock.boot_ns() // NS_PER_MS,
            oldest=journal.meta.released + 1,
            first=stretch.first,
            previous=stretch.previous,
            records=stretch.payloads,
            meters={n: e for n, e in entries[METER].items() if n > known.meters},
            holders={n: entries[HOLDER][n] for n in holders[:_MOST_HOLDERS]},
            epochs={n: e for n, e in entries[EPOCH].items() if n > known.epochs},
            snapshot=snapshot,
            fork_of=journal.meta.fork_of,
        )

    async def transfer(self, batch: Batch) -> Ack | RefusedError | None:
        """Hand it over; None if nobody took it."""
        try:
            return await self._transport.send(batch)
        except RefusedError as refusal:
            return refusal
        except UnreachableError as error:
            self._fail(str(error))
            return None

    def settle(self, answer: Ack | RefusedError | None, held: list[int]) -> bool:
        """Act on the answer; True if there is more to send at once.

        `held` are the holders that open windows name.
        """
        if answer is None:
            return False
        if isinstance(answer, RefusedError):
            return self._refused(answer)
        if self._differs(answer):
            return self._fork("the aggregator knows other records under this journal's numbers")
        self._recover()
        known = self._known
        before = (known.accepted, known.meters, known.holders, known.epochs)
        known.accepted = answer.accepted
        known.meters, known.holders, known.epochs = answer.meters, answer.holders, answer.epochs
        self.delivered_records += max(0, answer.accepted - before[0])
        self._journal.release(min(answer.committed, answer.accepted), held)
        self._size = _LARGEST
        # An answer that moves nothing is not asked for again at once.
        moved = (known.accepted, known.meters, known.holders, known.epochs) != before
        return moved and answer.accepted < self._journal.meta.last

    def pause_s(self) -> float:
        """Return how long to wait after a failure: longer each time, at random, at most 60 s."""
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 16))
        return random.uniform(_FIRST_PAUSE_S / 2, longest)  # noqa: S311 -- jitter, not a secret

    @property
    def failing(self) -> bool:
        """Whether the last delivery did not get through."""
        return self._failures > 0

    def findings(self) -> list[Finding]:
        """Return how delivery is doing."""
        if not self.trouble:
            return [Finding("delivery", State.OK, f"record {self._known.accepted} accepted")]
        return [
            Finding(
                "delivery",
                State.FAILING,
                self.trouble,
                "nothing is lost: the journal keeps the windows until they are committed",
            )
        ]

    def _differs(self, answer: Ack) -> bool:
        """Tell whether the aggregator's journal is not this one: cloned, or restored."""
        if answer.accepted > self._journal.meta.last:
            return True
        own = self._journal.hash_at(answer.accepted)
        return own is not None and own.hex() != answer.accepted_hash

    def _refused(self, refusal: RefusedError) -> bool:
        if refusal.kind == "fork":
            return self._fork(refusal.detail)
        if refusal.kind == "too-large" and self._size > _SMALLEST:
            self._size //= 2
            return True
        self._fail(str(refusal))
        return False

    def _fork(self, why: str) -> bool:
        """Go on as another journal, at once; a fork that is refused as well waits its turn."""
        if self._forked:
            self._fail(f"fork refused: {why}")
            return False
        old = self._journal.meta.journal
        self._journal.fork()
        self._known = Known()
        self._forked = True
        log.warning("journal %s goes on as %s: %s", old, self._journal.meta.journal, why)
        return True

    def _fail(self, trouble: str) -> None:
        # Home Assistant's rule: the first failure and the recovery are news, the rest is not.
        if not self.trouble:
            log.warning("delivery fails, windows stay in the journal: %s", trouble)
        self.trouble = trouble
        self._failures += 1
        self.failed_deliveries += 1

    def _recover(self) -> None:
        if self.trouble:
            log.info("delivery works again, %d records to send", self._journal.pending)
        self.trouble = ""
        self._failures = 0
        self._forked = False
