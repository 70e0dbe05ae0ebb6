"""One commit: everything that was taken goes to disk together, or nothing does."""

from collections.abc import Iterator, Sequence
from itertools import islice

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.naming import map_holders, see_holders
from wattkeeper.ledger.pending import KIND_BITS, METER_BITS, Pending, unpack_kind
from wattkeeper.ledger.store import Ledger, LedgerMovedError
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import FIRST_HOLDER

_SUMS = ("uj", "ms", "idle_uj", "idle_ms")
_GREATEST = ("peak_mw", "to_ms")
_STAMP = schema.setting.c.key == "commit"


def stamp(connection: sa.Connection) -> str:
    """Return what the newest commit was stamped with, "" before the first."""
    query = sa.select(schema.setting.c.value).where(_STAMP)
    return str(connection.execute(query).scalar() or "")


def write(ledger: Ledger, pending: Pending, before: str, now: str) -> None:
    """Write all of `pending` in one transaction stamped `now`; the one `before` is the newest.

    Raises:
        LedgerMovedError: another commit is the newest; nothing was written.
        LedgerError: nothing was written, as far as the database said.

    """
    with ledger.writing() as connection:
        if stamp(connection) != before:
            raise LedgerMovedError("ledger: written by another, or a commit's answer was lost")
        connection.execute(sa.delete(schema.setting).where(_STAMP))
        connection.execute(sa.insert(schema.setting).values(key="commit", value=now))
        _write_identities(connection, pending)
        _write_cells(connection, pending, ledger.slot_ms)
        _write_chain(connection, pending)
        _write_states(connection, pending)


def _write_identities(connection: sa.Connection, pending: Pending) -> None:
    nodes = [(number, cluster, name, seen, 0) for number, cluster, name, seen in pending.new_nodes]
    bulk.insert(connection, schema.node, "id cluster name seen_ms skew_ms", nodes)
    bulk.insert(connection, schema.boot, "node boot", pending.new_boots)
    journals = [(*row, 0, 0, 0, 0, 0) for row in pending.new_journals]
    columns = "id node name fork_of hash seq meters holders epochs seen_ms"
    bulk.insert(connection, schema.journal, columns, journals)
    meters = [(*row, 0, 0, 0, 0, 0, 1) for row in pending.new_meters]
    columns = "id node name component source labels end_ms boot_ms uj epoch points resume"
    bulk.insert(connection, schema.meter, columns, meters)
    bulk.insert(connection, schema.journal_meter, "journal number meter", pending.journal_meters)
    columns = "journal number boot load reset"
    bulk.insert(connection, schema.journal_epoch, columns, pending.journal_epochs)
    bulk.insert(connection, schema.epoch, "meter ordinal boot load reset", pending.epochs)


def _write_cells(connection: sa.Connection, pending: Pending, slot_ms: int) -> None:
    """Write postings and coverage with their daily sums, and when each holder was last seen.

    Piece by piece: with millions of postings the rows of all would cost more than the sums.
    """
    times = ("covered_ms", "unmeasured_ms")
    born: dict[int, int] = {}
    postings = _postings(pending, slot_ms)
    while chunk := list(islice(postings, bulk.CHUNK)):
        post(connection, chunk)
        seen: dict[int, int] = {}
        for row in chunk:
            holder, to_ms = row[2], row[9]
            if holder >= FIRST_HOLDER:
                into = born if holder in pending.holders else seen
                into[holder] = max(to_ms, into.get(holder, 0))
        see_holders(connection, seen)
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
    map_holders(connection, pending.holders, born)


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


def _write_states(connection: sa.Connection, pending: Pending) -> None:
    columns = "first_ms end_ms boot_ms uj journal epoch points resume"
    bulk.update(connection, schema.meter, columns, "id", list(pending.meters.values()))
    labels = list(pending.labels.values())
    bulk.update(connection, schema.meter, "source labels", "id", labels)
    columns = "seq hash meters holders epochs seen_ms"
    bulk.update(connection, schema.journal, columns, "id", list(pending.journals.values()))
    columns = "journal boot agent seen_ms skew_ms"
    bulk.update(connection, schema.node, columns, "id", list(pending.nodes.values()))
