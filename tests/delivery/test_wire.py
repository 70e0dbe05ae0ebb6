"""The wire: what is sent is what is read, and nothing that arrives breaks the reader."""

import contextlib
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattkeeper.delivery.wire import (
    GENESIS,
    MAX_BATCH,
    VERSION,
    Ack,
    Batch,
    Live,
    Snapshot,
    SourceReport,
    WireError,
    chain,
    decode_record,
    encode_record,
    pack,
    unpack,
)
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import Component, MeterInfo, Method
from wattkeeper.model.window import (
    ClockStep,
    EpochInfo,
    Point,
    Policy,
    Record,
    Share,
    Split,
    Spread,
    Stats,
    Tombstone,
    Unmeasured,
    Window,
)

_INT = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(max_size=20)
_SPREADS = st.none() | st.builds(Spread, _INT, _INT, _INT)
_STATS = st.builds(Stats, _SPREADS, _SPREADS, _SPREADS, _SPREADS, _SPREADS, st.none() | _INT)
_SHARES = st.lists(st.builds(Share, _INT, _INT, _INT, _INT, st.sampled_from(Split)), max_size=4)
_RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Window, *[_INT] * 8, st.sampled_from(Method), _SHARES.map(tuple), st.none() | _STATS),
    st.builds(Point, *[_INT] * 5),
    st.builds(Unmeasured, *[_INT] * 4, _TEXT),
    st.builds(ClockStep, *[_INT] * 3),
    st.builds(Tombstone, _INT, _TEXT),
)
_LABELS = st.dictionaries(_TEXT, _TEXT, max_size=3)
_BATCHES = st.builds(
    Batch,
    *[_TEXT] * 5,
    *[_INT] * 4,
    st.binary(min_size=16, max_size=16),
    st.lists(_RECORDS.map(encode_record), max_size=5).map(tuple),
    st.dictionaries(
        _INT, st.builds(MeterInfo, _TEXT, st.sampled_from(Component), _TEXT, _LABELS), max_size=3
    ),
    st.dictionaries(_INT, st.builds(HolderInfo, _TEXT, _TEXT, _INT, _LABELS), max_size=3),
    st.dictionaries(_INT, st.builds(EpochInfo, _TEXT, _TEXT, _INT), max_size=3),
    st.none()
    | st.builds(
        Snapshot,
        st.lists(st.builds(Live, _INT, _INT), max_size=2).map(tuple),
        st.lists(st.builds(SourceReport, _TEXT, _TEXT, _TEXT), max_size=2).map(tuple),
    ),
    _TEXT,
)


def batch(**changes: Any) -> Batch:
    """Return a small delivery."""
    plain = Batch("c", "n", "j", "b", "a", 1, 2, 1, 1, GENESIS)
    return msgspec.structs.replace(plain, **changes)


@given(_RECORDS)
def test_records_come_back_as_they_went(record: Record) -> None:
    """Every kind, every value."""
    assert decode_record(encode_record(record)) == record


@given(_BATCHES)
def test_batches_come_back_as_they_went(sent: Batch) -> None:
    """Compressed and read again."""
    assert unpack(pack(sent)) == sent


@given(st.builds(Ack, _INT, _TEXT, *[_INT] * 5))
def test_acks_come_back_as_they_went(ack: Ack) -> None:
    """As JSON."""
    assert msgspec.json.decode(msgspec.json.encode(ack), type=Ack) == ack


@given(st.binary(max_size=200))
def test_garbage_is_an_error_that_says_so(garbage: bytes) -> None:
    """Nothing but WireError, as it is or inside valid compression."""
    for body in (garbage, zlib.compress(garbage)):
        with pytest.raises(WireError, match="body"):
            unpack(body)
    with contextlib.suppress(WireError):
        decode_record(garbage)


@given(_BATCHES, st.data())
def test_a_damaged_delivery_is_an_error_or_another_delivery(sent: Batch, data: Any) -> None:
    """A flipped byte inside the compression never breaks the reader otherwise."""
    plain = bytearray(zlib.decompress(pack(sent)))
    at = data.draw(st.integers(0, len(plain) - 1))
    plain[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(WireError):
        unpack(zlib.compress(bytes(plain)))


@pytest.mark.parametrize("cut", [0, 1, 5, -1])
def test_a_truncated_body_is_told(cut: int) -> None:
    """The connection broke off."""
    with pytest.raises(WireError, match="cut short"):
        unpack(pack(batch())[:cut])


def test_a_decompression_bomb_is_refused() -> None:
    """A few kilobytes that grow beyond the bound are not taken, and not held in memory."""
    bomb = zlib.compress(bytes(MAX_BATCH + 1_000_000), 9)
    assert len(bomb) < 100_000
    with pytest.raises(WireError, match="larger than"):
        unpack(bomb)


def test_another_version_is_refused_with_the_remedy() -> None:
    """The message says what to upgrade first."""
    with pytest.raises(WireError, match=r"version: 2 is not supported.*upgrade the aggregator"):
        unpack(pack(batch(version=VERSION + 1)))


def test_an_older_agent_is_read() -> None:
    """Fields that came later have defaults."""
    old = {
        "cluster": "c", "node": "n", "journal": "j", "boot": "b", "agent": "a",
        "wall_ms": 1, "boot_ms": 2, "oldest": 1, "first": 1, "previous": GENESIS,
    }  # fmt: skip
    assert unpack(zlib.compress(msgspec.msgpack.encode(old))) == batch()
    assert decode_record(msgspec.msgpack.encode([1, 1, 1, 0, 9, 9, 0, 5, 9, 0, []])) == Window(
        1, 1, 0, 9, 9, 0, 5, 9, Method.COUNTER, ()
    )


def test_a_newer_agent_of_the_same_version_is_read() -> None:
    """Unknown fields and further elements are ignored."""
    new = msgspec.structs.asdict(batch()) | {"weather": "fine"}
    assert unpack(zlib.compress(msgspec.msgpack.encode(new))) == batch()
    assert decode_record(msgspec.msgpack.encode([2, 1, 1, 5, 5, 7, "more"])) == Point(1, 1, 5, 5, 7)
    window = [1, 1, 1, 0, 9, 9, 0, 5, 9, 0, [[16, 5, 0, 9, 1, 2, 3, "x"]]]
    window += [[[1, 2, 3, 4]], 1, "more"]
    assert decode_record(msgspec.msgpack.encode(window)) == Window(
        1, 1, 0, 9, 9, 0, 5, 9, Method.COUNTER, (Share(16, 5, 0, 9, Split.SHARED, 2, 3),),
        Stats(Spread(1, 2, 3)), Policy.HOLDERS,
    )  # fmt: skip


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=2, max_size=6), st.data())
def test_the_chain_tells_any_change(payloads: list[bytes], data: Any) -> None:
    """Altered, dropped, doubled or swapped payloads end in another value."""

    def end(chained: list[bytes]) -> bytes:
        value = GENESIS
        for payload in chained:
            value = chain(value, payload)
        return value

    assert len(end(payloads)) == 16
    at = data.draw(st.integers(0, len(payloads) - 1))
    altered = [*payloads[:at], payloads[at] + b"x", *payloads[at + 1 :]]
    dropped = payloads[:at] + payloads[at + 1 :]
    doubled = [*payloads[: at + 1], *payloads[at:]]
    for other in (altered, dropped, doubled):
        assert end(other) != end(payloads)
    swapped = payloads[::-1]
    assert (end(swapped) == end(payloads)) == (swapped == payloads)
