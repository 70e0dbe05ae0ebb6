"""Factors from a CSV file: `time,value[,estimated]`."""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from wattkeeper.factors.instants import instant_ms
from wattkeeper.factors.series import Value
from wattkeeper.factors.units import Unit

MAX_BYTES = 64 << 20
"""A year of minutes is 20 MB."""
_HEADERS = (["time", "value"], ["time", "value", "estimated"])
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no")


class TableError(ValueError):
    """A table that cannot be read. The message names the line and the fix."""


@dataclass(frozen=True, slots=True)
class Table:
    """The values of a file, and `version`, the begin of its SHA-256."""

    values: tuple[Value, ...]
    version: str


def read(path: Path, unit: Unit) -> Table:
    """Return the values of a file, in the order of their time. Blocks.

    Raises:
        TableError: not readable, no table, or without a value.

    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TableError(f"{path} has more than {MAX_BYTES >> 20} MiB; leave old rows out")
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        raise TableError(f"{path} cannot be read ({why})") from error
    values = sorted(_rows(path, text, unit))
    if not values:
        raise TableError(f"{path} holds no value; write lines like 2026-01-01T00:00:00Z,0.21")
    for one, other in pairwise(values):
        if one.at_ms == other.at_ms:
            raise TableError(f"{path} has two values for one time; leave one out")
    return Table(tuple(values), hashlib.sha256(content).hexdigest()[:12])


def _rows(path: Path, text: str, unit: Unit) -> Iterator[Value]:
    rows = csv.reader(io.StringIO(text))
    header = next(rows, [])
    if [name.strip().lower() for name in header] not in _HEADERS:
        raise TableError(f"{path} does not begin with the line time,value or time,value,estimated")
    for row in rows:
        if not row:
            continue
        where = f"{path}, line {rows.line_num}"
        if len(row) != len(header):
            raise TableError(f"{where}: has {len(row)} values, the first line {len(header)}")
        try:
            rate = unit.rate(Decimal(row[1].strip()))
            yield Value(instant_ms(row[0].strip()), rate, _flag((*row, "")[2].strip().lower()))
        except InvalidOperation:
            raise TableError(f"{where}: {row[1][:40]!r} is no number") from None
        except ValueError as error:
            raise TableError(f"{where}: {error}") from None


def _flag(text: str) -> bool:
    if text not in _TRUE + _FALSE:
        raise ValueError(f"{text[:40]!r} is neither true nor false")
    return text in _TRUE
