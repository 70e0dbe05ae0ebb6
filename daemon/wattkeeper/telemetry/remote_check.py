"""Proves that what an engine takes can be read from it, and is there once."""

from collections.abc import Sequence

from wattkeeper.model.state import Finding, State
from wattkeeper.telemetry.remote_ask import Asker
from wattkeeper.telemetry.remote_send import Sender
from wattkeeper.telemetry.remote_wire import encode_one

CHECK = "wattkeeper_telemetry_check"
"""A series with one sample for each start of an aggregator, sent twice."""
_SOON = 5
"""Rounds (of a minute or so) in which a sample may be on its way into an index."""


class RoundTrip:
    """Sends one sample twice and asks for it, until it is there once.

    It has the time of what was written last. So it stands among other samples, and closes the door
    for none that is older.
    """

    def __init__(self, sender: Sender, asker: Asker) -> None:
        self._sender = sender
        self._asker = asker
        self._newest_ms = 0
        self._at_ms: int | None = None
        self._rounds = 0
        self._proven = False
        self._finding: Finding | None = None

    def written(self, end_ms: int) -> None:
        """Rows up to here were taken."""
        self._newest_ms = max(self._newest_ms, end_ms)

    def advance(self) -> None:
        """Do the next step, unless it is proven or nothing was written yet.

        Raises:
            TelemetryError: the engine does not take it, or does not answer.

        """
        if self._proven or not self._newest_ms:
            return
        if self._at_ms is None or self._rounds >= _SOON:
            at_ms = self._newest_ms | 1
            body = encode_one(CHECK, at_ms, 1.0)
            if self._sender.send(body) is None and self._sender.send(body) is None:
                self._at_ms, self._rounds = at_ms, 0
            return
        self._rounds += 1
        # Like a row's, the sample stands at an odd millisecond: the range holds it and no other.
        found = self._asker.read(f"count_over_time({CHECK}[2ms])", self._at_ms + 1)
        self._judge(sum(found))

    def findings(self) -> Sequence[Finding]:
        """Return what is wrong, if something is."""
        return () if self._finding is None else (self._finding,)

    def _judge(self, count: float) -> None:
        self._proven = count == 1
        if self._proven:
            self._finding = None
        elif count > 1:
            detail = (
                "the engine keeps a sample that is sent twice as two samples: what is sent again "
                "after an interruption is counted twice in its answers"
            )
            fix = "start VictoriaMetrics with -dedup.minScrapeInterval=1ms"
            self._finding = Finding("telemetry/check", State.FAILING, detail, fix)
        elif self._rounds >= _SOON:
            detail = "what the engine takes is not found in its answers"
            fix = (
                "let telemetry.query_url be of the same engine and tenant as telemetry.url, and "
                "the engine's retention longer than agents may be away"
            )
            self._finding = Finding("telemetry/check", State.FAILING, detail, fix)
