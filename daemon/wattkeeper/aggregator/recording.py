"""The history beside the books: what agents deliver goes into both, each with its own cursor."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor

from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError

from wattkeeper.aggregator.troubles import Troubles
from wattkeeper.delivery.wire import Ack, Batch
from wattkeeper.ledger.intake import Intake, Taken
from wattkeeper.ledger.queries.dictionary import holder_keys, meter_infos
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import MeterInfo
from wattkeeper.model.state import Finding, State
from wattkeeper.telemetry.base import Cursor, TelemetryError, TelemetryStore
from wattkeeper.telemetry.recorder import Recorder
from wattkeeper.telemetry.rows import HolderName

_TEND_S = 60.0


class Recording:
    """Lets intake and recorder take a delivery, and tells the agent of the lower cursor.

    `accept` runs on the event loop; `flush`, `tend` and `close` block, one of them at a time.
    """

    def __init__(
        self, store: TelemetryStore, ledger: Ledger, intake: Intake, troubles: Troubles
    ) -> None:
        self.store = store
        self.recorder = Recorder(store, _LedgerNames(ledger))
        self._intake = intake
        self._troubles = troubles

    def accept(self, batch: Batch, now_ms: int) -> Ack:
        """Take a batch into memory.

        Raises:
            Refusal: the delivery as a whole is not taken.

        """
        recorder, intake = self.recorder, self._intake
        before = Cursor(*intake.position(batch.journal))
        after = recorder.after(batch, before)
        taken = None if after is None else Taken(after)
        ack = intake.accept(batch, now_ms, taken)
        recorder.take(batch, before, Cursor(*intake.position(batch.journal)), taken)
        cursor, committed = recorder.position(batch.journal)
        ack = replace(ack, committed=min(ack.committed, committed))
        if recorder.open and cursor.seq < ack.accepted:
            # It has to come again; the intake passes over what it has.
            ack = replace(ack, accepted=cursor.seq, accepted_hash=cursor.hash.hex())
        return ack

    async def run(self, pool: Executor, pause_s: float, now_ms: Callable[[], int]) -> None:
        """Flush and tend until cancelled, in a pool of one thread."""
        loop = asyncio.get_running_loop()
        tended_s = float("-inf")
        while True:
            await asyncio.sleep(pause_s)
            await loop.run_in_executor(pool, self.flush)
            if loop.time() - tended_s >= _TEND_S:
                await loop.run_in_executor(pool, self.tend, now_ms())
                tended_s = loop.time()

    def flush(self) -> bool:
        """Write what was taken into the store; False if it did not take it (the next try may)."""
        done = self.recorder.flush()
        if done:
            self._troubles.recovered("history")
        else:
            self._troubles.failed("history", self.recorder.trouble)
        return done

    def tend(self, now_ms: int) -> None:
        """Let the store do what is due."""
        try:
            self.store.tend(now_ms)
        except TelemetryError as error:
            self._troubles.failed("history, tending it", error)
        else:
            self._troubles.recovered("history, tending it")

    def findings(self) -> Sequence[Finding]:
        """Return how the history is."""
        found = list(self.store.findings())
        trouble = self.recorder.trouble
        if trouble:
            fix = "the books go on, and agents keep what is missing here; nothing is lost"
            found.insert(0, Finding("history", State.FAILING, trouble, fix))
        return found

    def close(self) -> None:
        """Write what was taken, and let go of the store."""
        self.flush()
        self.store.close()


class _LedgerNames:
    """What the ledger knows of the numbers in journals."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def meters(self, wanted: Mapping[str, Collection[int]]) -> Mapping[tuple[str, int], MeterInfo]:
        try:
            return meter_infos(self._ledger, wanted)
        except SQLAlchemyError as error:
            raise TelemetryError(f"the ledger does not tell names: {error}") from error

    def holders(
        self, wanted: Mapping[str, Collection[int]]
    ) -> Mapping[tuple[str, int], HolderName]:
        numbers = ((journal, number) for journal, of in wanted.items() for number in of)
        try:
            found = holder_keys(self._ledger, numbers)
        except SQLAlchemyError as error:
            raise TelemetryError(f"the ledger does not tell names: {error}") from error
        return {key: HolderName(*name) for key, name in found.items()}
