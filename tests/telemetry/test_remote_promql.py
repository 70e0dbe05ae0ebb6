"""What questions look like to an engine, whatever texts are in them."""

import ast
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattkeeper.telemetry.base import METER_LABELS, Aggregation, Metric, Question
from wattkeeper.telemetry.remote_promql import QuestionError, queries, quoted

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    st.sampled_from('a\\"|.*+?()[]{}^$\n\x00\x7fü '), max_size=20
)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def _question(metric: Metric = Metric.POWER, **more: Any) -> Question:
    return Question(metric, 0, 600_000, 60_000, **more)


@given(_TEXTS)
def test_a_text_stays_one_string(text: str) -> None:
    """It ends where it ends, and says what it said. Python reads these escapes as Go does."""
    written = quoted(text)
    assert _STRING.fullmatch(written)
    assert text == ast.literal_eval(written.replace("\r", "\\r"))
    assert written.isprintable() or not text.isprintable()


@given(st.lists(_TEXTS, min_size=2, max_size=4, unique=True), _TEXTS)
def test_several_values_are_those_and_no_others(wanted: list[str], other: str) -> None:
    """What stands for something else in a pattern does not."""
    (text,) = queries(_question(where={"node": tuple(wanted)})).texts
    found = re.search(rf"node=~({_STRING.pattern})", text)
    assert found
    pattern = re.compile(ast.literal_eval(found[1]), re.DOTALL)
    for value in (*wanted, other):
        assert (pattern.fullmatch(value) is not None) == (value in wanted)


@settings(max_examples=30, deadline=None)
@given(st.frozensets(st.tuples(_TEXTS, _TEXTS, st.integers(0, 1 << 41)), max_size=300))
def test_queries_stay_short(holders: frozenset[tuple[str, str, int]]) -> None:
    """VictoriaMetrics takes 16 KiB; each run is in one of them."""
    asked = queries(_question(Metric.IDLE_POWER, holders=holders, by=METER_LABELS))
    assert all(len(text.encode()) < 16_384 for text in asked.texts)
    births = {birth for text in asked.texts for birth in re.findall(r"\d+", text)}
    assert births >= {str(birth_ms) for _, _, birth_ms in holders}


def test_runs_of_a_large_job() -> None:
    """One on each of 3,000 nodes, each with a birth of its own."""
    holders = frozenset(("slurm", "7", 1_790_000_000_000 + node) for node in range(3000))
    asked = queries(_question(holders=holders))
    assert asked.aggregated
    assert 5 <= len(asked.texts) <= 20
    assert not queries(_question(holders=holders, aggregation=Aggregation.MEAN)).aggregated


@pytest.mark.parametrize(
    "question",
    [
        _question(by=("nodes",)),
        _question(where={'node="", x': ("a",)}),
        Question(Metric.POWER, 0, 999, 333),
    ],
)
def test_what_cannot_be_asked(question: Question) -> None:
    """Labels that there are not, and steps that would end between samples."""
    with pytest.raises(QuestionError):
        queries(question)


@pytest.mark.parametrize("more", [{"where": {"node": ()}}, {"holders": frozenset()}])
def test_what_nothing_answers(more: dict[str, Any]) -> None:
    """A choice of none needs no engine."""
    assert not queries(_question(**more)).texts
