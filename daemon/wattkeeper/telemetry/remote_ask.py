"""Asks an engine and makes series of its answers."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from wattkeeper.telemetry.base import (
    MOST_STEPS,
    SHARED,
    Aggregation,
    Answer,
    Question,
    Series,
    TelemetryError,
)
from wattkeeper.telemetry.remote_http import Endpoint, NoReplyError
from wattkeeper.telemetry.remote_options import RemoteOptions
from wattkeeper.telemetry.remote_promql import Queries, QuestionError, queries
from wattkeeper.telemetry.remote_series import PLACE_LABELS

_MOST_BYTES = 256 << 20
_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
    "Cache-Control": "no-store",
}
# What came late would be missing in an answer from a cache, and a part is no answer.
_WHOLE = {"nocache": "1", "partial_response": "false", "deny_partial_response": "1"}
_FIXES = {
    401: "check the token in telemetry.token_file, or the client's certificate",
    403: "whoever the token or certificate stands for may not ask there",
    404: "is telemetry.query_url the base of its query API?",
    400: "ask in another way",
    422: "ask for less time, a longer step, or fewer meters",
    503: "ask for less time, a longer step, or fewer meters; or later",
}
_Values = list[float | None]
_Labels = tuple[str, ...]


class _Found(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(msgspec.Struct):
    result: list[_Found]


class _Body(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""
    isPartial: bool = False  # noqa: N815 -- VictoriaMetrics' name


_decode = msgspec.json.Decoder(_Body).decode


class Asker:
    """Asks one engine. Called in several threads at once."""

    def __init__(self, endpoint: Endpoint, options: RemoteOptions) -> None:
        self._endpoint = endpoint
        self._options = options

    def ask(self, question: Question) -> Answer:
        """Answer a question.

        Raises:
            TelemetryError: it cannot be answered now, or not at all; says what to do.

        """
        steps = (question.until_ms - question.since_ms) // question.step_ms
        if not 0 < steps <= MOST_STEPS:
            raise QuestionError(f"a question has 1 to {MOST_STEPS} steps, not {steps}")
        asked = queries(question)
        deadline = time.monotonic() + self._options.patience_s
        found: dict[_Labels, _Values] = {}
        for text in asked.texts:
            if time.monotonic() > deadline:
                raise QuestionError(
                    f"{self._endpoint.url} takes too long for a question about so many runs: ask "
                    "for less time, or for fewer"
                )
            for one in self._range(text, question, asked.ahead_ms):
                _merge(found, one, question, asked)
        if not asked.aggregated:
            found = _over_meters(found, question)
        series = [
            Series(dict(zip(question.by, labels, strict=True)), values)
            for labels, values in found.items()
            if any(value is not None for value in values)
        ]
        series.sort(key=lambda one: max(v for v in one.values if v is not None), reverse=True)
        most = question.most_series
        omitted = max(0, len(series) - most)
        return Answer(question.since_ms, question.step_ms, series[:most], 0, omitted)

    def read(self, text: str, at_ms: int) -> Sequence[float]:
        """Return the values of an expression at an instant.

        Raises:
            TelemetryError: it cannot be answered now.

        """
        found = self._ask(text, at_ms, at_ms, 60_000)
        return [float(value) for one in found for _, value in one.values]

    def _range(self, text: str, question: Question, ahead_ms: int) -> list[_Found]:
        first_ms = question.since_ms + question.step_ms - ahead_ms
        return self._ask(text, first_ms, question.until_ms - ahead_ms, question.step_ms)

    def _ask(self, text: str, first_ms: int, last_ms: int, step_ms: int) -> list[_Found]:
        form = {
            "query": text,
            "start": _seconds(first_ms),
            "end": _seconds(last_ms),
            "step": _seconds(step_ms),
            "timeout": f"{self._options.timeout_s:g}s",
            **_WHOLE,
        }
        url = self._endpoint.url
        try:
            reply = self._endpoint.post(urlencode(form).encode(), _HEADERS, _MOST_BYTES)
        except NoReplyError as error:
            raise TelemetryError(f"{error}; is telemetry.query_url its query API?") from error
        if not reply.whole:
            raise QuestionError(
                f"{url} answers with more than {_MOST_BYTES >> 20} MiB: ask for less time, a "
                "longer step, or fewer series"
            )
        try:
            body = _decode(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            body = None
        if reply.status != 200:
            said = body.error if body else reply.words
            fix = _FIXES.get(reply.status, "is telemetry.query_url its query API?")
            kind = QuestionError if body and reply.status in (400, 422) else TelemetryError
            raise kind(f"{url} answers HTTP {reply.status}: {said or 'nothing'}; {fix}")
        if body is None or body.data is None:
            raise TelemetryError(
                f"{url} answers what is none of Prometheus ({reply.words or 'nothing'}); is "
                "telemetry.query_url its query API?"
            )
        if body.isPartial:
            raise TelemetryError(f"{url} answers in part only: some of its storage is away")
        return body.data.result


def _merge(found: dict[_Labels, _Values], one: _Found, question: Question, asked: Queries) -> None:
    """Add a series to those of the queries before: parts in one meter are added."""
    names = question.by if asked.aggregated else (*PLACE_LABELS, *question.by)
    labels = tuple(one.metric.get(name, "") for name in names)
    steps = (question.until_ms - question.since_ms) // question.step_ms
    values = found.setdefault(labels, [None] * steps)
    for at_s, text in one.values:
        value = float(text)
        step = (round(at_s * 1000) + asked.ahead_ms - question.since_ms) // question.step_ms - 1
        if not math.isfinite(value) or not 0 <= step < steps:
            continue
        before = values[step]
        if before is not None and question.metric in SHARED:
            value += before
        values[step] = value


def _over_meters(found: Mapping[_Labels, _Values], question: Question) -> dict[_Labels, _Values]:
    """Make the values of each group's meters one in each step."""
    groups: dict[_Labels, list[_Values]] = defaultdict(list)
    for labels, values in found.items():
        groups[labels[len(PLACE_LABELS) :]].append(values)
    return {
        group: [_joined(step, question.aggregation) for step in zip(*meters, strict=True)]
        for group, meters in groups.items()
    }


def _joined(values: Sequence[float | None], aggregation: Aggregation) -> float | None:
    seen = [value for value in values if value is not None]
    if not seen:
        return None
    match aggregation:
        case Aggregation.SUM:
            return math.fsum(seen)
        case Aggregation.MEAN:
            return math.fsum(seen) / len(seen)
        case Aggregation.MIN:
            return min(seen)
        case Aggregation.MAX:
            return max(seen)


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03}"
