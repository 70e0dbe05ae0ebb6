"""Telemetry on a Prometheus-compatible engine: VictoriaMetrics, Mimir, Thanos, Prometheus."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from wattkeeper.model.state import Finding, State
from wattkeeper.telemetry.base import Answer, Cursor, Question, Row, TelemetryError
from wattkeeper.telemetry.remote_ask import Asker
from wattkeeper.telemetry.remote_check import RoundTrip
from wattkeeper.telemetry.remote_cursors import Cursors
from wattkeeper.telemetry.remote_http import Endpoint
from wattkeeper.telemetry.remote_options import RemoteOptions
from wattkeeper.telemetry.remote_promql import QuestionError
from wattkeeper.telemetry.remote_refused import RefusedRows
from wattkeeper.telemetry.remote_send import Sender
from wattkeeper.telemetry.remote_write import Writer

_log = logging.getLogger(__name__)
_FIX = "nothing is lost meanwhile; docs/telemetry-remote.md says what each engine needs"
_FIX_REFUSED = (
    "give the engine a longer window for samples out of order (docs/telemetry-remote.md); "
    "take the files away once you have no more use for them"
)


class RemoteStore:
    """A `TelemetryStore` on an engine. Its retention and compaction are the engine's.

    `folder` is for what the engine refuses. Cursors move once the engine has acknowledged a row,
    or the row is in that folder. How coarse an engine has made old samples it does not say: the
    resolution of an answer is 0.
    """

    def __init__(self, options: RemoteOptions, cursors: Cursors, folder: Path) -> None:
        self._write_to = Endpoint(options.url, options)
        self._ask_at = Endpoint(f"{options.query_base}/api/v1/query_range", options)
        self._sender = Sender(self._write_to, options.patience_s)
        self._writer = Writer(self._sender, options.batch_rows)
        self._asker = Asker(self._ask_at, options)
        self._check = RoundTrip(self._sender, self._asker)
        self._refused = RefusedRows(folder, options.refused_bytes)
        self._cursors = cursors
        self._writing = threading.Lock()
        self._writes = _Health(f"telemetry to {options.url}")
        self._questions = _Health(f"telemetry from {options.query_base}")
        self._refusals = _Health(f"telemetry to {options.url}: some rows")
        self._sent_rows = self._refused_rows = 0

    def cursors(self) -> Mapping[str, Cursor]:
        """Return how far each journal is with the engine, by the journal's name."""
        return self._cursors.read()

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Send rows, then move the cursors. What comes again is not taken twice.

        Raises:
            TelemetryError: not everything was taken; the same rows are to come again.

        """
        if not rows:
            with self._writing:
                self._cursors.move(cursors)
            return
        with self._writing, self._writes:
            refused = self._writer.write(rows)
            if refused:
                self._refused.keep(refused)
            self._cursors.move(cursors)
            self._writer.forget()
        self._sent_rows += len(rows) - len(refused)
        self._refused_rows += len(refused)
        if len(refused) < len(rows):
            self._check.written(max(row.end_ms for row in rows))
        if refused:
            self._refusals.failed(f"{refused[0].reason}; kept in {self._refused.folder}")
        else:
            self._refusals.works()

    def ask(self, question: Question) -> Answer:
        """Answer a question; QuestionError, a TelemetryError, where it is at fault itself."""
        with self._questions:
            return self._asker.ask(question)

    def tend(self, now_ms: int) -> None:  # noqa: ARG002 -- the engine has its own clock
        """Find out, once, whether what is written can be read, and only once."""
        with self._writing:
            self._check.advance()

    def findings(self) -> Sequence[Finding]:
        """Return how the engine takes and answers, and what it has refused."""
        found = [
            self._writes.finding(
                "telemetry", f"{self._sent_rows} rows sent to {self._write_to.url}"
            )
        ]
        if self._questions.failure:
            found.append(self._questions.finding("telemetry/questions", ""))
        found += self._check.findings()
        kept = self._refused.kept()
        if kept.rows or self._refused.dropped:
            detail = f"{kept.rows} rows that the engine refused are in {self._refused.folder}"
            if self._refused.dropped:
                detail += f", {self._refused.dropped} more were deleted to make room"
            if self._refusals.failure:
                detail += f"; it said: {self._refusals.failure}"
            found.append(Finding("telemetry/refused", State.FAILING, detail, _FIX_REFUSED))
        return found

    def counts(self) -> Mapping[str, float]:
        """Return what was done since the start, and what is kept of refused rows now."""
        kept = self._refused.kept()
        return {
            "sent_rows": self._sent_rows,
            "requests": self._sender.requests,
            "retries": self._sender.retries,
            "refused_rows": self._refused_rows,
            "refused_kept_rows": kept.rows,
            "refused_kept_bytes": kept.size,
            "refused_dropped_rows": self._refused.dropped,
        }

    def close(self) -> None:
        """Give up what waits for the engine, and let go of everything."""
        self._sender.close()
        with self._writing:
            self._cursors.close()
        self._write_to.close()
        self._ask_at.close()


class _Health:
    """How one thing goes. A context: an error in it is noted, and logged if it is the first."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.failure = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.works()
        elif isinstance(error, TelemetryError) and not isinstance(error, QuestionError):
            self.failed(str(error))

    def failed(self, why: str) -> None:
        """Note why; log it unless it failed before."""
        if not self.failure:
            _log.warning("%s: %s", self._what, why)
        self.failure = why

    def works(self) -> None:
        """Note that it works; log it if it failed before."""
        if self.failure:
            _log.info("%s: works again", self._what)
        self.failure = ""

    def finding(self, subject: str, fine: str) -> Finding:
        """Return it as a finding."""
        if self.failure:
            return Finding(subject, State.FAILING, self.failure, _FIX)
        return Finding(subject, State.OK, fine)
