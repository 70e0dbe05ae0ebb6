"""`wattkeeper export`: whole files, of any length of time."""

import csv
import errno
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.aggregator.feeding import CPU_UJ, GPU_UJ, START_MS
from tests.aggregator.past import Past
from tests.cli.conftest import Run
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.cli import client, export_pages
from wattkeeper.cli.command import CommandError
from wattkeeper.cli.export_files import CsvTable, ParquetTable, Row, whole
from wattkeeper.cli.export_pages import Pages
from wattkeeper.cli.output import clean
from wattkeeper.telemetry.base import Part, Place
from wattkeeper.telemetry.base import Row as Metered

END_MS = START_MS + 1_800_000
PERIOD = ("--since", rfc3339(START_MS), "--until", rfc3339(END_MS))
WHOLE_J = 2 * 180 * (GPU_UJ + CPU_UJ) / 1e6


def rows(file: Path) -> list[dict[str, str]]:
    """Read CSV back."""
    return list(csv.DictReader(io.StringIO(file.read_text())))


def left(folder: Path) -> list[str]:
    """Return what is in a folder, beside the books."""
    return sorted(path.name for path in folder.iterdir() if "all." in path.name)


async def test_a_csv_file(recall: Run, tmp_path: Path) -> None:
    """A row for each step and series, sorted; all energy is in it, and nothing else remains."""
    file = tmp_path / "out" / "all.csv"
    file.parent.mkdir()
    args = ("--metric", "energy,temperature", "--step", "10s", *PERIOD)
    done = await recall("export", *args, "--out", str(file))
    assert (done.code, done.err) == (0, "")
    assert f"{file}: 720 rows" in done.out
    found = rows(file)
    assert found[0] == {
        "start": rfc3339(START_MS), "seconds": "10", "node": "node001", "component": "cpu",
        "device": "0/package", "energy_joules": "1000", "temperature_celsius": "60",
    }  # fmt: skip
    assert sum(float(row["energy_joules"]) for row in found) == pytest.approx(WHOLE_J)
    assert found == sorted(found, key=lambda row: list(row.values())[:5])
    assert left(file.parent) == ["all.csv"]


async def test_a_parquet_file(recall: Run, tmp_path: Path) -> None:
    """Has the same values, in types that say what they are; names that the ledger knows."""
    args = ("--metric", "power,utilization", "--by", "user,node", "--step", "5m", *PERIOD)
    for name in ("all.csv", "all.parquet"):
        assert (await recall("export", *args, "--out", str(tmp_path / name))).code == 0
    table = parquet.read_table(tmp_path / "all.parquet")
    assert [(one.name, str(one.type).partition("<")[0]) for one in table.schema] == [
        ("start", "timestamp[ms, tz=UTC]"), ("seconds", "double"), ("user", "dictionary"),
        ("node", "dictionary"), ("payer", "dictionary"), ("power_watts", "double"),
        ("utilization_ratio", "double"),
    ]  # fmt: skip
    found = table.to_pylist()
    as_csv = rows(tmp_path / "all.csv")
    assert len(found) == len(as_csv) == 6 * 6
    for row, text in zip(found, as_csv, strict=True):
        assert row["start"].isoformat().replace("+00:00", "Z") == text["start"]
        assert (row["user"], row["payer"]) == (text["user"], text["payer"])
        assert row["power_watts"] == pytest.approx(float(text["power_watts"]))
        assert (row["utilization_ratio"], text["utilization_ratio"]) == (None, "")


async def test_filters(recall: Run, tmp_path: Path) -> None:
    """Narrow what is written; what cannot be asked for is said in the aggregator's words."""
    file = tmp_path / "job.csv"
    filters: tuple[tuple[tuple[str, ...], int], ...] = (
        (("--job", "123", "--by", "component"), 2),
        (("--node", "node[003-009]", "--component", "gpu"), 1),
        (("--user", "alice,bob", "--by", "job"), 2),
        (("--account", "physics", "--partition", "gpu", "--cluster", "west", "--by", "node"), 1),
        (("--by", "group:rack", "--aggregation", "max"), 2),
    )
    for args, number in filters:
        done = await recall("export", *args, *PERIOD, "--step", "30m", "--out", str(file))
        assert (done.code, len(rows(file))) == (0, number), args
    for wrong, says in (
        (("--by", "shoe"), "none of cluster, node"),
        (("--component", "tpu"), "none of gpu"),
        (("--since", "yesterday"), "--since: 'yesterday' is not a time"),
        (("--until", "2020-01-01"), "--until: until must be after since"),
    ):
        done = await recall("export", *PERIOD, *wrong, "--out", str(file))
        assert (done.code, says in done.err) == (2, True), done.err


async def test_relative_times_are_the_aggregator_s(recall: Run, tmp_path: Path) -> None:
    """Whose clock is another in these tests."""
    file = tmp_path / "all.csv"
    done = await recall("export", "--since", "-30m", "--by", "node", "--out", str(file))
    assert (done.code, rows(file)[0]["start"]) == (0, rfc3339(START_MS))


async def test_page_after_page(
    recall: Run, fresh: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small pages make the same file as one, and each is asked for once."""
    for number, (wanted, first) in enumerate(((10**9, 10**6), (1, 1))):
        monkeypatch.setattr(export_pages, "_WANTED", wanted)
        monkeypatch.setattr(export_pages, "_FIRST_STEPS", first)
        args = ("--step", "10s", *PERIOD, "--out", str(tmp_path / f"{number}.csv"))
        fresh.rows.asked.clear()
        assert (await recall("export", *args)).code == 0
        assert len(fresh.rows.asked) == (1, 6)[number]
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()


async def test_downsampled_history(recall: Run, fresh: Past, tmp_path: Path) -> None:
    """Steps are as long as its rows are, none comes twice, and nothing is lost between."""
    place = Place("west", "node001", "gpu/GPU-9", "gpu", "GPU-9", "1", "H100", "nvml")
    begin = START_MS - 4 * 3_600_000
    for length, upto in ((3_600_000, begin + 7_200_000), (300_000, START_MS)):
        while begin < upto:
            part = Part("idle", "", "", 0, 0, length, length * 1_000, 0)
            row = Metered(place, begin, begin + length, length, part.uj, "counter",
                          recovered=False, parts=[part], stats=None)  # fmt: skip
            fresh.rows.rows.append(row)
            begin += length
    file = tmp_path / "all.csv"
    args = ("--metric", "energy", "--step", "10s", "--by", "node", "--out", str(file))
    since = rfc3339(START_MS - 4 * 3_600_000 + 10_000)
    assert (await recall("export", *args, "--since", since, "--until", PERIOD[3])).code == 0
    found = rows(file)
    assert [row["seconds"] for row in found[:27]] == ["3600"] * 2 + ["300"] * 24 + ["10"]
    joules = sum(float(row["energy_joules"]) for row in found)
    assert joules == pytest.approx(WHOLE_J + 4 * 3_600)


async def test_nothing_to_write(recall: Run, tmp_path: Path) -> None:
    """Is a "no", and leaves what was there."""
    file = tmp_path / "all.csv"
    file.write_text("before")
    args = ("--since", "2020-01-01", "--until", "2020-01-02", "--out", str(file))
    done = await recall("export", *args)
    assert (done.code, "no history of that time" in done.err) == (1, True)
    assert (file.read_text(), left(tmp_path)) == ("before", ["all.csv"])


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
@pytest.mark.parametrize("code", [130, 3])
async def test_stopped_in_the_middle(
    recall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """Ctrl-C, or an aggregator that goes away: no file, no draft, and that is said."""
    asked = []

    def ask(url: str | None, path: str, query: Mapping[str, str | None]) -> Any:
        asked.append(path)
        if len(asked) == 4:
            raise KeyboardInterrupt if code == 130 else CommandError("gone", code)
        return client.ask(url, path, query)

    monkeypatch.setattr("wattkeeper.cli.export.ask", ask)
    monkeypatch.setattr(export_pages, "_FIRST_STEPS", 30)
    done = await recall("export", "--step", "10s", *PERIOD, "--out", str(tmp_path / name))
    assert (done.code, "was not written" in done.err) == (code, code == 130)
    assert left(tmp_path) == []


async def test_a_disk_that_is_full(
    recall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Says which file, and leaves nothing."""

    def full(self: object, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CsvTable, "write", full)
    file = tmp_path / "all.csv"
    done = await recall("export", *PERIOD, "--out", str(file))
    assert (done.code, "all.csv cannot be written: No space left" in done.err) == (2, True)
    done = await recall("export", *PERIOD, "--out", str(tmp_path / "nowhere" / "all.csv"))
    assert (done.code, "cannot be written: No such file" in done.err) == (2, True)
    assert left(tmp_path) == []


async def test_without_pyarrow(
    recall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which extra brings it, and that CSV needs none."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = await recall("export", *PERIOD, "--out", str(tmp_path / "all.parquet"))
    assert (done.code, "'wattkeeper[aggregator]'" in done.err) == (2, True)
    assert (await recall("export", *PERIOD, "--out", str(tmp_path / "all.csv"))).code == 0


class Fake:
    """An aggregator that tells of `series` series, but not more than `most` values at once."""

    def __init__(self, series: int, most: int) -> None:
        self.series = series
        self.most = most
        self.asked: list[tuple[int, int]] = []

    def ask(self, query: Mapping[str, str | None]) -> Any:
        """Answer with 1 in every step."""
        since, until = (export_pages._ms(query[end] or "") for end in ("since", "until"))
        step_s = int((query["step"] or "").removesuffix("s"))
        steps = -(-(until - since) // (step_s * 1000))
        told = min(self.series, max(1, self.most // steps))
        self.asked.append((since, until))
        return {
            "since": query["since"],
            "until": rfc3339(since + steps * step_s * 1000),
            "step_seconds": float(step_s),
            "unit": "watts",
            "by": ["node"],
            "omitted_series": self.series - told,
            "series": [{"labels": {"node": f"n{n}"}, "values": [1.0] * steps} for n in range(told)],
        }


@settings(max_examples=40, deadline=None)
@given(
    series=st.integers(1, 30),
    begin=st.integers(0, 10**6),
    length=st.integers(1, 3_000),
    step_s=st.sampled_from([1, 7, 10, 60, 300, 3600]),
)
def test_pages_are_seamless(series: int, begin: int, length: int, step_s: int) -> None:
    """However many series there are, each step of each is told once."""
    fake = Fake(series, most=series * 310)
    since_ms, until_ms = begin * 1000, (begin + length) * 1000
    pages = list(Pages(fake.ask, ["power"], {}, since_ms, until_ms, step_s * 1000))
    starts = [row.start_ms for page in pages for row in page.rows if row.labels == ("n0",)]
    first = since_ms - since_ms % (step_s * 1000)
    assert starts == list(range(first, until_ms, step_s * 1000))
    assert sum(len(page.rows) for page in pages) == series * len(starts)
    assert all(
        page.until_ms % 300_000 == 0 or page.until_ms % (step_s * 1000) == 0 for page in pages
    )


def test_more_series_than_can_be_told() -> None:
    """At once: the message says what to do."""
    fake = Fake(1000, most=1000)
    with pytest.raises(CommandError, match="longer --step"):
        list(Pages(fake.ask, ["power"], {}, 0, 3_600_000, 10_000))


LABELS = st.text(max_size=8)
ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 4_000_000_000_000),
        st.sampled_from([10.0, 3600.0]),
        st.tuples(LABELS, LABELS),
        st.tuples(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(ROWS, min_size=1, max_size=3))
def test_files_say_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, parts: Sequence[Sequence[Row]]
) -> None:
    """Any labels and values come back out of both kinds of file."""
    folder = tmp_path_factory.mktemp("files")
    for kind, name in ((CsvTable, "a.csv"), (ParquetTable, "a.parquet")):
        with whole(folder / name) as file:
            table = kind(file, ["node", "x"], ["power_watts"])
            for part in parts:
                table.write(part)
            table.close()
    flat = [row for part in parts for row in part]
    read = parquet.read_table(folder / "a.parquet")
    assert read.column("power_watts").to_pylist() == [row.values[0] for row in flat]
    assert read.column("x").to_pylist() == [row.labels[1] for row in flat]
    with (folder / "a.csv").open(newline="", encoding="utf-8") as text:
        told = list(csv.DictReader(text))
    assert [(row["node"], row["x"]) for row in told] == [
        tuple(map(clean, row.labels)) for row in flat
    ]
    for row, one in zip(told, flat, strict=True):
        value = row["power_watts"]
        known = one.values[0]
        assert (float(value) if value else None) == (
            None if known is None else pytest.approx(known, rel=1e-8)
        )
