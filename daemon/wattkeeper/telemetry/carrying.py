"""The history moves from one store to another: resumable, and proved at the end."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Cursor, Metric, Question, Row, TelemetryError, TelemetryStore

BATCH = 5_000
"""Rows that are written at once; after each it is noted how far it is."""
_METER = ("cluster", "node", "meter")
_MOST_METERS = 10_000_000
_CLOSE = 1e-9
"""Sums of an engine are floats."""

MeterName = tuple[str, str, str]


class Source(Protocol):
    """A store whose rows can be read again."""

    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far each journal was taken."""

    def days(self) -> Sequence[int]:
        """Return the UTC days that have rows, by their first millisecond."""

    def rows_of(self, day_ms: int, batch: int) -> AbstractContextManager[Iterator[list[Row]]]:
        """Give the rows of a day, always in the same order."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: days that are done, of how many, and the rows that were carried so far."""

    days: int
    of: int
    rows: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A meter and day of which both stores do not have the same energy, in joules."""

    day_ms: int
    meter: MeterName
    source_joules: float
    target_joules: float


class Carrier:
    """Carries what `source` has into `target`. `note`: the file that says how far it is.

    Nothing may write into the source meanwhile.
    """

    def __init__(self, source: Source, target: TelemetryStore, note: Path) -> None:
        self._source = source
        self._target = target
        self._note = note

    def carry(self) -> Iterator[Progress]:
        """Write every row, from where an earlier run ended, then the cursors.

        Raises:
            TelemetryError: the target does not take it; call again to go on.

        """
        days = self._source.days()
        day_done, rows_done = self._read()
        rows = 0
        for number, day_ms in enumerate(days):
            yield Progress(number, len(days), rows)
            if day_ms < day_done:
                continue
            skip = rows_done if day_ms == day_done else 0
            at = 0
            with self._source.rows_of(day_ms, BATCH) as batches:
                for batch in batches:
                    at += len(batch)
                    if at <= skip:
                        continue
                    self._target.write(batch, {})
                    rows += len(batch)
                    self._write(day_ms, at)
                    yield Progress(number, len(days), rows)
            self._write(day_ms + DAY_MS, 0)
        self._target.write([], self._source.cursors())
        yield Progress(len(days), len(days), rows)

    def differences(self) -> Iterator[Difference]:
        """Compare the energy of every meter on every day. Yields nothing if all is there.

        Raises:
            TelemetryError: the target does not answer.

        """
        for day_ms in self._source.days():
            here: dict[MeterName, int] = {}
            with self._source.rows_of(day_ms, BATCH) as batches:
                for batch in batches:
                    for row in batch:
                        name = (row.place.cluster, row.place.node, row.place.meter)
                        here[name] = here.get(name, 0) + row.uj
            there = self._joules(day_ms)
            for name, uj in here.items():
                joules, found = uj / 1e6, there.get(name, 0.0)
                if abs(joules - found) > _CLOSE * max(1.0, joules):
                    yield Difference(day_ms, name, joules, found)

    def _joules(self, day_ms: int) -> dict[MeterName, float]:
        question = Question(
            Metric.ENERGY, day_ms, day_ms + DAY_MS, DAY_MS, by=_METER, most_series=_MOST_METERS
        )
        return {
            (s.labels["cluster"], s.labels["node"], s.labels["meter"]): s.values[0] or 0.0
            for s in self._target.ask(question).series
        }

    def _read(self) -> tuple[int, int]:
        try:
            noted = json.loads(self._note.read_text())
            return int(noted["day_ms"]), int(noted["rows"])
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TelemetryError(
                f"telemetry: {self._note} cannot be read: {error}; remove it to begin anew"
            ) from error

    def _write(self, day_ms: int, rows: int) -> None:
        new = self._note.with_suffix(".new")
        try:
            new.write_text(json.dumps({"day_ms": day_ms, "rows": rows}))
            new.replace(self._note)
        except OSError as error:
            raise TelemetryError(f"telemetry: {self._note} is not written: {error}") from error
