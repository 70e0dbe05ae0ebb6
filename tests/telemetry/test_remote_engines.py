"""What real engines do besides the contract: refuse, keep twice, and hide what is new."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.telemetry.contract import check_answer, inherited
from tests.telemetry.engines import Engine, prometheus, victoria_metrics
from tests.telemetry.made import PLACES, questions, wild_rows
from tests.telemetry.remote_stores import CELL_MS, ORIGIN_MS, remote_store, row, rows

from wattkeeper.model.state import State
from wattkeeper.telemetry.base import Aggregation, Cursor, Metric, Question, Row
from wattkeeper.telemetry.remote import RemoteStore
from wattkeeper.telemetry.remote_series import sample_ms

pytestmark = pytest.mark.engines

_Start = Callable[[Path], AbstractContextManager[Engine]]


def _open_prometheus(folder: Path) -> AbstractContextManager[Engine]:
    return prometheus(folder, "30d")


@pytest.fixture(params=[_open_prometheus, victoria_metrics], ids=["prometheus", "victoria"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Run either engine, for one test."""
    start: _Start = request.param
    with start(tmp_path) as running:
        yield running


def _power(**more: object) -> Question:
    return Question(
        Metric.POWER, ORIGIN_MS - 7_200_000, ORIGIN_MS + 7_200_000, 60_000, **more  # type: ignore[arg-type]
    )  # fmt: skip


def _kept(folder: Path) -> list[tuple[str, int]]:
    """Return meter and end of each refused row."""
    return sorted(
        (line["meter"], round(line["end_time"].timestamp() * 1000))
        for path in (folder / "refused").glob("*.parquet")
        for line in pq.read_table(path).to_pylist()
    )


def test_refused_rows_are_kept_and_the_others_arrive(tmp_path: Path) -> None:
    """A Prometheus that takes nothing old; out of order, and another value for the same time."""
    new, other = PLACES[1], PLACES[5]
    with (
        prometheus(tmp_path) as engine,
        remote_store(engine.write_url, tmp_path, batch_rows=16) as store,
    ):
        store.write([row(100)], {"j": Cursor(1, b"1")})
        changed = replace(row(100), uj=5, parts=(replace(row(100).parts[0], uj=5, idle_uj=0),))
        good = [row(100), *rows(101, 102), *(row(cell, new) for cell in range(90, 103))]
        bad = [changed, row(99), *(row(cell, other) for cell in range(-800, -760))]
        assert not (tmp_path / "refused").exists()
        store.write([*good[1:], *bad], {"j": Cursor(2, b"2")})
        assert {"j": Cursor(2, b"2")} == store.cursors()
        assert sorted((r.place.meter, r.end_ms) for r in bad) == _kept(tmp_path)
        check_answer(good, _power(by=("meter",)), store.ask(_power(by=("meter",))))
        (finding,) = [f for f in store.findings() if f.state is not State.OK]
        assert finding.subject == "telemetry/refused"
        assert finding.detail.startswith(f"{len(bad)} rows")
        assert str(tmp_path / "refused") in finding.detail
        assert "out of bounds" in finding.detail
        counts = store.counts()
        assert (len(bad), len(bad)) == (counts["refused_rows"], counts["refused_kept_rows"])
        assert counts["requests"] < 120


def test_rows_older_than_the_window_for_out_of_order_ones(tmp_path: Path) -> None:
    """Prometheus 2.42 answers 500 to these, not 400: it would never take them either."""
    with prometheus(tmp_path, "30m") as engine, remote_store(engine.write_url, tmp_path) as store:
        store.write(rows(0), {})
        store.write(rows(-1, -179, -181, -182, -900), {"j": Cursor(1, b"")})
        assert [(PLACES[0].meter, row(cell).end_ms) for cell in (-900, -182, -181)] == _kept(
            tmp_path
        )
        check_answer(rows(0, -1, -179), _power(), store.ask(_power()))


def test_a_long_backlog_of_one_node(tmp_path: Path) -> None:
    """What is too old for all costs few requests, however many meters it is of."""
    with prometheus(tmp_path) as engine, remote_store(engine.write_url, tmp_path) as store:
        store.write([row(0, PLACES[5])], {})
        backlog = [row(cell, place) for cell in range(-400, -340) for place in PLACES[:5]]
        good = [r for r in backlog if r.end_ms - 1 >= row(0).end_ms - 1 - 3_600_000]
        assert 0 < len(good) < len(backlog)
        before = store.counts()["requests"]
        store.write(backlog, {})
        assert len(backlog) - len(good) == store.counts()["refused_rows"]
        assert store.counts()["requests"] - before < 150
        asked = _power(by=("cluster", "node", "meter"))
        check_answer([row(0, PLACES[5]), *good], asked, store.ask(asked))


def test_what_is_sent_again_is_there_once(engine: Engine, tmp_path: Path) -> None:
    """Also by another process, which does not remember; and it is found out that it is so."""
    with remote_store(engine.write_url, tmp_path) as store:
        store.write(rows(0, 1, 2, 30), {})
    with remote_store(engine.write_url, tmp_path) as store:
        store.tend(ORIGIN_MS)
        store.write(rows(0, 1, 2, 30, 31), {})
        engine.flush()
        check_answer(rows(0, 1, 2, 30, 31), _power(), store.ask(_power()))
        store.tend(ORIGIN_MS)
        engine.flush()
        store.tend(ORIGIN_MS)
        requests = store.counts()["requests"]
        for _ in range(8):
            store.tend(ORIGIN_MS)
        assert store.counts()["requests"] == requests
        assert all(finding.state is State.OK for finding in store.findings())


def test_an_engine_that_keeps_samples_twice(tmp_path: Path) -> None:
    """VictoriaMetrics as it comes: answers would count twice what an interruption sent again."""
    with (
        victoria_metrics(tmp_path, "-dedup.minScrapeInterval=0") as engine,
        remote_store(engine.write_url, tmp_path) as store,
    ):
        store.write(rows(0), {})
        store.tend(ORIGIN_MS)
        engine.flush()
        store.tend(ORIGIN_MS)
        (finding,) = [f for f in store.findings() if f.state is State.FAILING]
        assert "-dedup.minScrapeInterval=1ms" in finding.fix


def test_an_engine_that_forgets_at_once(tmp_path: Path) -> None:
    """VictoriaMetrics acknowledges what is older than its retention, and drops it."""
    month_ms = 30 * 86_400_000
    at_ms = (time.time_ns() // 1_000_000 - 12 * month_ms) // CELL_MS * CELL_MS
    with (
        victoria_metrics(tmp_path, "-retentionPeriod=1") as engine,
        remote_store(engine.write_url, tmp_path) as store,
    ):
        store.write([row(0, origin_ms=at_ms)], {})
        engine.flush()
        for _ in range(6):
            store.tend(at_ms)
        (finding,) = [f for f in store.findings() if f.state is State.FAILING]
        assert "retention" in finding.fix


def test_questions_at_once_while_rows_come(engine: Engine, tmp_path: Path) -> None:
    """Each has its own connection."""
    with (
        remote_store(engine.write_url, tmp_path, batch_rows=2) as store,
        ThreadPoolExecutor(8) as threads,
    ):
        store.write(rows(*range(30)), {})
        engine.flush()
        asked = Question(Metric.POWER, ORIGIN_MS, ORIGIN_MS + 300_000, 60_000)
        writing = threads.submit(store.write, rows(*range(30, 90)), {})
        answers = list(threads.map(store.ask, [asked] * 40))
        writing.result(60)
        for answer in answers:
            check_answer(rows(*range(30)), asked, answer)


def test_the_newest_steps_are_as_they_are(engine: Engine, tmp_path: Path) -> None:
    """Also those that VictoriaMetrics takes for incomplete; nothing is carried on after them."""
    now_ms = time.time_ns() // 1_000_000
    origin_ms = (now_ms - 120_000) // 60_000 * 60_000
    taken = [row(cell, origin_ms=origin_ms) for cell in range((now_ms - origin_ms) // CELL_MS)]
    with remote_store(engine.write_url, tmp_path) as store:
        store.write(taken, {})
        engine.flush()
        for step_ms in (2_000, CELL_MS, 60_000, 300_000):
            since_ms = origin_ms // step_ms * step_ms
            for end_ms in (now_ms, now_ms + 40_000, now_ms + 600_000):
                until_ms = -(-end_ms // step_ms) * step_ms
                asked = Question(Metric.ENERGY, since_ms, until_ms, step_ms)
                check_answer(taken, asked, store.ask(asked))


def test_many_runs_in_several_queries(engine: Engine, tmp_path: Path) -> None:
    """Their parts in one meter count together, whatever is asked of them."""
    holders = [("slurm", str(job), 1_790_000_000_000 + job) for job in range(80)]
    taken = []
    for cell, place in ((cell, place) for cell in range(3) for place in PLACES[:4]):
        plain = row(cell, place)
        chosen = holders[cell::7] if place != PLACES[3] else holders[:1]
        parts = [
            replace(plain.parts[0], workload=job, birth_ms=birth, uj=1_000_000, idle_uj=3)
            for _, job, birth in chosen
        ]
        taken.append(replace(plain, parts=tuple(parts), uj=1_000_000 * len(parts)))
    with remote_store(engine.write_url, tmp_path) as store:
        store.write(taken, {})
        engine.flush()
        for metric in Metric:
            for aggregation in Aggregation:
                asked = Question(
                    metric, ORIGIN_MS, ORIGIN_MS + 60_000, 20_000, aggregation, by=("node",),
                    holders=frozenset(holders[:78]),
                )  # fmt: skip
                check_answer(taken, asked, store.ask(asked))


def test_texts_that_a_language_stumbles_over(engine: Engine, tmp_path: Path) -> None:
    """Each is found by itself, and together with another, and nothing else is."""
    texts = [
        'a"b', "a\\b", "a\nb", "a.b", "a+b", "a|b", "ab", "a", "a\x01b", "a\x7fb", "{a}", "[a]b",
        "^a$", "(a", "a)", "a*", "a?", "ü€😀", "a' or 1=1", "a#b", "a`b", "%s", "a\tb", "a\r\nb",
        "$1", "\\", '"', ".*", "x" * 600, "x" * 601,
    ]  # fmt: skip
    taken = [row(0, PLACES[0]._replace(node=text)) for text in texts]
    with remote_store(engine.write_url, tmp_path) as store:
        store.write(taken, {})
        engine.flush()
        for one, other in pairwise(texts):
            for wanted in ((one,), (one, other)):
                asked = Question(
                    Metric.ENERGY, ORIGIN_MS, ORIGIN_MS + CELL_MS, CELL_MS, where={"node": wanted}
                )
                found = store.ask(asked).series
                assert [len(wanted) * 1000.0] == [round(v or 0, 3) for v in found[0].values], wanted


class _AnyRows:
    """Rows of any length and order: no contract, but what is not the same instant is right."""

    start: _Start

    @settings(inherited, max_examples=15)
    @given(data=st.data())
    def test_answers_are_those_of_the_reference(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        """With ends between whole seconds, and all of it written twice."""
        wild = data.draw(wild_rows(ORIGIN_MS, (0, 1, 2, 29, 30, 42, 360)))
        taken: list[Row] = list({(r.place, sample_ms(r)): r for r in wild}.values())
        asked = data.draw(st.lists(questions(ORIGIN_MS, 3_700_000), min_size=1, max_size=6))
        folder = tmp_path_factory.mktemp("any")
        with type(self).start(folder) as engine:
            for _ in range(2):
                with remote_store(engine.write_url, folder) as store:
                    store.write(taken, {})
            engine.flush()
            with remote_store(engine.write_url, folder) as store:
                _check_all(store, taken, asked)


def _check_all(store: RemoteStore, taken: list[Row], asked: list[Question]) -> None:
    for question in asked:
        check_answer(taken, question, store.ask(question))


class TestAnyRowsOnPrometheus(_AnyRows):
    """Ranges with both ends."""

    start = staticmethod(_open_prometheus)


class TestAnyRowsOnVictoriaMetrics(_AnyRows):
    """Ranges with the later end only."""

    start = staticmethod(victoria_metrics)
