"""One commit: everything that was taken goes to disk together, or nothing does."""

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.naming import map_holders
from wattkeeper.ledger.pending import KIND_BITS, METER_BITS, Pending
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.holder import FIRST_HOLDER

_METER_MASK = (1 << METER_BITS) - 1


def write(ledger: Ledger, pending: Pending) -> None:
    """Write all of `pending` in one transaction.

    Raises:
        LedgerError: nothing was written.

    """
    with ledger.writing() as connection:
        _write_identities(connection, pending)
        seen = _write_cells(connection, pending, ledger.slot_ms)
        map_holders(connection, pending.holders, seen)
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


def _write_cells(connection: sa.Connection, pending: Pending, slot_ms: int) -> dict[int, int]:
    """Write postings and coverage with their daily sums; return when each holder was last seen."""
    seen: dict[int, int] = {}
    postings: list[bulk.Row] = []
    rollups: list[bulk.Row] = []
    slots: list[bulk.Row] = []
    days: list[bulk.Row] = []
    for key in sorted(pending.cells):
        cell = pending.cells[key]
        slot, meter = (key >> METER_BITS) * slot_ms, key & _METER_MASK
        day = slot // DAY_MS
        slots.append((slot, meter, cell.covered_ms, cell.unmeasured_ms, cell.held_ms))
        days.append((meter, day, cell.covered_ms, cell.unmeasured_ms, cell.held_ms))
        for kind, (uj, ms, peak_mw, to_ms) in sorted(cell.postings.items()):
            holder, method, split = kind >> KIND_BITS, kind >> 2 & 3, kind & 3
            postings.append((slot, meter, holder, method, split, uj, ms, peak_mw, to_ms))
            rollups.append((holder, day, meter, method, split, uj, ms, peak_mw, to_ms))
            if holder >= FIRST_HOLDER and to_ms > seen.get(holder, 0):
                seen[holder] = to_ms
    rollups.sort()
    sums, greatest = ("uj", "ms"), ("peak_mw", "to_ms")
    bulk.accumulate(connection, schema.posting, sums, greatest, postings)
    bulk.accumulate(connection, schema.rollup, sums, greatest, rollups)
    times = ("covered_ms", "unmeasured_ms", "held_ms")
    bulk.accumulate(connection, schema.coverage, times, (), slots)
    bulk.accumulate(connection, schema.coverage_day, times, (), days)
    return seen


def _write_chain(connection: sa.Connection, pending: Pending) -> None:
    bulk.insert(connection, schema.point, "meter n epoch at_ms value_uj seal", pending.points)
    bulk.insert(connection, schema.gap, "meter from_ms to_ms uj reason", pending.gaps)
    bulk.insert(connection, schema.refused, "journal seq meter at_ms reason", pending.refused)
    bulk.insert(connection, schema.event, "at_ms node kind detail", pending.events)


def _write_states(connection: sa.Connection, pending: Pending) -> None:
    columns = "first_ms end_ms boot_ms uj journal epoch points resume"
    bulk.update(connection, schema.meter, columns, "id", list(pending.meters.values()))
    columns = "seq hash meters holders epochs seen_ms"
    bulk.update(connection, schema.journal, columns, "id", list(pending.journals.values()))
    columns = "journal boot agent seen_ms skew_ms"
    bulk.update(connection, schema.node, columns, "id", list(pending.nodes.values()))
