"""Brings what was delivered to the ledger's disk, and settles what can be."""

import asyncio
import time
from collections.abc import Callable

from wattkeeper.aggregator.recording import Recording
from wattkeeper.aggregator.snapshot import DeliveryCounts
from wattkeeper.aggregator.targets import Targets
from wattkeeper.aggregator.threads import Threads
from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.ledger.grants import granting_clusters
from wattkeeper.ledger.intake import MAX_POSTINGS, Intake
from wattkeeper.ledger.lease import Lease
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import LeaseLostError, Ledger, LedgerError

_RATIO = 9
"""Pause after a commit, in lengths of it: commits take a tenth of the time at most."""
_LONGEST_PAUSE_S = 300.0


class Committing:
    """Commits `intake` again and again. `recording`: where a history is kept.

    `shortest_s`: seconds between two commits at least. `counts` is told how they went.
    """

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        lease: Lease,
        recording: Recording | None,
        targets: Targets,
        counts: DeliveryCounts,
        *,
        shortest_s: float,
        troubles: Troubles,
        threads: Threads,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._lease = lease
        self._recording = recording
        self._targets = targets
        self._counts = counts
        self._shortest_s = shortest_s
        self._troubles = troubles
        self._threads = threads
        self._now_ms = now_ms

    def begin(self) -> list[asyncio.Task[None]]:
        """Return the tasks that do it; they run until they are cancelled."""
        tasks = [asyncio.create_task(self._run(), name="commit")]
        if self._recording is not None:
            recording = self._recording.run(self._threads.record, self._shortest_s, self._now_ms)
            tasks.append(asyncio.create_task(recording, name="record"))
        return tasks

    async def commit(self) -> bool:
        """Commit what was taken; False if the ledger did not take it (the next try may).

        The history is flushed with it, so that agents may release what is in both.
        """
        loop = asyncio.get_running_loop()
        if self._recording is not None:
            await loop.run_in_executor(self._threads.record, self._recording.flush)
        try:
            await loop.run_in_executor(self._threads.commit, self._commit)
        except (LedgerError, OSError) as error:
            self._counts.taken["commit_failures"] += 1
            self._troubles.failed("commit", error)
            return False
        self._troubles.recovered("commit")
        self._counts.committed_ms = self._now_ms()
        self._counts.moved = self._intake.counts.moved
        return True

    async def settle(self) -> bool:
        """Settle what can be, piece by piece; False if the database did not take it."""
        loop = asyncio.get_running_loop()
        try:
            while await loop.run_in_executor(self._threads.commit, self._settle):
                pass
        except LeaseLostError:
            return True
        except LedgerError as error:
            self._troubles.failed("settlement", error)
            return False
        self._troubles.recovered("settlement")
        return True

    def _commit(self) -> None:
        self._intake.commit_sync()
        self._targets.save()

    def _settle(self) -> bool:
        now_ms = self._now_ms()
        self._intake.follow_grants(granting_clusters(self._ledger, now_ms))
        return self._lease.token is not None and settle(self._ledger, now_ms)

    async def _run(self) -> None:
        pause_s = self._shortest_s
        while True:
            await self._pause(pause_s)
            began_s = time.monotonic()
            await self.commit()
            await self.settle()
            # A commit costs by the sums it touches, not by the windows that went into them: on a
            # large fleet fewer commits take in as much for less. The agents keep what is not in.
            lasted_s = time.monotonic() - began_s
            pause_s = max(self._shortest_s, min(_LONGEST_PAUSE_S, _RATIO * lasted_s))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not until so much is waiting that deliveries would have to be left."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            if self._intake.pending_postings > MAX_POSTINGS * 3 // 4:
                return
            await asyncio.sleep(min(1.0, left_s))
