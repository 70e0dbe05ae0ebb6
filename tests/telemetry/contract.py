"""What every store has to do. Each store's tests subclass `StoreContract` and open theirs."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.telemetry import reference
from tests.telemetry.made import GRID_MS, HOLDERS, PLACES, questions, tidy_rows

from wattkeeper.model.state import State
from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import (
    Aggregation,
    Answer,
    Cursor,
    Metric,
    Part,
    Question,
    Row,
    TelemetryStore,
)

inherited = settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[
        HealthCheck.differing_executors,  # each store runs the same functions
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)


def check_answer(rows: Sequence[Row], question: Question, got: Answer) -> None:
    """Compare an answer with the reference's, to one part in 10⁹.

    Where several series have the same greatest value, any of them may be among the first.
    """
    told = f"{question} over {len(rows)} rows"
    every = reference.answer(rows, dataclasses.replace(question, most_series=1 << 30))
    expected = {tuple(one.labels.items()): one.values for one in every.series}
    assert (question.since_ms, question.step_ms) == (got.since_ms, got.step_ms), told
    count = min(len(every.series), question.most_series)
    assert (count, len(every.series) - count) == (len(got.series), got.omitted), told
    names = [tuple(one.labels.items()) for one in got.series]
    assert len(set(names)) == len(names), told
    for name, one in zip(names, got.series, strict=True):
        assert name in expected, f"{name} in the answer to {told}"
        assert _close(expected[name], one.values), f"{name}: {one.values} in the answer to {told}"
    greatest = [_greatest(one.values) for one in every.series[:count]]
    assert _close(greatest, [_greatest(one.values) for one in got.series]), told


def _close(expected: Sequence[float | None], got: Sequence[float | None]) -> bool:
    return len(expected) == len(got) and all(
        (a is None and b is None)
        or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))
        for a, b in zip(expected, got, strict=True)
    )


def _greatest(values: Sequence[float | None]) -> float:
    return max(value for value in values if value is not None)


class StoreContract:
    """The promises of `TelemetryStore`, as tests.

    `origin_ms`: the time around which rows lie, a full day; `cells`: the numbers of 10-second
    cells from there that may get rows.
    """

    origin_ms: ClassVar[int] = 1_790_035_200_000
    cells: ClassVar[Sequence[int]] = (0, 1, 2, 29, 30, 31, 42, 359, 360, 361, 720, 8639, 8640)

    def empty_store(self) -> AbstractContextManager[TelemetryStore]:
        """Open a store without rows; leave nothing of it behind afterwards."""
        raise NotImplementedError

    def settle(self, store: TelemetryStore) -> None:
        """Wait until questions see what was written."""

    def states(self, store: TelemetryStore) -> Iterator[None]:
        """Take the store from state to state in which the same questions are asked."""
        self.settle(store)
        yield

    @inherited
    @given(data=st.data())
    def test_answers_are_those_of_the_reference(self, data: st.DataObject) -> None:
        """Whatever was written and is asked."""
        rows = data.draw(tidy_rows(self.origin_ms, self.cells))
        span_ms = (max(self.cells) + 1) * GRID_MS
        asked = data.draw(st.lists(questions(self.origin_ms, span_ms), min_size=1, max_size=5))
        half = data.draw(st.integers(0, len(rows)))
        with self.empty_store() as store:
            store.write(rows[:half], {})
            store.write(rows[half:], {"j": Cursor(1, b"1")})
            for _ in self.states(store):
                for question in asked:
                    check_answer(rows, question, store.ask(question))

    def test_an_empty_store_answers_nothing(self) -> None:
        """No series is not an error."""
        with self.empty_store() as store:
            got = store.ask(self._question(Metric.POWER))
            assert ([], 0) == (list(got.series), got.omitted)
            assert {} == store.cursors()
            store.tend(self.origin_ms)
            assert all(finding.state is State.OK for finding in store.findings())

    def test_cursors_move_with_their_rows(self) -> None:
        """Each journal has its own; the last one counts; rows may be none."""
        with self.empty_store() as store:
            store.write([self._row(0)], {"a": Cursor(3, b"\x00\xff"), "b": Cursor(1, b"")})
            store.write([], {"a": Cursor(5, b"5")})
            self.settle(store)
            assert {"a": Cursor(5, b"5"), "b": Cursor(1, b"")} == store.cursors()

    def test_each_metric_in_each_aggregation(self) -> None:
        """Over meters in steps of six windows, by meter and account in steps of thirty."""
        rows = [self._row(cell) for cell in (0, 1, 2, 6, 29, 30)]
        rows[1] = replace(rows[1], stats=Stats(temperature_mc=Spread(1, 2, 3)))
        rows[2] = replace(rows[2], stats=None)
        rows += [replace(self._row(cell), place=PLACES[1], stats=None) for cell in (1, 7)]
        rows.sort(key=lambda row: row.end_ms)
        with self.empty_store() as store:
            store.write(rows, {})
            for _ in self.states(store):
                for metric, aggregation in itertools.product(Metric, Aggregation):
                    for step_ms, by in ((60_000, ()), (300_000, ("meter", "account"))):
                        asked = self._question(metric, step_ms)
                        asked = dataclasses.replace(asked, aggregation=aggregation, by=by)
                        check_answer(rows, asked, store.ask(asked))

    def _question(self, metric: Metric, step_ms: int = 60_000) -> Question:
        return Question(metric, self.origin_ms, self.origin_ms + 600_000, step_ms)

    def _row(self, cell: int) -> Row:
        start_ms = self.origin_ms + cell * GRID_MS
        parts = (
            Part(*HOLDERS[0], 0, 4000, 900_000_000 + cell, 50_000_000),
            Part(*HOLDERS[cell % 2 + 2], 4000, GRID_MS, 600_000_000, 0),
        )
        spread = Spread(100 + cell, 2000 + cell, 30_000 + cell)
        return Row(
            PLACES[0], start_ms, start_ms + GRID_MS, 9000, 1_500_000_000 + cell,
            "counter", False, parts, Stats(spread, spread, spread, spread, spread, 700 + cell),
        )  # fmt: skip
