"""What an aggregator knows of the ledger and has not written yet; and how it is written.

Several may share a ledger, each with a writer of its own. What another one wrote of a node first
is found at the commit (`commit.write`): what is in memory of that node is thrown away, the node is
read anew, and its agent is rewound to what is on disk. So every record is booked once, wherever an
agent sends it, and however often.
"""

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.delivery.wire import Batch
from wattkeeper.ledger.commit import write
from wattkeeper.ledger.continuity import Continuity
from wattkeeper.ledger.database import draw
from wattkeeper.ledger.grants import granting
from wattkeeper.ledger.journals import NodeBook
from wattkeeper.ledger.load import concerned, load, named
from wattkeeper.ledger.pending import Pending
from wattkeeper.ledger.roster import Roster
from wattkeeper.ledger.store import Ledger, LedgerError

_NUMBERS_FOR_A_NODE = 2
"""A new node and its journal, beside its meters."""
_RESERVE = 256
"""Ids that are drawn at once; those that are left at the end are given to nobody."""


@dataclass(slots=True)
class IntakeCounts:
    """What the intake did since it started. `overlaps`: records whose time was booked already.

    `moved`: nodes that another aggregator had written first, and that were read anew.
    """

    batches: int = 0
    records: int = 0
    windows: int = 0
    replayed: int = 0
    overlaps: int = 0
    refused: int = 0
    refusals: int = 0
    commits: int = 0
    moved: int = 0
    failed_commits: int = 0


class Writer:
    """Nodes as they are known, and what was taken of them since the last commit."""

    def __init__(self, ledger: Ledger, *, takeover_after_ms: int = 60_000) -> None:
        self._ledger = ledger
        self._numbers: deque[int] = deque()
        self._roster = Roster(takeover_after_ms, self._numbers if ledger.shared else None)
        self._continuity = Continuity(ledger.slot_ms)
        self._pending = Pending()
        self._writing: Mapping[int, NodeBook] = {}
        self._taking = threading.Lock()
        self._committing = threading.Lock()
        self.counts = IntakeCounts()
        with ledger.reading() as connection:
            self._roster.granting = granting(connection)
            for node in load(connection):
                self._roster.enter(node)
        if ledger.shared:
            self._draw()

    @property
    def pending_postings(self) -> int:
        """Postings in memory that wait for the next commit."""
        return self._pending.postings

    def follow_grants(self, clusters: set[str]) -> None:
        """Keep what is booked to `idle` of the GPUs of these clusters: `granting_clusters`."""
        with self._taking:
            if clusters != self._roster.granting:
                self._roster.grant(clusters)

    async def commit(self) -> None:
        """Write what was taken since the last commit, in a thread. Raises as `commit_sync`."""
        await asyncio.to_thread(self.commit_sync)

    def commit_sync(self) -> None:
        """Write what was taken since the last commit, in one transaction, in this thread.

        Raises:
            LedgerError: the database does not take it; nothing is lost, the next call retries.

        """
        with self._committing:
            with self._taking:
                taken, self._pending = self._pending, Pending()
                nodes = self._roster.node_by_id
                self._writing = {number: nodes[number] for number in taken.nodes_touched()}
            # Random, so that a ledger that was restored never looks like one that went on.
            stamp = secrets.randbits(62) + 1
            done = False
            try:
                written, moved = write(self._ledger, taken, self._writing, stamp)
                done = True
            finally:
                if not done:
                    self._put_back(taken)
            lost = self._settle(written, moved, stamp)
            if lost:
                self._read_anew(lost)

    def knows(self, batch: Batch) -> bool:
        """Tell whether a delivery can be judged by what is in memory; else `look` first.

        Where one process writes the ledger it always can. An agent that comes from another
        aggregator goes on where that one was.
        """
        if not self._ledger.shared:
            return True
        return self._has_numbers(batch) and self._roster.knows(batch)

    def look(self, batch: Batch) -> None:
        """Read what the ledger has of the nodes that a delivery is about. Blocks.

        Raises:
            LedgerError: the ledger cannot be read.

        """
        commits = self.counts.commits
        if not self._has_numbers(batch):
            self._draw(len(batch.meters))
        with self._reading() as connection:
            nodes = load(connection, concerned(connection, batch))
        with self._taking:
            if commits != self.counts.commits:
                return  # what was read may be older than what was written since
            for node in nodes:
                known = self._roster.nodes.get((node.cluster, node.name))
                if known is None:
                    self._roster.enter(node)
                elif known.stamp != node.stamp and known.id not in self._writing:
                    self._forget([known])
                    self._roster.enter(node)

    def _settle(self, written: Pending, moved: AbstractSet[int], stamp: int) -> list[NodeBook]:
        """Take note of a commit; return the nodes of which nothing is known any more."""
        with self._taking:
            nodes, self._writing = self._writing, {}
            self.counts.commits += 1
            self.counts.moved += len(moved)
            for number in written.nodes:
                nodes[number].stamp = stamp
                for journal in nodes[number].journals:
                    if journal.id in written.journals:
                        journal.committed = written.journals[journal.id][0]
            lost = [nodes[number] for number in moved]
            if lost and not self._ledger.shared:
                lost = list(self._roster.node_by_id.values())
            self._forget(lost)
            return lost

    def _forget(self, nodes: Sequence[NodeBook]) -> None:
        """Forget all that is not on disk of these: the agents have it, and are rewound."""
        if not nodes:
            return
        self._pending = self._pending.without({node.id: node.belongings() for node in nodes})
        for node in nodes:
            self._roster.forget(node)

    def _read_anew(self, lost: Sequence[NodeBook]) -> None:
        """Read nodes as somebody else wrote them; in a ledger that nobody should share, all."""
        with self._reading() as connection:
            names = ((node.cluster, node.name) for node in lost)
            only = named(connection, names) if self._ledger.shared else None
            nodes = load(connection, only)
        with self._taking:
            for node in nodes:
                if (node.cluster, node.name) not in self._roster.nodes:
                    self._roster.enter(node)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._ledger.reading() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise LedgerError(f"ledger: not read: {error.orig}") from error

    def _has_numbers(self, batch: Batch) -> bool:
        return len(self._numbers) >= len(batch.meters) + _NUMBERS_FOR_A_NODE

    def _draw(self, count: int = 0) -> None:
        with self._ledger.writing() as connection:
            self._numbers.extend(draw(connection, count + _RESERVE))

    def _put_back(self, taken: Pending) -> None:
        with self._taking:
            taken.absorb(self._pending)
            self._pending, self._writing = taken, {}
            self.counts.failed_commits += 1
