"""What the intake knew at the last commit, read back at its start."""

import json

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.commit import stamp
from wattkeeper.ledger.grants import granting
from wattkeeper.ledger.journals import JournalBook, NodeBook
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.roster import RECENT_HOLDERS, Roster, fingerprint, gpu_index
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.model.window import EpochInfo


def load(ledger: Ledger, takeover_after_ms: int) -> tuple[Roster, str]:
    """Return every node, journal and meter as the ledger has them, and its newest stamp."""
    roster = Roster(takeover_after_ms)
    with ledger.reading() as connection:
        current = _nodes(connection, roster)
        journals = _journals(connection, roster)
        meters = _meters(connection, roster)
        _dictionaries(connection, journals, meters)
        _epochs(connection, journals, meters)
        _points(connection, meters)
        newest = stamp(connection)
        roster.grant(granting(connection))
    for node, journal in current.items():
        roster.node_by_id[node].current = journals.get(journal)
    return roster, newest


def _nodes(connection: sa.Connection, roster: Roster) -> dict[int, int]:
    current: dict[int, int] = {}
    for row in connection.execute(sa.select(schema.node)):
        node = NodeBook(row.id, row.cluster, row.name)
        node.boot, node.agent = row.boot, row.agent
        node.seen_ms, node.skew_ms = row.seen_ms, row.skew_ms
        roster.nodes[row.cluster, row.name] = roster.node_by_id[row.id] = node
        if row.journal is not None:
            current[row.id] = row.journal
    for row in connection.execute(sa.select(schema.boot)):
        roster.node_by_id[row.node].boots.add(row.boot)
    return current


def _journals(connection: sa.Connection, roster: Roster) -> dict[int, JournalBook]:
    journals: dict[int, JournalBook] = {}
    for row in connection.execute(sa.select(schema.journal)):
        journal = JournalBook(row.id, roster.node_by_id[row.node], row.name)
        journal.accepted = journal.committed = row.seq
        journal.hash = row.hash
        journal.known_meters = row.meters
        journal.known_holders = row.holders
        journal.known_epochs = row.epochs
        journal.seen_ms = row.seen_ms
        journals[row.id] = roster.journals[row.name] = journal
    return journals


def _meters(connection: sa.Connection, roster: Roster) -> dict[int, MeterBook]:
    meters: dict[int, MeterBook] = {}
    for row in connection.execute(sa.select(schema.meter)):
        host = row.component == Component.HOST
        meter = MeterBook(row.id, row.node, row.name, host)
        meter.first_ms = row.first_ms
        meter.end_ms, meter.boot_ms, meter.uj = row.end_ms, row.boot_ms, row.uj
        meter.journal = row.journal or 0
        meter.epoch, meter.points, meter.resume = row.epoch, row.points, bool(row.resume)
        meters[row.id] = roster.meters[row.node, row.name] = meter
        if row.component == Component.GPU:
            meter.gpu = gpu_index(row.component, json.loads(row.labels or "{}"))
            rival = roster.by_uuid.get(row.name)
            if rival is None or rival.end_ms < meter.end_ms:
                roster.by_uuid[row.name] = meter
    return meters


def _dictionaries(
    connection: sa.Connection, journals: dict[int, JournalBook], meters: dict[int, MeterBook]
) -> None:
    for row in connection.execute(sa.select(schema.journal_meter)):
        journals[row.journal].meters[row.number] = meters[row.meter]
    for row in connection.execute(sa.select(schema.journal_epoch)):
        journals[row.journal].epochs[row.number] = EpochInfo(row.boot, row.load, row.reset)
    holder = schema.holder.c
    for journal in journals.values():
        newest = journal.base | journal.known_holders
        query = sa.select(holder.id, holder.manager, holder.raw_id, holder.birth_ms).where(
            holder.id.between(newest - RECENT_HOLDERS + 1, newest), holder.id > journal.base
        )
        for row in connection.execute(query):
            known = fingerprint(row.manager, row.raw_id, row.birth_ms)
            journal.recent[row.id - journal.base] = known


def _epochs(
    connection: sa.Connection, journals: dict[int, JournalBook], meters: dict[int, MeterBook]
) -> None:
    for row in connection.execute(sa.select(schema.epoch)):
        meter = meters[row.meter]
        if row.ordinal == meter.epoch:
            meter.info = EpochInfo(row.boot, row.load, row.reset)
        else:
            meter.past.add(row.boot)
    for meter in meters.values():
        meter.past.discard(meter.info.boot)
        if meter.journal:
            # The journal's own object, so that the intake can compare by identity.
            epochs = journals[meter.journal].epochs.values()
            meter.info = next((info for info in epochs if info == meter.info), meter.info)


def _points(connection: sa.Connection, meters: dict[int, MeterBook]) -> None:
    point, meter = schema.point.c, schema.meter.c
    newest = sa.and_(point.meter == meter.id, point.n == meter.points)
    for row in connection.execute(sa.select(schema.point).join(schema.meter, newest)):
        book = meters[row.meter]
        book.point_epoch, book.point_at_ms = row.epoch, row.at_ms
        book.point_uj, book.seal = row.value_uj, row.seal
