"""The embedded store and files that cannot be read, full disks, databases of others."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from tests.telemetry.duck_fleet import PLACES, T0, held, row

from wattkeeper.model.grid import DAY_MS
from wattkeeper.model.state import State
from wattkeeper.model.window import Spread, Stats
from wattkeeper.telemetry import duck_asking
from wattkeeper.telemetry.base import Cursor, Metric, Question, Row, TelemetryError
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_database import FILE
from wattkeeper.telemetry.duck_options import DuckOptions
from wattkeeper.telemetry.duck_schema import Resolution
from wattkeeper.telemetry.duck_sql import Reach, question_sql

DAYS = 3
ROWS = [row(number) for number in range(DAYS * 144)]
NOW_MS = T0 + DAYS * DAY_MS + 3_600_000


def energy(store: DuckStore, step_ms: int = 60_000) -> list[float]:
    """Return the joules of each day, from full resolution unless told otherwise."""
    asked = Question(Metric.ENERGY, T0, T0 + DAYS * DAY_MS, step_ms)
    per_day = DAY_MS // step_ms
    values = store.ask(asked).series[0].values
    return [
        sum(value or 0.0 for value in values[day * per_day : (day + 1) * per_day])
        for day in range(DAYS)
    ]


EXPECTED = [sum(one.uj for one in ROWS[day * 144 : (day + 1) * 144]) / 1e6 for day in range(DAYS)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckStore]:
    """Return a store of three days, each a file in each resolution."""
    store = DuckStore(tmp_path / "s", DuckOptions(free_bytes=0))
    store.write(ROWS, {"j": Cursor(1, b"1")})
    store.tend(NOW_MS)
    assert [State.OK] == [finding.state for finding in store.findings()]
    yield store
    store.close()


def truncate(path: Path) -> None:
    """Cut the end off, where Parquet keeps what says where the rest is."""
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Keep both ends and the length."""
    content = bytearray(path.read_bytes())
    content[100:-2000] = bytes(len(content) - 2100)
    path.write_bytes(content)


def replace_by_another(path: Path) -> None:
    """Put a Parquet file of another program there."""
    pq.write_table(pa.table({"a": [1, 2, 3]}), path)


def unlink(path: Path) -> None:
    """Remove it."""
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, overwrite, replace_by_another, unlink])
def test_a_damaged_file_is_set_aside(
    store: DuckStore, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """The other days are answered, and what is missing is told; put back, it is read again."""
    hurt = next((tmp_path / "s/parquet/full").glob("2026-09-23-*.parquet"))
    shutil.copy(hurt, tmp_path / "copy")
    damage(hurt)
    assert pytest.approx([EXPECTED[0], 0, EXPECTED[2]]) == energy(store)
    assert pytest.approx(EXPECTED) == energy(store, 3_600_000), "the hours are in another file"
    (finding,) = store.findings()
    assert (State.FAILING, f"telemetry/parquet/full/{hurt.name}") == (
        finding.state,
        finding.subject,
    )
    assert "144 rows from 2026-09-23 00:00 to 2026-09-23 23:50 UTC" in finding.detail
    assert "from a backup" in finding.fix
    assert store.counts()["damaged_files"] == 1
    store.tend(NOW_MS)
    assert store.findings()[0].state is State.FAILING
    shutil.copy(tmp_path / "copy", hurt)
    store.tend(NOW_MS)
    assert pytest.approx(EXPECTED) == energy(store)
    assert [State.OK] == [finding.state for finding in store.findings()]


def test_a_damaged_file_is_not_merged(store: DuckStore, tmp_path: Path) -> None:
    """The attempt finds it out; late rows of its day stay beside it."""
    hurt = next((tmp_path / "s/parquet/5m").glob("2026-09-22-*.parquet"))
    overwrite(hurt)
    late = [replace(one, start_ms=one.start_ms + 1, end_ms=one.end_ms + 1) for one in ROWS[:4]]
    store.write(late, {})
    store.tend(NOW_MS + 3 * DAY_MS)
    assert f"telemetry/parquet/5m/{hurt.name}" == store.findings()[0].subject
    store.tend(NOW_MS + 4 * DAY_MS)
    assert hurt.exists()
    assert pytest.approx(sum(one.uj for one in late) / 1e6) == energy(store, 300_000)[0]
    more = EXPECTED[0] + sum(one.uj for one in late) / 1e6
    assert pytest.approx([more, *EXPECTED[1:]]) == energy(store)


def test_files_of_others_are_left_alone(store: DuckStore, tmp_path: Path) -> None:
    """Only names that this store gives are leftovers of a crash."""
    alien = tmp_path / "s/parquet/full/mine.parquet"
    leftover = tmp_path / "s/parquet/full/.2026-09-22-0123456789ab.parquet.tmp"
    alien.touch()
    leftover.touch()
    store.tend(NOW_MS)
    assert (alien.exists(), leftover.exists()) == (True, False)
    assert pytest.approx(EXPECTED) == energy(store)


def test_the_database_is_gone(store: DuckStore, tmp_path: Path) -> None:
    """The files that it listed are not taken for leftovers."""
    store.close()
    (tmp_path / "s" / FILE).unlink()
    with pytest.raises(TelemetryError, match=r"is gone, which lists the files .* restore both"):
        DuckStore(tmp_path / "s")
    assert len(list((tmp_path / "s/parquet").rglob("*.parquet"))) == 9


def test_a_newer_schema(store: DuckStore, tmp_path: Path) -> None:
    """An older program does not touch it."""
    store.close()
    with duckdb.connect(tmp_path / "s" / FILE) as connection:
        connection.execute("UPDATE state SET version = 99")
    with pytest.raises(TelemetryError, match=r"newer version of wattkeeper .schema 99"):
        DuckStore(tmp_path / "s")


def test_not_its_database(tmp_path: Path) -> None:
    """Neither DuckDB at all, nor another program's."""
    (tmp_path / FILE).write_text("hello " * 1000)
    with pytest.raises(TelemetryError, match=r"not a valid DuckDB .* Move it away"):
        DuckStore(tmp_path)
    (tmp_path / FILE).unlink()
    with duckdb.connect(tmp_path / FILE) as connection:
        connection.execute("CREATE TABLE a (b INTEGER)")
    with pytest.raises(TelemetryError, match="another program's database"):
        DuckStore(tmp_path)


def test_another_process_has_it(store: DuckStore, tmp_path: Path) -> None:
    """Two aggregators with one folder: the second says why it cannot."""
    code = f"""
from pathlib import Path
from wattkeeper.telemetry.base import TelemetryError
from wattkeeper.telemetry.duck import DuckStore
try:
    DuckStore(Path({str(tmp_path / "s")!r}))
except TelemetryError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": "daemon"}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert "Another aggregator uses this folder" in told
    assert pytest.approx(EXPECTED) == energy(store)


def test_too_little_room(tmp_path: Path) -> None:
    """It stops before the disk is full, and says so."""
    store = DuckStore(tmp_path, DuckOptions(free_bytes=1 << 60))
    with pytest.raises(TelemetryError, match="have to stay free; make room"):
        store.write(ROWS, {"j": Cursor(1, b"1")})
    assert {} == store.cursors()
    assert "make room" in store.findings()[0].detail
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("may not mount here")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def of_one_day(number: int) -> Row:
    """Return row `number`, of the first day."""
    return row(number, T0 + number % 8000 * 10_000)


@pytest.mark.root
def test_a_full_disk(small_disk: Path) -> None:
    """Nothing half-taken, and it goes on as soon as there is room: in DuckDB's own writes too."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    options = DuckOptions(free_bytes=0)
    store = DuckStore(small_disk / "s", options)
    taken = 0
    told: list[str] = []
    while len(told) < 4:
        rows = [of_one_day(number) for number in range(taken, taken + 2000)]
        try:
            store.write(rows, {"j": Cursor(taken + 2000, b"h")})
            taken += 2000
        except TelemetryError as error:
            told.append(str(error))
            if len(told) == 2:
                store.close()
                store = DuckStore(small_disk / "s", options)
            assert store.cursors()["j"].seq == taken
        assert taken < 100_000, "the disk does not fill up"
    assert all("not written" in why for why in told)
    (small_disk / "rest").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(TelemetryError, match="not tended"):
        store.tend(T0 + 2 * DAY_MS)
    assert State.FAILING is store.findings()[0].state
    ballast.unlink()
    (small_disk / "rest").unlink()
    store.write([of_one_day(taken)], {"j": Cursor(taken + 1, b"h")})
    store.tend(T0 + 2 * DAY_MS)
    assert [State.OK] == [finding.state for finding in store.findings()]
    for resolution in Resolution:
        found = held(store, resolution)
        assert taken + 1 == sum(windows for _, _, windows in found)
        assert sum(row(n).uj for n in range(taken + 1)) == sum(uj for _, uj, _ in found)
    store.close()


@pytest.mark.root
def test_a_disk_that_becomes_read_only(small_disk: Path) -> None:
    """What is there is answered; writing says what is wrong; then it goes on."""
    store = DuckStore(small_disk / "s", DuckOptions(free_bytes=0))
    store.write(ROWS[:10], {"j": Cursor(10, b"h")})
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(TelemetryError, match=r"Read-only .*writable"):
        DuckStore(small_disk / "s", DuckOptions(free_bytes=0))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    store = DuckStore(small_disk / "s", DuckOptions(free_bytes=0))
    assert store.cursors()["j"].seq == 10
    store.close()


def test_values_that_fit_no_column(tmp_path: Path) -> None:
    """A node that counts nonsense does not keep the others' rows out."""
    spread = Spread(1, 2, 1 << 40)
    bad_stats = replace(row(1), stats=Stats(power_mw=spread, memory_used_bytes=spread))
    bad_row = Row(PLACES[0], T0, T0 + 1, 1, 1 << 70, "counter", False, (), None)
    store = DuckStore(tmp_path, DuckOptions(free_bytes=0))
    store.write([row(0), bad_stats, bad_row], {"j": Cursor(1, b"")})
    store.write([bad_row], {"j": Cursor(2, b"")})
    with store._database.reading() as connection:
        found = connection.execute(
            "SELECT energy_uj, power_max_mw, memory_used_max_bytes FROM hot ORDER BY 1"
        ).fetchall()
    assert [(1000, 2, 2), (1001, None, 1 << 40)] == found
    assert store.counts()["misfits"] == 3
    assert "3 impossible values" in store.findings()[0].detail
    store.close()


def test_a_question_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and says what to ask instead; the store lives on."""

    def endless(question: Question, reach: Reach) -> str:
        sql = question_sql(question, reach)
        return sql.replace("FROM hot", "FROM hot, range(10000000), range(10000000)")

    store = DuckStore(tmp_path, DuckOptions(ask_s=0.05))
    store.write(ROWS, {})
    with monkeypatch.context() as patched:
        patched.setattr(duck_asking, "question_sql", endless)
        with pytest.raises(TelemetryError, match="ask for a shorter time, a longer step"):
            energy(store)
    assert [State.OK] == [finding.state for finding in store.findings()]
    store.close()


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Question(Metric.POWER, T0, T0 + 10_000, 10_000, by=("1; DROP TABLE hot",)), "no label"),
        (Question(Metric.POWER, T0, T0 + 10_000, 10_000, where={"source": ("x",)}), "no label"),
        (Question(Metric.POWER, T0, T0 + 12_000_000, 1000), "at most 11000"),
        (Question(Metric.POWER, T0, T0, 1000), "at least one"),
    ],
)
def test_questions_that_cannot_be(store: DuckStore, question: Question, reason: str) -> None:
    """They are refused with the reason."""
    with pytest.raises(TelemetryError, match=reason):
        store.ask(question)


def test_retention_the_wrong_way_round() -> None:
    """A coarser resolution has to be there where a finer one is gone."""
    with pytest.raises(TelemetryError, match="keep it at least as long"):
        DuckOptions(keep_full_ms=None)
