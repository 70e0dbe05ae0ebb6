"""The history moves to another store: every row once, however often it is interrupted; proved."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from tests.telemetry.engines import victoria_metrics
from tests.telemetry.made import tidy_rows
from tests.telemetry.memory_store import MemoryStore
from tests.telemetry.remote_stores import ORIGIN_MS, remote_store, rows

from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.window import Stats
from wattkeeper.telemetry import carrying
from wattkeeper.telemetry.base import Cursor, Row, TelemetryError
from wattkeeper.telemetry.carrying import Carrier
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_options import DuckOptions

CURSORS = {"j": Cursor(7, b"h" * 16)}
CELLS = (0, 1, 2, 30, 31, 359, 8_640, 8_641, 17_300)


@contextmanager
def history(folder: Path, held: Sequence[Row]) -> Iterator[DuckStore]:
    """A store with these rows: those of the first days in Parquet, the last in the database."""
    store = DuckStore(folder / "history", DuckOptions(piece_rows=16, free_bytes=0))
    try:
        store.write(held, CURSORS)
        store.tend(ORIGIN_MS + DAY_MS + 7_200_000)
        yield store
    finally:
        store.close()


def plain(found: Sequence[Row]) -> list[str]:
    """Return rows in one order, parts in another's; statistics of nothing are none."""
    return sorted(
        str(
            replace(
                row,
                parts=sorted(row.parts, key=str),
                stats=None if row.stats == Stats() else row.stats,
            )
        )
        for row in found
    )


class Interrupted(MemoryStore):
    """Refuses every third batch."""

    calls = 0

    def write(self, rows: Sequence[Row], cursors: Mapping[str, Cursor]) -> None:
        """Take rows, or not."""
        self.calls += 1
        if self.calls % 3 == 0:
            raise TelemetryError("not now")
        super().write(rows, cursors)


@settings(max_examples=8)
@given(held=tidy_rows(ORIGIN_MS, CELLS))
def test_every_row_once(tmp_path_factory: pytest.TempPathFactory, held: list[Row]) -> None:
    """As they were written, in spite of interruptions; the cursors come last."""
    folder = tmp_path_factory.mktemp("carry")
    with history(folder, held) as source, pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrying, "BATCH", 2)
        target = Interrupted()
        carrier = Carrier(source, target, folder / "note.json")
        for _ in range(40):
            with contextlib.suppress(TelemetryError):
                last = list(carrier.carry())[-1]
                assert last.days == last.of
                break
        else:
            pytest.fail("never done")
        assert plain(target.rows) == plain(held)
        assert target.kept == CURSORS
        assert list(carrier.differences()) == []
        lost = target.rows.pop()
        assert len(list(carrier.differences())) == bool(lost.uj)


def test_a_note_that_is_none(tmp_path: Path) -> None:
    """It says what to do."""
    (tmp_path / "note.json").write_text("{")
    with history(tmp_path, rows(1)) as source:
        carrier = Carrier(source, MemoryStore(), tmp_path / "note.json")
        with pytest.raises(TelemetryError, match="remove it to begin anew"):
            list(carrier.carry())


@pytest.mark.engines
def test_into_a_real_engine(tmp_path: Path) -> None:
    """Proved by the engine's own sums."""
    held = rows(*range(200), *range(8_640, 8_700))
    (tmp_path / "vm").mkdir()
    with (
        history(tmp_path, held) as source,
        victoria_metrics(tmp_path / "vm", "-dedup.minScrapeInterval=1ms") as engine,
        remote_store(engine.write_url, tmp_path / "remote") as target,
    ):
        carrier = Carrier(source, target, tmp_path / "note.json")
        assert list(carrier.carry())[-1].rows == len(held)
        engine.flush()
        assert list(carrier.differences()) == []
        assert target.cursors() == CURSORS
        source.write(rows(300), {})
        (found,) = carrier.differences()
        assert found.source_joules - found.target_joules == pytest.approx(1300)
