"""A store whose rows are a list: it answers as the reference does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.telemetry.reference import answer

from wattkeeper.model.state import Finding
from wattkeeper.telemetry.base import Answer, Cursor, Question, Row, TelemetryError


@dataclass
class MemoryStore:
    """Rows in memory. `fails`: why it does not answer now; `asked`: every question so far."""

    rows: list[Row] = field(default_factory=list)
    fails: str = ""
    asked: list[Question] = field(default_factory=list)
    kept: dict[str, Cursor] = field(default_factory=dict)

    def cursors(self) -> Mapping[str, Cursor]:
        """Return the cursors that were written."""
        return self.kept

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take rows."""
        self._check()
        self.rows += rows
        self.kept.update(cursors)

    def ask(self, question: Question) -> Answer:
        """Answer; the resolution is that of the longest row that was made from shorter ones."""
        self._check()
        self.asked.append(question)
        lengths = (
            row.end_ms - row.start_ms
            for row in self.rows
            if question.since_ms < row.end_ms <= question.until_ms and not row.recovered
        )
        folded = (length for length in lengths if length >= 300_000)
        return replace(answer(self.rows, question), resolution_ms=max(folded, default=0))

    def tend(self, now_ms: int) -> None:
        """Nothing is ever due."""

    def findings(self) -> Sequence[Finding]:
        """Nothing is found."""
        return ()

    def counts(self) -> Mapping[str, float]:
        """Return how many rows there are."""
        return {"rows": len(self.rows)}

    def close(self) -> None:
        """Nothing is held."""

    def _check(self) -> None:
        if self.fails:
            raise TelemetryError(self.fails)
