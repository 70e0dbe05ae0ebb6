"""How far journals are in an engine's history, kept in the ledger that aggregators share."""

from collections.abc import Mapping

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.store import Ledger


def positions(ledger: Ledger) -> dict[str, tuple[int, bytes]]:
    """Return number and chain value of the last record of each journal, by its name."""
    with ledger.reading() as connection:
        rows = connection.execute(sa.select(schema.recorded))
        return {row.journal: (row.seq, bytes(row.hash)) for row in rows}


def move(ledger: Ledger, moved: Mapping[str, tuple[int, bytes]]) -> None:
    """Put positions on disk, all or none.

    Raises:
        LedgerError: the database does not take it.

    """
    with ledger.writing() as connection:
        rows = ((journal, seq, value) for journal, (seq, value) in sorted(moved.items()))
        bulk.put(connection, schema.recorded, rows)
