"""Reads Slurm's JSON as a stream of records: an answer may be larger than memory should be.

An answer is an object with one long list (`jobs`, `nodes`, `sinfo`) and a few words around it. The
list is cut where one record ends and the next begins with the same key, which no text inside can
look like, since a quote in it is escaped. A cut that proves wrong costs time, never a record.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

_LIST = re.compile(rb'"(?:jobs|nodes|sinfo)"\s*:\s*\[\s*')
_FIRST = re.compile(rb'\{\s*("[^"\\]{1,200}")\s*:')
_BETWEEN = re.compile(r"[\s,]*")
_MAX_HEAD = 4 << 20
_MAX_RECORD = 64 << 20
"""A job on thousands of nodes tells of each of their cores."""
_MAX_HELD = 64
"""Pieces of one record that was cut at every place where a list in it looked like the list."""
_OVERLAP = 1024
_DECODER = json.JSONDecoder(strict=False)

T = TypeVar("T", bound=msgspec.Struct)


class Records(Generic[T]):
    """Iterates over the records of an answer, each as `kind`; afterwards `envelope` is the rest.

    `flawed` counts what is in the list and is no record. Iterating raises ValueError if the
    answer is not JSON, has no list, or ends in the middle.
    """

    def __init__(self, chunks: Iterable[bytes], kind: type[T]) -> None:
        self.envelope: dict[str, Any] = {}
        self.flawed = 0
        self._chunks = iter(chunks)
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode
        self._held: list[bytes] = []

    def __iter__(self) -> Iterator[T]:
        head = bytearray()
        found = None
        for chunk in self._chunks:
            head += chunk
            found = _LIST.search(head)
            if found is not None and found.end() < len(head):
                break
            if len(head) > _MAX_HEAD:
                raise ValueError(f"no list of records begins in it: {_shown(head)}")
        if found is None or found.end() == len(head):
            self.envelope = _envelope(bytes(head))
            return
        prefix, rest = bytes(head[: found.end()]), head[found.end() :]
        del head
        yield from self._pieces(rest)
        yield from self._last(prefix, b",".join([*self._held, bytes(rest)]))

    def _pieces(self, rest: bytearray) -> Iterator[T]:
        """Yield every record that is followed by another; leave in `rest` what comes after."""
        between: re.Pattern[bytes] | None = None
        looked = 0
        while True:
            if between is None and (first := _FIRST.match(rest)) is not None:
                between = re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(first[1]) + rb"\s*:)")
            if between is not None:
                at = 0
                for cut in between.finditer(rest, looked):
                    yield from self._piece(bytes(rest[at : cut.start() + 1]))
                    at = cut.end()
                del rest[:at]
            looked = max(0, len(rest) - _OVERLAP)
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            rest += chunk
            if len(rest) > _MAX_RECORD:
                raise ValueError(f"no record ends in it: {_shown(rest)}")

    def _piece(self, piece: bytes) -> Iterator[T]:
        if not self._held:
            try:
                record = self._decode(piece)
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # cut at the wrong place, or bytes that are no UTF-8
            else:
                yield record
                return
        self._held.append(piece)
        text = b",".join(self._held).decode("utf-8", "replace")
        values, end = _values(text)
        if end == len(text):
            self._held.clear()
            yield from self._converted(values)
        elif len(self._held) > _MAX_HELD:
            raise ValueError(f"not JSON: {_shown(self._held[0])}")

    def _last(self, prefix: bytes, rest: bytes) -> Iterator[T]:
        """Yield the records that nothing follows, and keep what stands around the list."""
        text = rest.decode("utf-8", "replace")
        values, end = _values(text)
        yield from self._converted(values)
        self.envelope = _envelope(prefix + text[end:].encode())

    def _converted(self, values: Iterable[object]) -> Iterator[T]:
        for value in values:
            try:
                yield msgspec.convert(value, self._kind)
            except msgspec.ValidationError:
                self.flawed += 1


def _values(text: str) -> tuple[list[object], int]:
    """Return the values that stand one after the other, and where what is none begins."""
    values: list[object] = []
    at = 0
    while True:
        between = _BETWEEN.match(text, at)
        begin = at if between is None else between.end()
        try:
            value, at = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return values, begin
        values.append(value)


def _envelope(answer: bytes) -> dict[str, Any]:
    try:
        return msgspec.convert(json.loads(answer.decode("utf-8", "replace"), strict=False), dict)
    except (ValueError, RecursionError):  # of msgspec too: not an object
        raise ValueError(f"not Slurm's JSON, or cut off: {_shown(answer)}") from None


def _shown(answer: bytes | bytearray) -> str:
    return repr(bytes(answer[:80]).decode("utf-8", "replace"))
