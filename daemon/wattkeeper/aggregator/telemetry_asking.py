"""One request's questions to a time-series store: in time, and in steps that its rows fill."""

import math
import time
from dataclasses import dataclass, field, replace

from wattkeeper.aggregator.problem import ProblemError, too_slow
from wattkeeper.aggregator.telemetry_fold import Fold
from wattkeeper.aggregator.telemetry_steps import widened
from wattkeeper.model import grid
from wattkeeper.telemetry.base import Answer, Question, TelemetryError, TelemetryStore

LIMIT_S = 60.0
"""How long an answer may take."""
MOST_VALUES = 1_000_000
"""Values in one answer; series beyond that are left out, and counted."""
_LINES_MS = (300_000, 3_600_000)
"""Lengths of downsampled rows."""
_TRIES = 6


class _CoarserError(Exception):
    """The rows of the asked time do not fit its steps: they are `resolution_ms` long."""

    def __init__(self, resolution_ms: int) -> None:
        super().__init__(resolution_ms)
        self.resolution_ms = resolution_ms


@dataclass(slots=True)
class Asking:
    """What one request asks of a store, until its time is up."""

    store: TelemetryStore
    _stop_s: float = field(default_factory=lambda: time.monotonic() + LIMIT_S)

    def over(self, fold: Fold, question: Question) -> Answer:
        """Answer by `fold`, over the question's period widened to whole steps.

        Steps are lengthened to whole rows where downsampled ones were read: shorter ones would
        show most of them as not metered. Where nothing was read, the period may lie within a
        row: longer steps widen it to where that ends.

        Raises:
            ProblemError: the store does not answer, or not in time; too many series.

        """
        empty: Answer | None = None
        for _ in range(_TRIES):
            step_ms = question.step_ms
            try:
                answer = fold.answer(self._ask_whole, _aligned(question))
            except _CoarserError as found:
                question = replace(question, step_ms=grid.ceil(step_ms, found.resolution_ms))
                continue
            if answer.resolution_ms or answer.series:
                return answer
            empty = empty or answer
            line_ms = next((line_ms for line_ms in _LINES_MS if line_ms > step_ms), None)
            if line_ms is None:
                return empty
            question = replace(question, step_ms=math.lcm(step_ms, line_ms))
        return fold.answer(self.ask, _aligned(question))

    def ask(self, question: Question) -> Answer:
        """Answer a question as it stands.

        Raises:
            ProblemError: the store does not answer, or not in time.

        """
        if question.holders is not None and not question.holders:
            return Answer(question.since_ms, question.step_ms, (), 0)
        if not all((question.where or {}).values()):
            return Answer(question.since_ms, question.step_ms, (), 0)
        if time.monotonic() > self._stop_s:
            raise too_slow(LIMIT_S)
        try:
            return self.store.ask(question)
        except TelemetryError as error:
            raise ProblemError(503, "telemetry-unavailable", f"no history now: {error}") from error

    def _ask_whole(self, question: Question) -> Answer:
        answer = self.ask(question)
        if answer.resolution_ms and question.step_ms % answer.resolution_ms:
            raise _CoarserError(answer.resolution_ms)
        return answer


def _aligned(question: Question) -> Question:
    since_ms, until_ms = widened(question.since_ms, question.until_ms, question.step_ms)
    most = MOST_VALUES * question.step_ms // (until_ms - since_ms)
    return replace(
        question,
        since_ms=since_ms,
        until_ms=until_ms,
        most_series=max(1, min(question.most_series, most)),
    )
