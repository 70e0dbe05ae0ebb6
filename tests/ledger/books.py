"""A node that writes journals by hand: records, chain and dictionary, without the node's code."""

from dataclasses import dataclass, field, replace

from wattkeeper.delivery.wire import GENESIS, Ack, Batch, chain, encode_record
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, Method
from wattkeeper.model.window import EpochInfo, Point, Record, Share, Split, Window

T0 = 1_800_000_000_000 - 1_800_000_000_000 % 900_000
"""A slot line in 2027, where every test begins."""
SLOT = 900_000
WINDOW = 10_000


@dataclass
class Journal:
    """One journal of a node and what was written to it."""

    name: str = "journal-1"
    node: str = "n1"
    boot: str = "boot-1"
    cluster: str = "c"
    boot_offset: int = T0 - 1_000_000
    wall_error: int = 0
    meters: dict[int, MeterInfo] = field(default_factory=dict)
    holders: dict[int, HolderInfo] = field(default_factory=dict)
    epochs: dict[int, EpochInfo] = field(default_factory=lambda: {1: EpochInfo("boot-1", "load")})
    records: list[bytes] = field(default_factory=list)
    oldest: int = 1
    fork_of: str = ""

    def write(self, *records: Record) -> None:
        """Append records."""
        self.records += [encode_record(record) for record in records]

    def batch(self, first: int = 1, last: int | None = None, now_ms: int = T0) -> Batch:
        """Return the delivery of the records `first` to `last` with the whole dictionary."""
        value = GENESIS
        for payload in self.records[: first - 1]:
            value = chain(value, payload)
        return Batch(
            cluster=self.cluster,
            node=self.node,
            journal=self.name,
            boot=self.boot,
            agent="test",
            wall_ms=now_ms + self.wall_error,
            boot_ms=now_ms - self.boot_offset,
            oldest=self.oldest,
            first=first,
            previous=value,
            records=tuple(self.records[first - 1 : last]),
            meters=self.meters,
            holders=self.holders,
            epochs=self.epochs,
            fork_of=self.fork_of,
        )

    def deliver(self, intake: Intake, now_ms: int, first: int | None = None) -> Ack:
        """Deliver everything from `first` on, as often as the answer moves the cursor."""
        ack = take(intake, self.batch(first or 1, None, now_ms), now_ms)
        for _ in range(40):
            if ack.accepted >= len(self.records):
                break
            first = max(ack.accepted + 1, self.oldest)
            ack = take(intake, self.batch(first, None, now_ms), now_ms)
        return ack


def take(intake: Intake, batch: Batch, now_ms: int) -> Ack:
    """Take a delivery as the aggregator does."""
    if not intake.knows(batch):
        intake.look(batch)
    return intake.accept(batch, now_ms)


@dataclass
class Meter:
    """One meter of a journal, counting up; writes its windows and points."""

    journal: Journal
    number: int = 1
    name: str = "gpu/GPU-1"
    component: Component = Component.GPU
    epoch: int = 1
    at_ms: int = T0
    uj: int = 1_000_000

    def __post_init__(self) -> None:
        """Enter the dictionary."""
        self.journal.meters[self.number] = MeterInfo(self.name, self.component, "test")

    def boot(self, at_ms: int) -> int:
        """Return boot time at an instant of UTC."""
        return at_ms - self.journal.boot_offset - self.journal.wall_error

    def point(self) -> None:
        """Write the count as it is."""
        self.journal.write(
            Point(self.number, self.epoch, self.at_ms, self.boot(self.at_ms), self.uj)
        )

    def window(self, *shares: tuple[int, int], ms: int = WINDOW, split: int = 0) -> Window:
        """Write a window of (holder, µJ) shares, and a point if it ends on a slot line."""
        window = self.next_window(*shares, ms=ms, split=split)
        self.journal.write(window)
        self.at_ms, self.uj = window.end_ms, window.last_uj
        if self.at_ms % SLOT == 0:
            self.point()
        return window

    def next_window(self, *shares: tuple[int, int], ms: int = WINDOW, split: int = 0) -> Window:
        """Return the window that would come next, without writing it."""
        return Window(
            meter=self.number,
            epoch=self.epoch,
            start_ms=self.at_ms,
            end_ms=self.at_ms + ms,
            boot_ms=self.boot(self.at_ms + ms),
            first_uj=self.uj,
            last_uj=self.uj + sum(uj for _, uj in shares),
            covered_ms=ms,
            method=Method.COUNTER,
            shares=tuple(Share(holder, uj, 0, ms, Split(split)) for holder, uj in shares),
        )

    def run(self, windows: int, *shares: tuple[int, int]) -> None:
        """Write several windows."""
        for _ in range(windows):
            self.window(*shares)

    def into(self, journal: Journal, epoch: int = 1) -> "Meter":
        """Return the same meter as it goes on in another journal."""
        return replace(self, journal=journal, epoch=epoch)


def holder(raw_id: str, birth_ms: int = T0, **labels: str) -> HolderInfo:
    """Return a holder of the simulated manager."""
    return HolderInfo("simulated", raw_id, birth_ms, labels)


__all__ = ["SLOT", "T0", "WINDOW", "Journal", "Ledger", "Meter", "holder"]
