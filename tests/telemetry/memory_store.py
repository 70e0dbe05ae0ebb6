"""A store in memory that answers by the reference, and fails when it is told to."""

from collections.abc import Mapping, Sequence

from tests.telemetry import reference

from wattkeeper.model.state import Finding, State
from wattkeeper.telemetry.base import Answer, Cursor, Question, Row, TelemetryError


class MemoryStore:
    """Rows and cursors, both or neither."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.kept: dict[str, Cursor] = {}
        self.failing = ""

    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far each journal is on disk."""
        return dict(self.kept)

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take rows and move the cursors."""
        if self.failing:
            raise TelemetryError(self.failing)
        self.rows += rows
        self.kept.update(cursors)

    def ask(self, question: Question) -> Answer:
        """Answer a question."""
        if self.failing:
            raise TelemetryError(self.failing)
        return reference.answer(self.rows, question)

    def tend(self, now_ms: int) -> None:
        """Nothing is ever due."""

    def findings(self) -> Sequence[Finding]:
        """Return that all is well, or not."""
        return [Finding("memory", State.FAILING if self.failing else State.OK, self.failing)]

    def counts(self) -> Mapping[str, float]:
        """Return how many rows there are."""
        return {"rows": float(len(self.rows))}

    def close(self) -> None:
        """Nothing to let go of."""
