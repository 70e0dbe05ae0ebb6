"""The examples of `docs/telemetry.md` work on the files of a real store."""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.telemetry.duck_fleet import T0, row
from wattkeeper.model.grid import DAY_MS
from wattkeeper.telemetry.duck import DuckStore
from wattkeeper.telemetry.duck_options import DuckOptions

_PAGE = (Path(__file__).parents[2] / "docs/telemetry.md").read_text()
_ROWS = [row(number) for number in range(100)]


def example(language: str, name: str) -> str:
    """Return the example of the page that begins with a name."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)
    return next(block for block in blocks if name in block.splitlines()[0])


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a store of a hundred rows and go there."""
    store = DuckStore(tmp_path, DuckOptions(free_bytes=0))
    store.write(_ROWS, {})
    store.tend(T0 + 2 * DAY_MS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "parquet"
    store.close()


def test_duckdb() -> None:
    """Sums are those of the rows."""
    by_node = duckdb.execute(example("sql", "DuckDB: mean power")).fetchall()
    assert pytest.approx(sum(one.uj for one in _ROWS) / 3.6e12) == sum(kw for _, _, kw in by_node)
    by_workload = duckdb.execute(example("sql", "DuckDB: energy of each workload")).fetchall()
    parts = sum(part.uj for one in _ROWS for part in one.parts if part.account == "workload")
    assert [("slurm", "0", pytest.approx(parts / 3.6e12))] == by_workload


def test_pyarrow() -> None:
    """One GPU of four."""
    names: dict[str, object] = {}
    exec(example("python", "pyarrow"), names)
    gpu = names["gpu"]
    assert 25 == gpu.num_rows  # type: ignore[attr-defined]


def test_the_columns_are_those_of_the_page(files: Path) -> None:
    """All of them, and none besides; times are UTC."""
    table = _PAGE.partition("| column | type | |")[2].partition("\n\n")[0]
    told: set[str] = set()
    for line in table.splitlines()[2:]:
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            middle = re.sub(r"…|\{min,mean,max\}", "*", name)
            told |= {middle.replace("*", stat) for stat in ("min", "mean", "max")}
    for path in files.rglob("*.parquet"):
        schema = pq.read_schema(path)
        assert told == set(schema.names)
        assert "timestamp[us, tz=UTC]" == str(schema.field("start_time").type)
