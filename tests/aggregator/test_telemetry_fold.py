"""Folding after the answer is the same as rows that had the names in the first place."""

from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.telemetry.reference import answer
from wattkeeper.aggregator.telemetry_fold import PIECE, Fold
from wattkeeper.aggregator.telemetry_query import By
from wattkeeper.ledger.queries.holders import HolderKey
from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Aggregation, Answer, Metric, Part, Place, Question, Row

STEP_MS = 60_000
ROW_MS = 10_000
USERS = ("alice", "bob", "")
RACKS = {"n1": "r1", "n2": "r1", "n3": "r2"}


def user(workload: str) -> str:
    """Return whose a workload is."""
    return USERS[int(workload) % 3]


def names(keys: Collection[HolderKey]) -> Mapping[HolderKey, Mapping[str, str]]:
    """Look up as the ledger would; workload 5 is not known."""
    return {
        key: {"user": user(key.raw_id), "job": f"j{key.raw_id}"}
        for key in keys
        if key.raw_id not in ("", "5")
    }


def place(node: str, gpu: int) -> Place:
    """Return a GPU."""
    name = f"GPU-{node}-{gpu}"
    return Place("c", node, f"gpu/{name}", "gpu", name, str(gpu), "H100", "nvml")


@st.composite
def rows(draw: st.DrawFn, upto: int = 60) -> list[Row]:
    """Return rows of some GPUs, each with parts of jobs and of nobody."""
    drawn = []
    for node, gpu, at in draw(
        st.sets(
            st.tuples(st.sampled_from(sorted(RACKS)), st.integers(0, 1), st.integers(0, upto)),
            max_size=25,
        )
    ):
        who = draw(st.sets(st.sampled_from("012345"), max_size=3))
        parts = [
            Part("workload", "slurm", one, int(one) % 2, 0, ROW_MS,
                 draw(st.integers(0, 10**10)), draw(st.sampled_from([0, 0, 7])))
            for one in sorted(who)
        ]  # fmt: skip
        if not who or draw(st.booleans()):
            uj = draw(st.integers(0, 10**9))
            parts.append(Part("idle", "", "", 0, 0, ROW_MS, uj, 0))
        least, mean, greatest = sorted(draw(st.tuples(*[st.integers(1, 10**6)] * 3)))
        spread = Spread(least, mean, greatest)
        drawn.append(
            Row(
                place=place(node, gpu),
                start_ms=at * ROW_MS,
                end_ms=(at + 1) * ROW_MS,
                covered_ms=draw(st.sampled_from([ROW_MS, 4_000])),
                uj=sum(part.uj for part in parts),
                method="counter",
                recovered=False,
                parts=parts,
                stats=draw(st.sampled_from([None, Stats(spread, spread, spread, spread)])),
            )
        )
    return drawn


def renamed(rows: list[Row]) -> list[Row]:
    """Return rows whose workloads are called as users are, and models as racks."""
    changed = []
    for row in rows:
        parts = []
        for part in row.parts:
            known = user(part.workload) if part.workload not in ("", "5") else ""
            parts.append(replace(part, manager="", workload=known, birth_ms=0))
        rack = row.place._replace(model=RACKS[row.place.node])
        changed.append(replace(row, place=rack, parts=parts))
    return changed


def told(answer: Answer) -> dict[tuple[str, ...], list[float | None]]:
    """Return the values by labels."""
    return {tuple(one.labels.values()): list(one.values) for one in answer.series}


@settings(max_examples=150, deadline=None)
@given(
    rows=rows(),
    metric=st.sampled_from(Metric),
    aggregation=st.sampled_from(Aggregation),
    by=st.sampled_from(
        [
            (("user", "payer"), ("workload", "account")),
            (("group:rack",), ("model",)),
            (("user", "group:rack", "payer"), ("workload", "model", "account")),
            (("node", "user", "payer"), ("node", "workload", "account")),
            (("component", "payer"), ("component", "account")),
        ]
    ),
    most=st.sampled_from([1000, 2]),
)
def test_folded_is_as_if_rows_had_the_names(
    rows: list[Row],
    metric: Metric,
    aggregation: Aggregation,
    by: tuple[tuple[str, ...], tuple[str, ...]],
    most: int,
) -> None:
    """For every metric and aggregation, and for each cut of the greatest series."""
    question = Question(metric, 0, 600_000, STEP_MS, aggregation, most_series=most)
    fold = Fold(By(by[0]), {"rack": RACKS}, names)
    folded = fold.answer(lambda asked: answer(rows, asked), question)
    asked = Question(metric, 0, 600_000, STEP_MS, aggregation, by[1])
    expected = told(answer(renamed(rows), asked))
    assert len(folded.series) + folded.omitted == len(expected)
    for labels, values in told(folded).items():
        assert values == [
            None if one is None else pytest.approx(one) for one in expected[labels]
        ], labels


@settings(max_examples=30, deadline=None)
@given(rows=rows(upto=6 * 3 * PIECE))
def test_pieces_of_time_are_put_together(rows: list[Row]) -> None:
    """A long period is asked for in pieces, each with no more steps than PIECE."""
    asked: list[Question] = []

    def ask(question: Question) -> Answer:
        asked.append(question)
        return answer(rows, question)

    until_ms = (2 * PIECE + 7) * STEP_MS
    question = Question(Metric.ENERGY, 0, until_ms, STEP_MS)
    found = Fold(By(("user", "payer")), {}, names).answer(ask, question)
    joules = sum(value or 0 for series in found.series for value in series.values)
    inside = sum(row.uj for row in rows if row.end_ms <= until_ms)
    assert joules == pytest.approx(inside / 1e6)
    assert [(one.until_ms - one.since_ms) // STEP_MS for one in asked] == [PIECE, PIECE, 7]
    assert all(len(series.values) == 2 * PIECE + 7 for series in found.series)
