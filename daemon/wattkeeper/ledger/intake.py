"""The intake: takes deliveries into memory, commits them to the ledger."""

from wattkeeper.delivery.wire import Ack, Batch
from wattkeeper.ledger.store import Ledger


class Intake:
    """Takes batches in memory and commits them all in one transaction.

    Windows are posted at once: in this version names that arrive late change only the map from
    holder to workload, never a posting, so nothing is gained by waiting for the scheduler.
    """

    def __init__(self, ledger: Ledger, *, takeover_after_ms: int = 60_000) -> None:
        self._ledger = ledger
        self._takeover_after_ms = takeover_after_ms

    def accept(self, batch: Batch, now_ms: int) -> Ack:
        """Take a batch into memory; no input or output.

        Raises:
            Refusal: the delivery as a whole is not taken.

        """
        raise NotImplementedError

    async def commit(self) -> None:
        """Write what was taken since the last commit, in a thread."""
        raise NotImplementedError

    def commit_sync(self) -> None:
        """Write what was taken since the last commit, in one transaction, in this thread.

        Raises:
            LedgerError: the database does not take it; nothing is lost, the next call retries.

        """
        raise NotImplementedError
