"""What was taken and is not on disk yet: sums in memory, written by one commit."""

from array import array
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from wattkeeper.ledger.bulk import Row
from wattkeeper.model.holder import HolderInfo

V = TypeVar("V")

METER_BITS = 32
"""A cell's key is the slot's index shifted by this, plus the meter's id."""
KIND_BITS = 6
"""A posting's key is the holder's id shifted by this, plus its kind: what `kind` returns."""


def kind(policy: int, method: int, split: int) -> int:
    """Pack what a posting is besides its holder, two bits each."""
    return policy << 4 | method << 2 | split


def unpack_kind(packed: int) -> tuple[int, int, int]:
    """Return method, split and policy, in the order of the columns of `posting`."""
    return packed >> 2 & 3, packed & 3, packed >> 4 & 3


_IDLE_FIELDS = 6
_METER_MASK = (1 << METER_BITS) - 1


class Cell:
    """One meter in one slot.

    `postings`: key -> [µJ, ms held, greatest mW of a window, end of the last share, µJ and ms of
    it allocated but idle].
    """

    __slots__ = ("covered_ms", "held_ms", "postings", "unmeasured_ms")

    def __init__(self) -> None:
        self.postings: dict[int, list[int]] = {}
        self.covered_ms = 0
        self.unmeasured_ms = 0
        self.held_ms = 0

    def add(
        self, key: int, uj: int, ms: int, to_ms: int, idle_uj: int = 0, idle_ms: int = 0
    ) -> None:
        """Book energy and time; nothing at all leaves no posting."""
        if not uj and not ms:
            return
        power_mw = uj // ms if ms else 0
        posting = self.postings.get(key)
        if posting is None:
            self.postings[key] = [uj, ms, power_mw, to_ms, idle_uj, idle_ms]
        else:
            posting[0] += uj
            posting[1] += ms
            posting[2] = max(posting[2], power_mw)
            posting[3] = max(posting[3], to_ms)
            posting[4] += idle_uj
            posting[5] += idle_ms
        self.held_ms += ms

    def absorb(self, newer: "Cell") -> None:
        """Add what another cell of the same slot and meter holds."""
        for key, (uj, ms, power_mw, to_ms, idle_uj, idle_ms) in newer.postings.items():
            mine = self.postings.setdefault(key, [0, 0, 0, 0, 0, 0])
            mine[0] += uj
            mine[1] += ms
            mine[2] = max(mine[2], power_mw)
            mine[3] = max(mine[3], to_ms)
            mine[4] += idle_uj
            mine[5] += idle_ms
        self.covered_ms += newer.covered_ms
        self.unmeasured_ms += newer.unmeasured_ms
        self.held_ms += newer.held_ms


NodeRow = tuple[int, str, str, int]
"""Id, cluster, name, and when it was first seen."""
JournalStart = tuple[int, int, str, str, bytes]
"""Id, node, name, the name of the journal that it goes on from, and the chain's first value."""
MeterRow = tuple[int, int, str, str, str, str]
"""Id, node, name, component, source, labels."""
EventRow = tuple[int, int, str, str]
"""When, to which node, what kind of event befell, in words."""
JournalRow = tuple[int, bytes, int, int, int, int, int]
"""Record accepted, its chain value, what is known of each dictionary, when it was seen, the id."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """Ids of a node's journals and meters."""

    journals: frozenset[int]
    meters: frozenset[int]


@dataclass(slots=True)
class Pending:
    """Everything of one commit. The tuples are rows of the tables they are named after."""

    cells: dict[int, Cell] = field(default_factory=dict)
    postings: int = 0
    nodes: dict[int, Row] = field(default_factory=dict)
    journals: dict[int, JournalRow] = field(default_factory=dict)
    meters: dict[int, Row] = field(default_factory=dict)
    new_nodes: list[NodeRow] = field(default_factory=list)
    new_boots: list[Row] = field(default_factory=list)
    new_journals: list[JournalStart] = field(default_factory=list)
    new_meters: list[MeterRow] = field(default_factory=list)
    journal_meters: list[Row] = field(default_factory=list)
    journal_epochs: list[Row] = field(default_factory=list)
    holders: dict[int, tuple[int, HolderInfo]] = field(default_factory=dict)
    epochs: list[Row] = field(default_factory=list)
    points: list[Row] = field(default_factory=list)
    gaps: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    labels: dict[int, Row] = field(default_factory=dict)
    idle: "array[int]" = field(default_factory=lambda: array("q"))

    def cell(self, slot_index: int, meter: int) -> Cell:
        """Return the cell of a meter in a slot, new if need be."""
        key = slot_index << METER_BITS | meter
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def keep_idle(
        self, meter: int, gpu: int, from_ms: int, to_ms: int, uj: int, kinds: int
    ) -> None:
        """Keep what a window booked to `idle`: the scheduler may say that it was allocated.

        In one flat array: on a fleet at rest there are as many as windows.
        """
        self.idle.extend((meter, gpu, from_ms, to_ms, uj, kinds))
        self.postings += 1

    def idle_rows(self) -> Iterator[Row]:
        """Yield the rows of `idle`, in the order of `keep_idle`, method and policy at the end."""
        flat = iter(self.idle)
        for *row, kinds in zip(*[flat] * _IDLE_FIELDS, strict=True):
            method, _, policy = unpack_kind(kinds)
            yield (*row, method, policy)

    def count(self) -> None:
        """Count the postings anew."""
        self.postings = len(self.idle) // _IDLE_FIELDS
        self.postings += sum(len(cell.postings) for cell in self.cells.values())

    def nodes_touched(self) -> set[int]:
        """Return the nodes of which something is here, if only what befell them."""
        return self.nodes.keys() | {row[1] for row in self.events}

    def without(self, nodes: Mapping[int, Belongings]) -> "Pending":
        """Return what is left without all of these nodes."""
        journals = {number for own in nodes.values() for number in own.journals}
        meters = {number for own in nodes.values() for number in own.meters}
        left = Pending(
            cells={
                key: cell for key, cell in self.cells.items() if key & _METER_MASK not in meters
            },
            nodes=_but(self.nodes, nodes),
            journals=_but(self.journals, journals),
            meters=_but(self.meters, meters),
            labels=_but(self.labels, meters),
            holders={n: h for n, h in self.holders.items() if h[0] not in nodes},
        )
        for name, column, gone in (
            ("new_nodes", 0, nodes),
            ("new_boots", 0, nodes),
            ("events", 1, nodes),
            ("new_journals", 1, nodes),
            ("new_meters", 1, nodes),
            ("journal_meters", 0, journals),
            ("journal_epochs", 0, journals),
            ("refused", 0, journals),
            ("epochs", 0, meters),
            ("points", 0, meters),
            ("gaps", 0, meters),
        ):
            setattr(left, name, [row for row in getattr(self, name) if row[column] not in gone])
        flat = iter(self.idle)
        for row in zip(*[flat] * _IDLE_FIELDS, strict=True):
            if row[0] not in meters:
                left.idle.extend(row)
        left.count()
        return left

    def absorb(self, newer: "Pending") -> None:
        """Take in what was accepted after this one: a commit failed and both go to the next."""
        for key, cell in newer.cells.items():
            mine = self.cells.setdefault(key, cell)
            if mine is not cell:
                mine.absorb(cell)
        self.idle.extend(newer.idle)
        self.count()
        for name in ("nodes", "journals", "meters", "holders", "labels"):
            getattr(self, name).update(getattr(newer, name))
        for name in (
            "new_nodes",
            "new_boots",
            "new_journals",
            "new_meters",
            "journal_meters",
            "journal_epochs",
            "epochs",
            "points",
            "gaps",
            "refused",
            "events",
        ):
            getattr(self, name).extend(getattr(newer, name))


def _but(rows: dict[int, V], gone: Container[int]) -> dict[int, V]:
    return {number: row for number, row in rows.items() if number not in gone}
