"""What one of several aggregators does for all: it asks the schedulers, while it has the lease."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from wattkeeper.aggregator.polls import Polls
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.schedulers.base import Scheduler

_LOOK_AGAIN_S = 1.0
"""How soon an aggregator that was given the lease begins to ask."""

_log = logging.getLogger(__name__)


class Leading:
    """Keeps the lease, and polls each scheduler at its own interval while it is held.

    `writer` runs what writes; `settle` is awaited after each answer.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        schedulers: Sequence[Scheduler],
        polls: Polls,
        *,
        troubles: Troubles,
        writer: ThreadPoolExecutor,
        settle: Callable[[], Awaitable[bool]],
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._lease = lease
        self._schedulers = schedulers
        self._polls = polls
        self._troubles = troubles
        self._writer = writer
        self._settle = settle
        self._now_ms = now_ms
        # What keeps the lease waits for nothing else.
        self._keeper = ThreadPoolExecutor(1, "lease")

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the tasks that do it; they run until they are cancelled."""
        polls = [
            asyncio.create_task(self._poll(scheduler), name=f"poll {scheduler.name}")
            for scheduler in self._schedulers
        ]
        if not self._ledger.shared:
            return polls
        return [asyncio.create_task(self._hold(), name="lease"), *polls]

    async def end(self) -> None:
        """Let another aggregator lead; the tasks have ended."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._keeper, self._lease.leave)
        except LedgerError as error:
            self._troubles.failed("lease", error)
        self._keeper.shutdown()

    async def _hold(self) -> None:
        """Keep the lease, or take it when nobody has it any more."""
        loop = asyncio.get_running_loop()
        held = self._lease.token is not None
        _log.info("%s holds the lease", "this aggregator" if held else "another aggregator")
        while True:
            await asyncio.sleep(self._lease.every_s)
            try:
                before, held = held, await loop.run_in_executor(self._keeper, self._lease.renew)
            except LedgerError as error:
                self._troubles.failed("lease", error)
                continue
            self._troubles.recovered("lease")
            if held != before:
                _log.info("this aggregator has %s the lease", "taken" if held else "lost")

    async def _poll(self, scheduler: Scheduler) -> None:
        while True:
            if self._lease.token is None:
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            try:
                await scheduler.start()
                await self._ask(scheduler)
            finally:
                await scheduler.close()

    async def _ask(self, scheduler: Scheduler) -> None:
        """Ask again and again until the lease is another one's."""
        since_ms = 0
        loop = asyncio.get_running_loop()
        while self._lease.token is not None:
            began_ms, began_s = self._now_ms(), time.monotonic()
            try:
                found = await scheduler.ask(since_ms)
                record = partial(
                    record_knowledge, self._ledger, scheduler.name, found, now_ms=began_ms
                )
                await loop.run_in_executor(self._writer, record)
            except LeaseLostError:
                return
            except (OSError, LedgerError) as error:
                self._troubles.failed(scheduler.name, error)
                self._polls.failed(scheduler.name, str(error))
            else:
                self._troubles.recovered(scheduler.name)
                self._polls.answered(scheduler.name, began_ms, time.monotonic() - began_s)
                since_ms = began_ms
                await self._settle()
            await asyncio.sleep(scheduler.interval_s)
