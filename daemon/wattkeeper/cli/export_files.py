"""Files that tables of history are written to: whole or not at all."""

import csv
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from wattkeeper.cli.command import CommandError
from wattkeeper.cli.output import clean


class Row(NamedTuple):
    """One instant of one series: `start_ms` UTC, `seconds` how long the step is."""

    start_ms: int
    seconds: float
    labels: Sequence[str]
    values: Sequence[float | None]


class Table(Protocol):
    """Takes rows; the columns are start, seconds, labels and values."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


class CsvTable:
    """A table as CSV; what was not metered is empty."""

    def __init__(self, file: IO[bytes], labels: Sequence[str], values: Sequence[str]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(["start", "seconds", *labels, *values])

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        for row in rows:
            start = datetime.fromtimestamp(row.start_ms / 1000, UTC).isoformat()
            told = ["" if value is None else f"{value:.9g}" for value in row.values]
            seconds = f"{row.seconds:g}"
            labels = map(clean, row.labels)  # a lone \r would end the row, for who reads it
            self._writer.writerow([start.replace("+00:00", "Z"), seconds, *labels, *told])

    def close(self) -> None:
        """Write what is left."""
        self._text.flush()
        self._text.detach()


class ParquetTable:
    """A table as Parquet, zstd; what was not metered is null."""

    def __init__(self, file: IO[bytes], labels: Sequence[str], values: Sequence[str]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        text = pa.dictionary(pa.int32(), pa.string())
        self._schema = pa.schema(
            [
                ("start", pa.timestamp("ms", "UTC")),
                ("seconds", pa.float64()),
                *((name, text) for name in labels),
                *((name, pa.float64()) for name in values),
            ]
        )
        self._arrow = pa
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows, as one row group."""
        flat = [(row.start_ms, row.seconds, *row.labels, *row.values) for row in rows]
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(zip(*flat, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


Kind = type[CsvTable] | type[ParquetTable]
_KINDS: dict[str, Kind] = {".csv": CsvTable, ".parquet": ParquetTable}


def kind_of(path: Path) -> Kind:
    """Return which kind of table a file is to be.

    Raises:
        CommandError: an ending that is not known, or what it takes is not installed.

    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise CommandError(
            f"--out: {path} ends neither in .parquet nor in .csv; which is it to be?"
        )
    if kind is ParquetTable:
        try:
            importlib.import_module("pyarrow")  # to say so before hours of work
        except ModuleNotFoundError as error:
            raise CommandError(
                "--out: Parquet needs pyarrow, which is not installed here: "
                "pip install 'wattkeeper[aggregator]', or write FILE.csv, which needs nothing"
            ) from error
    return kind


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file under a name of its own, which becomes `path` only if all of it was written.

    Raises:
        CommandError: it cannot be written.

    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"--out: {path} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
