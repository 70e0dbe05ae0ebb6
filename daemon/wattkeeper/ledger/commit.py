"""One commit: everything that was taken goes to disk together, or nothing does.

But for nodes that another aggregator has written since they were read: each node has a stamp, which
every commit changes, and its row is locked while a commit goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import bulk, database, schema
from wattkeeper.ledger.journals import NodeBook
from wattkeeper.ledger.naming import map_holders, see_holders
from wattkeeper.ledger.pending import KIND_BITS, METER_BITS, Pending, unpack_kind
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import FIRST_HOLDER

_SUMS = ("uj", "ms", "idle_uj", "idle_ms")
_GREATEST = ("peak_mw", "to_ms")
_CHUNK = 500


def write(
    ledger: Ledger, pending: Pending, before: Mapping[int, NodeBook], stamp: int
) -> tuple[Pending, set[int]]:
    """Write `pending` in one transaction, but for nodes that somebody else has written meanwhile.

    `before`: every node of it as it was known when this was taken. `stamp`: what those nodes have
    afterwards, another number for each commit. Returns what was written, and the nodes that were
    not: of these nothing was written, whatever was known of them is out of date.

    Raises:
        LedgerError: nothing was written, as far as the database said.

    """
    with ledger.writing() as connection:
        moved = _moved(connection, before)
        moved |= _enter(connection, _without(pending, before, moved), stamp)
        pending = _without(pending, before, moved)
        _write_identities(connection, pending)
        seen, born = _write_cells(connection, pending, ledger.slot_ms)
        _write_chain(connection, pending)
        _write_states(connection, pending, stamp)
        # Jobs are on several nodes: whose holders are one run only one writer at a time may say.
        # It comes last, so that the others wait for no more than this.
        database.lock_names(connection)
        see_holders(connection, seen)
        map_holders(connection, pending.holders, born)
    return pending, moved


def _moved(connection: sa.Connection, before: Mapping[int, NodeBook]) -> set[int]:
    """Lock the nodes that are known, in the order of their ids; return those that are others."""
    node = schema.node.c
    known = sorted(number for number, book in before.items() if book.stamp)
    found: dict[int, int] = {}
    for begin in range(0, len(known), _CHUNK):
        some = node.id.in_(known[begin : begin + _CHUNK])
        query = sa.select(node.id, node.stamp).where(some).order_by(node.id).with_for_update()
        found.update((row.id, row.stamp) for row in connection.execute(query))
    return {number for number in known if found.get(number) != before[number].stamp}


def _without(pending: Pending, before: Mapping[int, NodeBook], moved: AbstractSet[int]) -> Pending:
    if not moved:
        return pending
    return pending.without({number: before[number].belongings() for number in moved})


def _enter(connection: sa.Connection, pending: Pending, stamp: int) -> set[int]:
    """Write what is new by its names, in their order; return nodes that another one was first on.

    Who comes second waits for the first one's commit, and then finds that it is not its own.
    """
    node, journal, meter = schema.node.c, schema.journal.c, schema.meter.c
    nodes = sorted(pending.new_nodes, key=itemgetter(1, 2))
    columns = "id cluster name seen_ms skew_ms stamp"
    bulk.insert_new(connection, schema.node, columns, [(*row, 0, stamp) for row in nodes])
    own = (node.id, node.cluster, node.name, node.stamp)
    there = _there(connection, own, [(*row[:3], stamp) for row in nodes])
    lost = {row[0] for row in nodes if row[0] not in there}

    starts = [row for row in pending.new_journals if row[1] not in lost]
    starts.sort(key=itemgetter(2))
    columns = "id node name fork_of hash seq meters holders epochs seen_ms"
    bulk.insert_new(connection, schema.journal, columns, [(*row, 0, 0, 0, 0, 0) for row in starts])
    own_journal = (journal.id, journal.node, journal.name)
    there = _there(connection, own_journal, [row[:3] for row in starts])
    lost |= {row[1] for row in starts if row[0] not in there}

    meters = [row for row in pending.new_meters if row[1] not in lost]
    meters.sort(key=itemgetter(1, 2))
    columns = "id node name component source labels end_ms boot_ms uj epoch points resume"
    rows = [(*row, 0, 0, 0, 0, 0, 1) for row in meters]
    bulk.insert_new(connection, schema.meter, columns, rows)
    own_meter = (meter.id, meter.node, meter.name)
    there = _there(connection, own_meter, [row[:3] for row in meters])
    return lost | {row[1] for row in meters if row[0] not in there}


def _there(
    connection: sa.Connection,
    columns: "Sequence[sa.ColumnElement[Any]]",
    rows: Sequence[bulk.Row],
) -> set[object]:
    """Return which of the rows are in the ledger as they are, by their ids, the first column."""
    found: set[object] = set()
    for begin in range(0, len(rows), _CHUNK):
        some = set(rows[begin : begin + _CHUNK])
        query = sa.select(*columns).where(columns[0].in_([row[0] for row in some]))
        found.update(row[0] for row in connection.execute(query) if tuple(row) in some)
    return found


def _write_identities(connection: sa.Connection, pending: Pending) -> None:
    bulk.insert(connection, schema.boot, "node boot", pending.new_boots)
    bulk.insert(connection, schema.journal_meter, "journal number meter", pending.journal_meters)
    columns = "journal number boot load reset"
    bulk.insert(connection, schema.journal_epoch, columns, pending.journal_epochs)
    bulk.insert(connection, schema.epoch, "meter ordinal boot load reset", pending.epochs)


def _write_cells(
    connection: sa.Connection, pending: Pending, slot_ms: int
) -> tuple[dict[int, int], dict[int, int]]:
    """Write postings and coverage with their daily sums.

    Returns when each holder was last seen: of those that are known, and of those that are new.
    Piece by piece: with millions of postings the rows of all would cost more than the sums.
    """
    times = ("covered_ms", "unmeasured_ms")
    seen: dict[int, int] = {}
    born: dict[int, int] = {}
    postings = _postings(pending, slot_ms)
    while chunk := list(islice(postings, bulk.CHUNK)):
        post(connection, chunk)
        for row in chunk:
            holder, to_ms = row[2], row[9]
            if holder >= FIRST_HOLDER:
                into = born if holder in pending.holders else seen
                into[holder] = max(to_ms, into.get(holder, 0))
    cells = [(*divmod(key, 1 << METER_BITS), cell) for key, cell in sorted(pending.cells.items())]
    bulk.accumulate(
        connection,
        schema.coverage,
        (*times, "held_ms"),
        (),
        ((i * slot_ms, m, c.covered_ms, c.unmeasured_ms, c.held_ms) for i, m, c in cells),
    )
    bulk.accumulate(
        connection,
        schema.coverage_day,
        (*times, "held_ms"),
        (),
        ((m, i * slot_ms // DAY_MS, c.covered_ms, c.unmeasured_ms, c.held_ms) for i, m, c in cells),
    )
    return seen, born


def post(connection: sa.Connection, postings: Sequence[tuple[int, ...]]) -> None:
    """Add rows of `posting` to the books and to their daily sums, the second entry."""
    bulk.accumulate(connection, schema.posting, _SUMS, _GREATEST, postings)
    by_holder = sorted((row[2], row[0] // DAY_MS, row[1], *row[3:]) for row in postings)
    bulk.accumulate(connection, schema.rollup, _SUMS, _GREATEST, by_holder)


def _postings(pending: Pending, slot_ms: int) -> Iterator[tuple[int, ...]]:
    """Yield the rows of `posting` in the order of its key."""
    for place in sorted(pending.cells):
        index, meter = divmod(place, 1 << METER_BITS)
        for key, figures in sorted(pending.cells[place].postings.items()):
            yield (index * slot_ms, meter, key >> KIND_BITS, *unpack_kind(key), *figures)


def _write_chain(connection: sa.Connection, pending: Pending) -> None:
    bulk.insert(connection, schema.point, "meter n epoch at_ms value_uj seal", pending.points)
    bulk.insert(connection, schema.gap, "meter from_ms to_ms uj reason", pending.gaps)
    bulk.insert(connection, schema.refused, "journal seq meter at_ms reason", pending.refused)
    columns = "meter gpu from_ms to_ms uj method policy"
    bulk.insert(connection, schema.idle, columns, pending.idle_rows())
    bulk.insert(connection, schema.event, "at_ms node kind detail", pending.events)


def _write_states(connection: sa.Connection, pending: Pending, stamp: int) -> None:
    columns = "first_ms end_ms boot_ms uj journal epoch points resume"
    bulk.update(connection, schema.meter, columns, "id", list(pending.meters.values()))
    labels = list(pending.labels.values())
    bulk.update(connection, schema.meter, "source labels", "id", labels)
    columns = "seq hash meters holders epochs seen_ms"
    bulk.update(connection, schema.journal, columns, "id", list(pending.journals.values()))
    columns = "stamp journal boot agent seen_ms skew_ms"
    nodes = [(stamp, *row) for row in pending.nodes.values()]
    bulk.update(connection, schema.node, columns, "id", nodes)
