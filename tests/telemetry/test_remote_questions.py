"""Questions to an engine that answers badly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.telemetry.fake_engine import FakeEngine, Say, fake_engine
from tests.telemetry.remote_stores import ORIGIN_MS, remote_store, rows

from wattkeeper.model.state import State
from wattkeeper.telemetry.base import Metric, Question, TelemetryError
from wattkeeper.telemetry.remote import RemoteStore

_QUESTION = Question(Metric.POWER, ORIGIN_MS, ORIGIN_MS + 60_000, 60_000)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """Return a fake engine."""
    with fake_engine() as running:
        yield running


def _failing(store: RemoteStore) -> list[str]:
    return [f"{f.subject}: {f.detail}" for f in store.findings() if f.state is not State.OK]


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (Say(200, b"<html>"), "none of Prometheus"),
        (Say(200, b'{"status": "success"}'), "none of Prometheus"),
        (Say(200, b'{"status": "success", "data": {"result": []}, "isPartial": true}'), "in part"),
        (Say(200, b'{"status": "success", "data": {"result": []}}', cut=True), "IncompleteRead"),
        (Say(401), "token"),
        (Say(404), "telemetry.query_url"),
        (Say(503, b'{"status": "error", "error": "query timed out"}'), "query timed out"),
        (Say(hangs=True), "does not answer within"),
    ],
)
def test_questions_that_are_not_answered(
    engine: FakeEngine, tmp_path: Path, say: Say, words: str
) -> None:
    """Each is an error that says why, a finding until it works again; writing goes on."""
    with remote_store(engine.write_url, tmp_path, timeout_s=1) as store:
        engine.say.append(say)
        with pytest.raises(TelemetryError, match=words):
            store.ask(_QUESTION)
        assert any(one.startswith("telemetry/questions: ") for one in _failing(store))
        store.write(rows(0), {})
        store.ask(_QUESTION)
        assert not _failing(store)


def test_a_question_at_fault_is_not_the_engine_s(engine: FakeEngine, tmp_path: Path) -> None:
    """Too many samples for one question, says the engine; it works all the same."""
    with remote_store(engine.write_url, tmp_path) as store:
        engine.say.append(Say(422, b'{"status": "error", "error": "too many samples"}'))
        with pytest.raises(TelemetryError, match="too many samples; ask for less time"):
            store.ask(_QUESTION)
        with pytest.raises(TelemetryError, match="1 to 11000 steps"):
            store.ask(Question(Metric.POWER, 0, 22_002, 2))
        assert not _failing(store)


def test_values_that_are_none(engine: FakeEngine, tmp_path: Path) -> None:
    """NaN, infinities and times outside of the question are no values."""
    at_s = ORIGIN_MS / 1000 - 60
    values = f'[[{at_s + 60}, "NaN"], [{at_s + 120}, "+Inf"], [{at_s + 180}, "5"], [{at_s}, "4"]]'
    body = (
        f'{{"status": "success", "data": {{"result": [{{"metric": {{}}, "values": {values}}}]}}}}'
    )
    with remote_store(engine.write_url, tmp_path) as store:
        engine.say.append(Say(200, body.encode()))
        asked = Question(Metric.POWER, ORIGIN_MS, ORIGIN_MS + 240_000, 60_000)
        (series,) = store.ask(asked).series
        assert [None, None, 5.0, None] == list(series.values)
