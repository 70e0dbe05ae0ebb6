"""The centre of a simulated fleet: the real intake and ledger, which can be killed and restored."""

import shutil
import sqlite3
from pathlib import Path

from wattkeeper.delivery.wire import Ack, unpack
from wattkeeper.ledger.grants import granting_clusters
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.simulation.clock import TrueTime
from wattkeeper.simulation.disk import copy_as_is, remove
from wattkeeper.simulation.names import SimulatedScheduler

_ASK_AGAIN_MS = 20_000


class DownError(ConnectionError):
    """The centre does not answer."""


class Centre:
    """Intake and ledger on files of their own.

    Each start after a kill works on a new generation of them, as the kill left them on disk.
    """

    def __init__(self, folder: Path, time: TrueTime, scheduler: SimulatedScheduler) -> None:
        self._folder = folder
        self._time = time
        self._scheduler = scheduler
        self._generation = 0
        self._named_ms = time.now_ms
        self._backup = folder / "backup.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger: Ledger | None = None
        self._intake: Intake | None = None
        self.start()

    @property
    def path(self) -> Path:
        """The ledger's file now."""
        return self._folder / f"ledger-{self._generation}.sqlite"

    def start(self) -> None:
        """Open the ledger and take deliveries."""
        self.ledger = Ledger.open(self.path)
        self._intake = Intake(self.ledger)

    def accept(self, body: bytes) -> Ack:
        """Take a delivery's body.

        Raises:
            DownError: the aggregator is down.
            WireError, Refusal: as the real HTTP layer answers 400 and 409.

        """
        if self._intake is None:
            raise DownError("the aggregator is down")
        return self._intake.accept(unpack(body), self._time.now_ms)

    def commit(self) -> None:
        """Commit what was taken, ask the scheduler now and then, and settle what can be."""
        if self._intake is None or self.ledger is None:
            return
        self._intake.commit_sync()
        if self._time.now_ms - self._named_ms >= _ASK_AGAIN_MS:
            self.learn(self._named_ms)

    def learn(self, since_ms: int) -> None:
        """Ask the scheduler what ran at or after `since_ms`, and settle by what it says."""
        if self.ledger is None or self._intake is None or self._scheduler.down:
            return
        now_ms = self._time.now_ms
        known = self._scheduler.known(since_ms)
        record_knowledge(self.ledger, self._scheduler.name, known, now_ms=now_ms)
        self._named_ms = now_ms
        self._intake.follow_grants(granting_clusters(self.ledger, now_ms))
        while settle(self.ledger, now_ms):
            pass

    def kill(self) -> None:
        """End as `kill -9` does: what was not committed is gone, the files stay as they are."""
        old = self.path
        self._generation += 1
        copy_as_is(old, self.path)
        self._drop()
        remove(old)

    def back_up(self) -> None:
        """Make a copy of the ledger, as a nightly backup does."""
        with sqlite3.connect(self.path) as source, sqlite3.connect(self._backup) as copy:
            source.backup(copy)
        source.close()
        copy.close()

    def restore(self) -> None:
        """Go on with the last backup: everything since then is forgotten."""
        old = self.path
        self._drop()
        remove(old)
        self._generation += 1
        shutil.copyfile(self._backup, self.path)
        # The copy has not heard of any job since; the scheduler still knows them.
        self._named_ms = self._time.start_ms

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._drop()

    def _drop(self) -> None:
        if self.ledger is not None:
            self.ledger.close()
        self.ledger = self._intake = None
