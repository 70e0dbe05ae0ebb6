"""What the ledger knows of nodes, their journals and meters, read back."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from wattkeeper.delivery.wire import Batch
from wattkeeper.ledger import schema
from wattkeeper.ledger.entries import fingerprint
from wattkeeper.ledger.journals import JournalBook, NodeBook
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.roster import RECENT_HOLDERS, gpu_index
from wattkeeper.model.meter import Component
from wattkeeper.model.window import EpochInfo

_CHUNK = 500


def load(connection: sa.Connection, only: Collection[int] | None = None) -> list[NodeBook]:
    """Return nodes as the ledger has them: those of these ids, or all."""
    books = _Books(connection, None if only is None else sorted(only))
    current = books.read_nodes()
    books.read_journals()
    books.read_meters()
    books.read_dictionaries()
    books.read_epochs()
    books.read_points()
    for node, journal in current.items():
        books.nodes[node].current = books.journals.get(journal)
    return list(books.nodes.values())


def concerned(connection: sa.Connection, batch: Batch) -> set[int]:
    """Return which nodes a delivery is about: its own, its journal's, and those of its meters."""
    node, journal, meter = schema.node.c, schema.journal.c, schema.meter.c
    names = sorted({info.name for info in batch.meters.values()})
    queries = [
        sa.select(node.id).where(node.cluster == batch.cluster, node.name == batch.node),
        sa.select(journal.node).where(journal.name == batch.journal),
        sa.select(meter.node)
        .where(meter.name.in_(names), meter.component == Component.GPU.value)
        .distinct(),
    ]
    return {number for query in queries for number in connection.scalars(query)}


def named(connection: sa.Connection, names: Iterable[tuple[str, str]]) -> set[int]:
    """Return the ids of nodes by cluster and name."""
    node = schema.node.c
    wanted = sorted(set(names))
    found: set[int] = set()
    for begin in range(0, len(wanted), _CHUNK):
        some = sa.tuple_(node.cluster, node.name).in_(wanted[begin : begin + _CHUNK])
        found.update(connection.scalars(sa.select(node.id).where(some)))
    return found


@dataclass(slots=True)
class _Books:
    connection: sa.Connection
    only: Sequence[int] | None
    nodes: dict[int, NodeBook] = field(default_factory=dict)
    journals: dict[int, JournalBook] = field(default_factory=dict)
    meters: dict[int, MeterBook] = field(default_factory=dict)

    def _rows(self, query: "sa.Select[Any]", node: "sa.ColumnElement[int]") -> Iterator[Any]:
        """Yield the rows of a query that belong to one of the nodes."""
        if self.only is None:
            yield from self.connection.execute(query)
            return
        for begin in range(0, len(self.only), _CHUNK):
            mine = node.in_(self.only[begin : begin + _CHUNK])
            yield from self.connection.execute(query.where(mine))

    def _of_journal(self, table: sa.Table) -> Iterator[Any]:
        query = sa.select(table).join(schema.journal, schema.journal.c.id == table.c.journal)
        return self._rows(query, schema.journal.c.node)

    def read_nodes(self) -> dict[int, int]:
        current: dict[int, int] = {}
        for row in self._rows(sa.select(schema.node), schema.node.c.id):
            node = NodeBook(row.id, row.cluster, row.name)
            node.boot, node.agent, node.stamp = row.boot, row.agent, row.stamp
            node.seen_ms, node.skew_ms = row.seen_ms, row.skew_ms
            self.nodes[row.id] = node
            if row.journal is not None:
                current[row.id] = row.journal
        for row in self._rows(sa.select(schema.boot), schema.boot.c.node):
            self.nodes[row.node].boots.add(row.boot)
        return current

    def read_journals(self) -> None:
        for row in self._rows(sa.select(schema.journal), schema.journal.c.node):
            journal = JournalBook(row.id, self.nodes[row.node], row.name)
            journal.accepted = journal.committed = row.seq
            journal.hash = row.hash
            journal.known_meters = row.meters
            journal.known_holders = row.holders
            journal.known_epochs = row.epochs
            journal.seen_ms = row.seen_ms
            journal.node.journals.append(journal)
            self.journals[row.id] = journal

    def read_meters(self) -> None:
        for row in self._rows(sa.select(schema.meter), schema.meter.c.node):
            meter = MeterBook(row.id, row.node, row.name, row.component)
            meter.first_ms = row.first_ms
            meter.end_ms, meter.boot_ms, meter.uj = row.end_ms, row.boot_ms, row.uj
            meter.journal = row.journal or 0
            meter.epoch, meter.points, meter.resume = row.epoch, row.points, bool(row.resume)
            meter.gpu = gpu_index(row.component, json.loads(row.labels or "{}"))
            self.meters[row.id] = self.nodes[row.node].meters[row.name] = meter

    def read_dictionaries(self) -> None:
        for row in self._of_journal(schema.journal_meter):
            self.journals[row.journal].meters[row.number] = self.meters[row.meter]
        for row in self._of_journal(schema.journal_epoch):
            self.journals[row.journal].epochs[row.number] = EpochInfo(row.boot, row.load, row.reset)
        holder = schema.holder.c
        for journal in self.journals.values():
            newest = journal.base | journal.known_holders
            query = sa.select(holder.id, holder.manager, holder.raw_id, holder.birth_ms).where(
                holder.id.between(newest - RECENT_HOLDERS + 1, newest), holder.id > journal.base
            )
            for row in self.connection.execute(query):
                known = fingerprint(row.manager, row.raw_id, row.birth_ms)
                journal.recent[row.id - journal.base] = known

    def read_epochs(self) -> None:
        epoch = schema.epoch
        query = sa.select(epoch).join(schema.meter, schema.meter.c.id == epoch.c.meter)
        for row in self._rows(query, schema.meter.c.node):
            meter = self.meters[row.meter]
            if row.ordinal == meter.epoch:
                meter.info = EpochInfo(row.boot, row.load, row.reset)
            else:
                meter.past.add(row.boot)
        for meter in self.meters.values():
            meter.past.discard(meter.info.boot)
            if meter.journal:
                # The journal's own object, so that the intake can compare by identity.
                epochs = self.journals[meter.journal].epochs.values()
                meter.info = next((info for info in epochs if info == meter.info), meter.info)

    def read_points(self) -> None:
        point, meter = schema.point.c, schema.meter.c
        newest = sa.and_(point.meter == meter.id, point.n == meter.points)
        query = sa.select(schema.point).join(schema.meter, newest)
        for row in self._rows(query, meter.node):
            book = self.meters[row.meter]
            book.point_epoch, book.point_at_ms = row.epoch, row.at_ms
            book.point_uj, book.seal = row.value_uj, row.seal
