"""Rows to an engine in batches; where it refuses one, the rows in it that it would take."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from wattkeeper.telemetry.base import Place, Row, TelemetryError
from wattkeeper.telemetry.remote_send import Sender
from wattkeeper.telemetry.remote_series import sample_ms
from wattkeeper.telemetry.remote_wire import encode

_MOST_REFUSALS = 2000
"""So often a write asks which rows of a batch are refused; then batches are, as a whole."""
_LONGEST_MS = 1_800_000
"""Time that one request spans: of two hours and a half, Prometheus 2.42 acknowledged all and
kept a part, in two runs of four."""
_CLASH = "another row of the same meter ends in the same instant"
_Key = tuple[Place, int]


class RefusedRow(NamedTuple):
    """A row that the engine does not take, and what it said."""

    row: Row
    reason: str


class Writer:
    """Sends rows. What is settled of a write that fails is not sent again when it comes again.

    An engine that takes samples in order only would refuse it, though it has it.
    """

    def __init__(self, sender: Sender, batch_rows: int) -> None:
        self._sender = sender
        self._batch_rows = batch_rows
        self._settled: dict[_Key, tuple[Row, str]] = {}

    def write(self, rows: Sequence[Row]) -> list[RefusedRow]:
        """Send rows, oldest first; return those that are refused.

        Raises:
            TelemetryError: not all are taken now; the same rows are to come again.

        """
        chosen: dict[_Key, Row] = {}
        clashing: list[RefusedRow] = []
        for row in sorted(rows, key=attrgetter("end_ms")):
            key = row.place, sample_ms(row)
            settled = self._settled.get(key)
            first = settled[0] if settled else chosen.setdefault(key, row)
            if first is not row and first != row:
                # Within one request Prometheus takes both, and drops one without a word.
                clashing.append(RefusedRow(row, _CLASH))
        self._send(list(chosen.values()))
        return [*(RefusedRow(row, why) for row, why in self._settled.values() if why), *clashing]

    def forget(self) -> None:
        """What was written last does not come again."""
        self._settled.clear()

    def _send(self, rows: Sequence[Row]) -> None:
        # Older rows first, in halves as well: what came before would make them out of order.
        waiting = list(self._batches(rows))[::-1]
        refusals, before_ms, before_why = 0, 0, ""
        while waiting:
            batch = waiting.pop()
            if batch[0].end_ms <= before_ms:
                self._settle([row for row in batch if row.end_ms <= before_ms], before_why)
                batch = [row for row in batch if row.end_ms > before_ms]
                if not batch:
                    continue
            refusal = self._sender.send(encode(batch))
            if refusal is None:
                self._settle(batch, "")
                continue
            refusals += 1
            if len(batch) > 1 and (refusals < _MOST_REFUSALS or refusal.too_large):
                half = len(batch) // 2
                waiting += (batch[half:], batch[:half])
            elif refusal.too_large:
                raise TelemetryError(f"telemetry: a single row is too large: {refusal.words}")
            else:
                self._settle(batch, refusal.words)
                if refusal.before_all and len(batch) == 1:
                    before_ms, before_why = batch[0].end_ms, refusal.words

    def _batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        start = 0
        for i, row in enumerate(rows):
            if i - start == self._batch_rows or row.end_ms > rows[start].end_ms + _LONGEST_MS:
                yield rows[start:i]
                start = i
        if rows:
            yield rows[start:]

    def _settle(self, rows: Sequence[Row], why: str) -> None:
        for row in rows:
            self._settled[row.place, sample_ms(row)] = (row, why)
