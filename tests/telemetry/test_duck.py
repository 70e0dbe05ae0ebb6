"""The embedded store: the contract before and after compaction, retention, all at once."""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.telemetry.contract import StoreContract, check_answer, inherited
from tests.telemetry.duck_fleet import T0, energy_by_holder, held, row
from tests.telemetry.made import GRID_MS, questions, wild_rows

from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.base import Cursor, Metric, Question, TelemetryError, TelemetryStore
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_files import File, Files
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_schema import Resolution

_HOUR_MS = 3_600_000


class TestDuck(StoreContract):
    """Small pieces, so that even few rows need several files."""

    @contextmanager
    def empty_store(self) -> Iterator[TelemetryStore]:
        """Open a store in a new folder."""
        with tempfile.TemporaryDirectory() as folder:
            store = DuckStore(Path(folder), DuckOptions(piece_rows=16, free_bytes=0))
            try:
                yield store
            finally:
                store.close()

    def states(self, store: TelemetryStore) -> Iterator[None]:
        """All in the database, one day in Parquet, all in Parquet."""
        yield
        for days in (1, 3):
            store.tend(self.origin_ms + days * DAY_MS + 2 * _HOUR_MS)
            yield

    @settings(inherited, max_examples=10)
    @given(data=st.data())
    def test_rows_that_no_agent_sends(self, data: st.DataObject) -> None:
        """Of any length, overlapping, in any order; some late; energy the same everywhere."""
        rows = data.draw(wild_rows(self.origin_ms, self.cells))
        span_ms = (max(self.cells) + 1) * GRID_MS
        asked = data.draw(st.lists(questions(self.origin_ms, span_ms), min_size=1, max_size=3))
        in_time = data.draw(st.integers(0, len(rows)))
        with self.empty_store() as store:
            assert isinstance(store, DuckStore)
            store.write(rows[:in_time], {})
            store.tend(self.origin_ms + 2 * DAY_MS + _HOUR_MS)
            store.write(rows[in_time:], {})
            for days in (2, 3, 5):
                store.tend(self.origin_ms + days * DAY_MS + 3 * _HOUR_MS)
                for question in asked:
                    check_answer(rows, question, store.ask(question))
            full, five, hours = (energy_by_holder(store, resolution) for resolution in Resolution)
            assert full == five == hours
            assert len(rows) == sum(windows for _, _, windows in held(store, Resolution.HOUR))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """Return a store that keeps full resolution for 2 days, five minutes for 4, hours for 6."""
    options = DuckOptions(
        keep_full_ms=2 * DAY_MS,
        keep_five_minutes_ms=4 * DAY_MS,
        keep_hours_ms=6 * DAY_MS,
        free_bytes=0,
    )
    store = DuckStore(tmp_path, options)
    yield store
    store.close()


def test_retention(store: DuckStore) -> None:
    """Where a resolution is gone the next answers, and says so; at last there is nothing."""
    rows = [row(number) for number in range(8 * 144)]
    per_day = [sum(one.uj for one in rows[day * 144 : (day + 1) * 144]) / 1e6 for day in range(8)]
    for day in range(8):
        store.write(rows[day * 144 : (day + 1) * 144], {"j": Cursor(day, b"")})
        store.tend(T0 + (day + 1) * DAY_MS + _HOUR_MS)
    ends = [{end_ms for end_ms, _, _ in held(store, resolution)} for resolution in Resolution]
    assert [6, 4, 2] == [(min(of) - 1 - T0) // DAY_MS for of in ends]

    def days(since: int, until: int, step_ms: int) -> tuple[object, int]:
        asked = Question(Metric.ENERGY, T0 + since * DAY_MS, T0 + until * DAY_MS, step_ms)
        answer = store.ask(asked)
        values = [value or 0.0 for value in answer.series[0].values] if answer.series else []
        count = DAY_MS // step_ms
        sums = [sum(values[at : at + count]) for at in range(0, len(values), count)]
        return sums, answer.resolution_ms

    assert (pytest.approx(per_day[6:]), 0) == days(6, 8, 60_000)
    assert (pytest.approx(per_day[4:8]), 300_000) == days(4, 8, 60_000)
    assert (pytest.approx(per_day[4:8]), 300_000) == days(4, 8, 300_000)
    assert (pytest.approx([0, 0, *per_day[2:8]]), _HOUR_MS) == days(0, 8, 300_000)
    assert (pytest.approx([0, 0, *per_day[2:8]]), _HOUR_MS) == days(0, 8, _HOUR_MS)
    assert ([], 0) == days(0, 2, _HOUR_MS)


def test_late_rows_beyond_retention(store: DuckStore) -> None:
    """They are kept as long as their day would be, in the resolutions that it still has."""
    store.write([row(144 * 7)], {})
    store.tend(T0 + 8 * DAY_MS + _HOUR_MS)
    late = [row(10), row(144 * 3), row(144 * 5), row(144 * 7 + 1)]
    store.write(late, {})
    store.tend(T0 + 8 * DAY_MS + 3 * _HOUR_MS)
    kept = [[uj for _, uj, _ in held(store, resolution)] for resolution in Resolution]
    assert [[2008, 2009], [1720, 2008, 2009], [1432, 1720, 2008, 2009]] == kept


def test_hours_move_once_they_are_many(tmp_path: Path) -> None:
    """Closed hours only; a few late rows wait for an hour; small files become one."""
    store = DuckStore(tmp_path, DuckOptions(hot_rows=12, free_bytes=0))
    for hour in range(1, 13):
        store.write([row(number) for number in range(hour * 6 - 6, hour * 6)], {})
        store.tend(T0 + hour * _HOUR_MS + 900_000)
        assert store.counts()["hot_rows"] < 12
    assert store.counts()["full_files"] < 8
    before = store.counts()["hot_rows"]
    store.write([row(0)], {})
    store.tend(T0 + 12 * _HOUR_MS + 960_000)
    assert store.counts()["hot_rows"] == before + 1
    store.tend(T0 + 3 * DAY_MS)
    counts = store.counts()
    assert (0, 1, 1, 1, 73) == (
        counts["hot_rows"],
        counts["full_files"],
        counts["5m_files"],
        counts["1h_files"],
        counts["full_rows"],
    )
    assert T0 + 10_000 == counts["oldest_ms"]
    assert T0 + 3 * DAY_MS == counts["compacted_ms"]
    store.close()


def test_rows_that_come_while_their_day_moves(
    store: DuckStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in no file of that move, so they stay for the next."""
    late = iter([row(100)])
    publish = Files.publish

    def publish_late(self: Files, files: Sequence[File]) -> None:
        publish(self, files)
        store.write(list(late), {})

    monkeypatch.setattr(Files, "publish", publish_late)
    store.write([row(0)], {})
    store.tend(T0 + DAY_MS + _HOUR_MS)
    assert store.counts()["hot_rows"] == 1
    store.tend(T0 + DAY_MS + 2 * _HOUR_MS)
    for resolution in Resolution:
        assert [row(0).uj, row(100).uj] == [uj for _, uj, _ in held(store, resolution)]


def test_questions_while_rows_come_and_move(tmp_path: Path) -> None:
    """Each answer is of a moment: all of each batch or nothing, never a row twice or not at all."""
    store = DuckStore(tmp_path, DuckOptions(hot_rows=100, piece_rows=200, free_bytes=0))
    batches, per_batch = 14, 48
    sums = [sum(row(n).uj for n in range(count * per_batch)) for count in range(batches + 1)]
    problems: list[object] = []
    done = threading.Event()

    def ask(step_ms: int, least: int = 0) -> None:
        asked = Question(Metric.ENERGY, T0, T0 + 8 * DAY_MS, step_ms)
        while not done.is_set():
            try:
                series = store.ask(asked).series
                total = sum(value or 0.0 for value in series[0].values) if series else 0.0
                count = sums.index(round(total * 1e6))
            except Exception as error:  # noqa: BLE001 - told by the test
                problems.append(error)
                return
            if count < least:
                problems.append((count, least))
            least = count

    askers = [threading.Thread(target=ask, args=[step_ms]) for step_ms in (240_000, _HOUR_MS)]
    for asker in askers:
        asker.start()
    for batch in range(batches):
        store.write([row(n) for n in range(batch * per_batch, (batch + 1) * per_batch)], {})
        store.tend(T0 + (batch + 1) * per_batch * 600_000 + 660_000)
    done.set()
    for asker in askers:
        asker.join(60)
    assert [] == problems
    assert store.counts()["full_files"] > 2
    store.close()


def test_a_closed_store_answers_no_more(store: DuckStore) -> None:
    """With a reason; closing twice is fine."""
    store.close()
    store.close()
    with pytest.raises(TelemetryError, match="closed"):
        store.write([row(0)], {})


def test_a_snapshot_of_the_folder_is_a_backup(store: DuckStore, tmp_path: Path) -> None:
    """Taken while the store is open, as a file system's snapshot is."""
    store.write([row(number) for number in range(200)], {"j": Cursor(200, b"h")})
    store.tend(T0 + DAY_MS + _HOUR_MS)
    store.write([row(number) for number in range(200, 300)], {"j": Cursor(300, b"h")})
    shutil.copytree(tmp_path, tmp_path / "backup")
    store.write([row(300)], {"j": Cursor(301, b"h")})
    restored = DuckStore(tmp_path / "backup", DuckOptions(free_bytes=0))
    assert {"j": Cursor(300, b"h")} == restored.cursors()
    assert [row(number).uj for number in range(300)] == sorted(
        uj for _, uj, _ in held(restored, Resolution.FULL)
    )
    restored.close()
