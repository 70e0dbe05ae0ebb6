"""What a store on an engine keeps itself: cursors and refused rows."""

import os
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.telemetry.made import wild_rows
from tests.telemetry.remote_stores import ORIGIN_MS, rows

from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry.base import Cursor, Part, Place, Row, TelemetryError
from wattkeeper.telemetry.remote_cursors import SqliteCursors
from wattkeeper.telemetry.remote_refused import RefusedRows
from wattkeeper.telemetry.remote_write import RefusedRow


def test_cursors_stay(tmp_path: Path) -> None:
    """Each journal's last one, in a new process too."""
    path = tmp_path / "new" / "cursors.sqlite"
    first = SqliteCursors(path)
    first.move({"a": Cursor(1, b"\x00\xff"), "b": Cursor(2, b"")})
    first.move({"a": Cursor((1 << 63) - 1, b"3")})
    first.move({})
    first.close()
    again = SqliteCursors(path)
    assert {"a": Cursor((1 << 63) - 1, b"3"), "b": Cursor(2, b"")} == again.read()
    assert (2,) == again._database.execute("PRAGMA synchronous").fetchone()
    again.close()


def test_cursors_move_together(tmp_path: Path) -> None:
    """One that cannot be written keeps the others back."""
    cursors = SqliteCursors(tmp_path / "cursors.sqlite")
    with pytest.raises(TelemetryError, match="does not take the cursors"):
        cursors.move({"a": Cursor(1, b""), "b": Cursor(2, None)})  # type: ignore[arg-type]
    assert {} == cursors.read()
    cursors.close()
    with pytest.raises(TelemetryError, match="cannot read"):
        cursors.read()


def test_files_that_are_no_cursors(tmp_path: Path) -> None:
    """Something else, something newer, somewhere that cannot be: each is said."""
    other = tmp_path / "other"
    other.write_bytes(b"no database" * 100)
    with pytest.raises(TelemetryError, match=r"cannot open .* not a database"):
        SqliteCursors(other)
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(TelemetryError, match="newer version of Wattkeeper"):
        SqliteCursors(newer)
    with pytest.raises(TelemetryError, match="cannot open"):
        SqliteCursors(other / "below a file")


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_refused_rows_are_in_the_file_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """With the columns that the embedded store's files have, in any Parquet reader."""
    folder = tmp_path_factory.mktemp("refused")
    wild: list[Row] = data.draw(wild_rows(ORIGIN_MS, (0, 1, 30)))
    store = RefusedRows(folder, 1 << 30)
    refused = [RefusedRow(row, f"reason {n}") for n, row in enumerate(wild)]
    store.keep(refused)
    store.keep(refused)  # a write that came again
    (path,) = folder.glob("*.parquet")
    lines = pq.read_table(path).to_pylist()
    assert [(f"reason {n}", row.place, row.uj) for n, row in enumerate(wild)] == [
        (line["reason"], tuple(line[name] for name in Place._fields), line["energy_uj"])
        for line in lines
    ]
    for row, line in zip(wild, lines, strict=True):
        times = [round(line[name].timestamp() * 1000) for name in ("start_time", "end_time")]
        assert [row.start_ms, row.end_ms] == times
        parts = [Part(**part) for part in line["shares"] or ()]
        assert parts == list(row.parts) or (not parts and len(row.parts) < 2)
        power = row.stats and row.stats.power_mw
        assert (power and power.greatest) == line["power_max_mw"]
    kept = store.kept()
    assert (1, len(wild), path.stat().st_size) == (kept.files, kept.rows, kept.size)


def test_nonsense_of_a_node_is_no_reason_to_stop(tmp_path: Path) -> None:
    """A statistic that no column holds is not seen; an energy that none holds is counted."""
    (good,) = rows(0)
    spread = Spread(1, 2, (1 << 64) - 1)
    store = RefusedRows(tmp_path, 1 << 30)
    store.keep([RefusedRow(replace(good, uj=1 << 64), "old")])
    assert (0, 1) == (store.kept().rows, store.dropped)
    store.keep([RefusedRow(replace(good, stats=Stats(memory_used_bytes=spread)), "old")])
    (line,) = pq.read_table(next(tmp_path.glob("*.parquet"))).to_pylist()
    assert (good.uj, None) == (line["energy_uj"], line["memory_used_max_bytes"])


def test_the_folder_does_not_grow_without_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The files that were written first go, the last one stays; what others put there as well."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "mine.parquet").write_text("mine")
    store = RefusedRows(tmp_path, 30_000)
    for at in range(9, 0, -1):
        store.keep([RefusedRow(row, "old") for row in rows(at, at + 20)])
        for age, path in enumerate(sorted(tmp_path.glob("2*.parquet"))):
            os.utime(path, (1e9 - age, 1e9 - age))  # a clock need not tell them apart
    kept = store.kept()
    assert 0 < kept.size <= 30_000
    assert store.dropped > 0
    assert kept.rows + store.dropped == 18
    assert "deleted to make room" in caplog.text
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "mine.parquet").exists()
    assert any("20260921" in path.name or "20260922" in path.name for path in tmp_path.iterdir())
    tiny = RefusedRows(tmp_path, 1)
    tiny.keep([RefusedRow(row, "old") for row in rows(50)])
    assert tiny.kept().rows == 1
