"""The contract itself, run on the plainest store: a list."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.telemetry import reference
from tests.telemetry.contract import StoreContract

from wattkeeper.model.state import Finding
from wattkeeper.telemetry.base import Answer, Cursor, Question, Row, TelemetryStore


class ListStore:
    """Keeps rows in memory and answers with the reference."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._cursors: dict[str, Cursor] = {}

    def cursors(self) -> Mapping[str, Cursor]:
        """Return them."""
        return self._cursors

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take both."""
        self._rows.extend(rows)
        self._cursors.update(cursors)

    def ask(self, question: Question) -> Answer:
        """Go over all rows."""
        return reference.answer(self._rows, question)

    def tend(self, now_ms: int) -> None:
        """Nothing is due."""

    def findings(self) -> Sequence[Finding]:
        """Nothing can be wrong."""
        return ()

    def counts(self) -> Mapping[str, float]:
        """Nothing is counted."""
        return {}

    def close(self) -> None:
        """Nothing is held."""


class TestList(StoreContract):
    """A store that holds lists fulfils the contract."""

    @contextmanager
    def empty_store(self) -> Iterator[TelemetryStore]:
        """Return a new list."""
        yield ListStore()
