"""Nodes and their journals: who may deliver, from which record on, with which dictionary."""

from wattkeeper.delivery.wire import GENESIS
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.pending import Belongings
from wattkeeper.ledger.schema import HOLDER_BITS
from wattkeeper.model.holder import FIRST_HOLDER
from wattkeeper.model.window import EpochInfo


class NodeBook:
    """A node: its journals and meters, the boots it was seen in, its current journal.

    `stamp` is the ledger's as of when all of this was read or committed, 0 for a new node: where
    the ledger has another one, somebody else wrote.
    """

    __slots__ = (
        "agent", "boot", "boots", "cluster", "current", "id", "journals", "meters", "name",
        "seen_ms", "skew_ms", "stamp",
    )  # fmt: skip

    def __init__(self, number: int, cluster: str, name: str) -> None:
        self.id = number
        self.cluster = cluster
        self.name = name
        self.current: JournalBook | None = None
        self.journals: list[JournalBook] = []
        self.meters: dict[str, MeterBook] = {}
        self.stamp = 0
        self.boots: set[str] = set()
        self.boot = ""
        self.agent = ""
        self.seen_ms = 0
        self.skew_ms = 0

    def belongings(self) -> Belongings:
        """Return the ids of its journals and meters; deliveries may go on in another thread."""
        return Belongings(
            frozenset(journal.id for journal in list(self.journals)),
            frozenset(meter.id for meter in list(self.meters.values())),
        )


class JournalBook:
    """A journal: how far it was taken (`accepted`, `hash`), how far it is on disk (`committed`).

    `known_*`: highest dictionary number known. `base`: what makes its holder numbers ids.
    `asked`: how often in a row it was asked for the same dictionary entries.
    `recent`: fingerprints of its newest holders, to tell a redefinition.
    """

    __slots__ = (
        "accepted", "asked", "base", "committed", "epochs", "hash", "id", "known_epochs",
        "known_holders", "known_meters", "meters", "name", "node", "recent", "seen_ms",
    )  # fmt: skip

    def __init__(self, number: int, node: NodeBook, name: str) -> None:
        self.id = number
        self.base = number << HOLDER_BITS
        self.node = node
        self.name = name
        self.accepted = 0
        self.hash = GENESIS
        self.committed = 0
        self.meters: dict[int, MeterBook] = {}
        self.epochs: dict[int, EpochInfo] = {}
        self.known_meters = 0
        self.known_epochs = 0
        self.known_holders = FIRST_HOLDER - 1
        self.recent: dict[int, int] = {}
        self.asked = 0
        self.seen_ms = 0
