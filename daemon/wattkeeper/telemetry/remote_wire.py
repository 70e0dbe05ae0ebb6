"""Rows as a Prometheus remote write request, version 1: protobuf in Snappy's block format.

The messages are three and small (`WriteRequest` of `TimeSeries` of `Label` and `Sample`), and the
labels of a series are the same in every request. So they are encoded once and put together here:
objects of a protobuf library would be filled and thrown away for every sample.
"""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar

import cramjam

from wattkeeper.telemetry.base import Place, Row
from wattkeeper.telemetry.remote_series import (
    METER_SERIES,
    SHARE_SERIES,
    Holder,
    held,
    labels_of,
    meter_values,
    sample_ms,
)

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

# Tags: field number << 3 | wire type (0 varint, 1 eight bytes, 2 length and bytes).
_TIMESERIES = b"\x0a"  # WriteRequest 1
_LABEL, _SAMPLE = b"\x0a", b"\x12"  # TimeSeries 1 and 2
_NAME, _VALUE = b"\x0a", b"\x12"  # Label 1 and 2
_NUMBER, _TIME = b"\x09", b"\x10"  # Sample 1 (double) and 2 (milliseconds)
_CACHED = 1 << 16
"""Label sets that are kept: some 20 MB."""
_Key = TypeVar("_Key")


def encode(rows: Iterable[Row]) -> bytes:
    """Return the body of a request with all samples of rows, which come oldest first."""
    meters: dict[Place, list[bytes]] = {}
    shares: dict[tuple[Place, Holder], list[bytes]] = {}
    for row in rows:
        pack, head, tail = _packing(sample_ms(row))
        samples = [b"" if value is None else pack(head, value, tail) for value in meter_values(row)]
        _add(meters, row.place, samples)
        for holder, uj, idle_uj in held(row):
            share = pack(head, uj / 1e6, tail)
            idle = pack(head, idle_uj / 1e6, tail) if idle_uj else b""
            _add(shares, (row.place, holder), [share, idle])
    out: list[bytes] = []
    for place, columns in meters.items():
        _put(out, METER_SERIES, _labels(place, None), columns)
    for (place, holder), columns in shares.items():
        _put(out, SHARE_SERIES, _labels(place, holder), columns)
    return bytes(cramjam.snappy.compress_raw(b"".join(out)))


def encode_one(name: str, at_ms: int, value: float) -> bytes:
    """Return the body of a request with one sample of a series without labels."""
    pack, head, tail = _packing(at_ms)
    sample = pack(head, value, tail)
    return bytes(cramjam.snappy.compress_raw(_opening(name, len(sample)) + sample))


def _add(series: dict[_Key, list[bytes]], key: _Key, samples: list[bytes]) -> None:
    """Append the samples of a row to those of the rows before."""
    before = series.get(key)
    if before is not None:
        samples = [old + new for old, new in zip(before, samples, strict=True)]
    series[key] = samples


def _put(out: list[bytes], names: tuple[str, ...], labels: bytes, columns: list[bytes]) -> None:
    """Append the series of one set of labels, those that have samples."""
    usual = len(columns[0])
    openings = _openings(names, len(labels) + usual)
    for name, opening, samples in zip(names, openings, columns, strict=True):
        if len(samples) == usual:
            out += (opening, labels, samples)
        elif samples:
            out += (_opening(name, len(labels) + len(samples)), labels, samples)


@lru_cache(1024)
def _packing(at_ms: int) -> tuple[Callable[..., bytes], bytes, bytes]:
    """Return what makes a sample of its head, its value and its tail, and both ends."""
    tail = _TIME + _varint(at_ms)
    head = _SAMPLE + _varint(9 + len(tail)) + _NUMBER
    return struct.Struct(f"<{len(head)}sd{len(tail)}s").pack, head, tail


@lru_cache(4096)
def _openings(names: tuple[str, ...], rest: int) -> list[bytes]:
    return [_opening(name, rest) for name in names]


def _opening(name: str, rest: int) -> bytes:
    """Return how a series with so many further bytes begins; its name sorts before all labels."""
    label = _label("__name__", name)
    return _TIMESERIES + _varint(len(label) + rest) + label


@lru_cache(_CACHED)
def _labels(place: Place, holder: Holder | None) -> bytes:
    return b"".join(_label(name, value) for name, value in labels_of(place, holder))


def _label(name: str, value: str) -> bytes:
    return _text(_LABEL, _text(_NAME, name.encode()) + _text(_VALUE, value.encode()))


def _text(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return a number that is not negative in groups of seven bits, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
