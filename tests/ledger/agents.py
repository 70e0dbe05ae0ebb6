"""Agents behind a load balancer: they send as the real one does, now here and now there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgspec
from tests.ledger.books import SLOT, T0, Journal, Meter, holder

from wattkeeper.delivery.wire import Ack, Batch
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.model.holder import FIRST_HOLDER
from wattkeeper.model.window import Record, Unmeasured

NOW = T0 + 20 * SLOT


@dataclass
class Agent:
    """One node's agent: what it has written, and what the last answer told it."""

    journal: Journal
    meters: list[Meter]
    now_ms: int
    accepted: int = 0
    known: tuple[int, int, int] = (0, FIRST_HOLDER - 1, 0)
    earlier: list[Batch] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, number: int, at_ms: int = T0) -> "Agent":
        """Return the agent of a node with two GPUs, on which a job of all nodes runs."""
        journal = Journal(f"journal-{number}", f"n{number}", boot_offset=at_ms - 1_000_000)
        journal.holders[16] = holder("7", at_ms, account="lab")
        names = [f"gpu/GPU-{number}-{gpu}" for gpu in range(2)]
        meters = [Meter(journal, i, name, at_ms=at_ms) for i, name in enumerate(names, 1)]
        for meter in meters:
            meter.point()
        return cls(journal, meters, at_ms + 20 * SLOT)

    def work(self, chance: Random) -> None:
        """Meter for a while: windows, another job, a gap of knowledge."""
        for meter in self.meters:
            for _ in range(chance.randrange(1, 30)):
                if (meter.at_ms + 10_000) % SLOT < 10_000:
                    meter.window((1, 3), ms=SLOT - meter.at_ms % SLOT)
                meter.window((max(self.journal.holders), chance.randrange(10**6)), (1, 7))
        if chance.random() < 0.3:
            number = max(self.journal.holders) + 1
            self.journal.holders[number] = holder(
                f"{self.journal.node}-{number}", self.meters[0].at_ms, account="a"
            )
        if chance.random() < 0.2:
            meter = chance.choice(self.meters)
            meter.point()
            end = meter.at_ms + 1000
            record: Record = Unmeasured(meter.number, meter.at_ms, end, meter.boot(end), "reset")
            self.journal.write(record)
            meter.at_ms = end
            meter.point()

    def send(self, deliver: Callable[[Batch], Ack], chance: Random) -> None:
        """Deliver what was not accepted, or once more something from before.

        Raises:
            OSError: nobody took it; it is sent again another time.

        """
        batch = self._next(chance)
        if self.earlier and chance.random() < 0.2:
            batch = chance.choice(self.earlier)
        self.earlier.append(batch)
        try:
            ack = deliver(batch)
        except Refusal as refusal:
            self.refused.append(refusal.detail)
            return
        if chance.random() < 0.9:  # else the answer was lost
            self._hear(ack)

    @property
    def done(self) -> bool:
        """Whether all that it wrote is committed."""
        return self.journal.oldest > len(self.journal.records)

    def _next(self, chance: Random) -> Batch:
        first = max(self.accepted + 1, self.journal.oldest)
        batch = self.journal.batch(first, first + chance.randrange(60), self.now_ms)
        meters, holders, epochs = self.known
        return msgspec.structs.replace(
            batch,
            meters={n: entry for n, entry in batch.meters.items() if n > meters},
            holders={n: entry for n, entry in batch.holders.items() if n > holders},
            epochs={n: entry for n, entry in batch.epochs.items() if n > epochs},
        )

    def _hear(self, ack: Ack) -> None:
        assert ack.committed <= ack.accepted <= len(self.journal.records)
        self.accepted = ack.accepted
        self.known = ack.meters, ack.holders, ack.epochs
        self.journal.oldest = max(self.journal.oldest, ack.committed + 1)
