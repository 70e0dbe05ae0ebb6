"""The database of the ledger: opened, migrated, with the settings it was made with."""

from pathlib import Path

import sqlalchemy as sa

DEFAULT_SLOT_MS = 900_000


class LedgerError(RuntimeError):
    """The ledger cannot be opened or written. The message says why and what to do."""


class Ledger:
    """An open ledger. `slot_ms` is the length of its slots; use `engine` in threads only."""

    def __init__(self, engine: sa.Engine, slot_ms: int) -> None:
        self.engine = engine
        self.slot_ms = slot_ms

    @classmethod
    def open(cls, url: str | Path, *, slot_ms: int | None = None) -> "Ledger":
        """Open or make the ledger at a SQLAlchemy URL, or at the path of a SQLite file.

        Raises:
            LedgerError: not writable, of a newer version, or made with another slot.

        """
        raise NotImplementedError

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
