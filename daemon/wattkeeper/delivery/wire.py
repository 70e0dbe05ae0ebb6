"""Version 1 of the wire format. `docs/delivery.md` describes it for other implementations.

A delivery is one `Batch` in MessagePack, compressed with zlib, in the body of
`POST /v1/windows`; the answer is an `Ack` in JSON. Each record travels as the bytes that the
journal hashed, so the chain can be checked without re-encoding.

Growing it: new fields of `Batch` and `Ack` get a default (unknown ones are ignored), new elements
of records go to the end, a new kind of record gets a new tag.
"""

import hashlib
import zlib
from typing import Annotated

import msgspec

from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.meter import MeterInfo
from wattkeeper.model.window import EpochInfo, Record

VERSION = 1
CONTENT_TYPE = "application/vnd.wattkeeper.windows+msgpack"
MAX_BODY = 4 << 20
"""Bytes of a compressed delivery that an aggregator takes."""
MAX_BATCH = 32 << 20
"""Bytes of a delivery after decompression."""
# What a delivery lists at most: a few bytes of a list can be a lot of memory. Agents send 1 MiB of
# records, 5,000 holders, and 4,096 holders of a meter.
_A_FEW = msgspec.Meta(max_length=1 << 10)
_SOME = msgspec.Meta(max_length=1 << 12)
_ENTRIES = msgspec.Meta(max_length=1 << 14)
_RECORDS = msgspec.Meta(max_length=1 << 17)
GENESIS = bytes(16)
"""The chain's value before the first record of a journal."""


class WireError(ValueError):
    """A delivery that cannot be read. The message names what is wrong."""


class Live(msgspec.Struct, frozen=True, array_like=True):
    """One meter now: an unbooked glimpse for live views, current even while a backlog drains.

    `holders` are numbers of the journal's dictionary, `shares_ppm` their parts of the meter's
    energy in its last window, where that names one of them.
    """

    meter: int
    at_ms: int
    power_mw: int | None = None
    temperature_mc: int | None = None
    utilization_ppm: int | None = None
    holders: Annotated[tuple[int, ...], _SOME] = ()
    shares_ppm: Annotated[tuple[int, ...], _SOME] = ()


class SourceReport(msgspec.Struct, frozen=True, array_like=True):
    """The state of one source on the node, for fleet views."""

    subject: str
    state: str
    detail: str


class Snapshot(msgspec.Struct, frozen=True):
    """What a node looks like at the instant of sending."""

    meters: Annotated[tuple[Live, ...], _A_FEW] = ()
    sources: Annotated[tuple[SourceReport, ...], _SOME] = ()
    advertise: str = ""
    pending: int = 0


class Batch(msgspec.Struct, frozen=True):
    """A delivery: identity, place in the chain, dictionary entries, records.

    `wall_ms`, `boot_ms`: both clocks of the node at sending, so that the aggregator can date a
    node whose clock is wrong. `oldest`: the first number the journal can still send; `first`: the
    number of `records[0]`; `previous`: the chain's value before it. The dictionary carries every
    entry beyond what the last `Ack` said is known. `fork_of`: the journal that this one broke
    away from, if any.
    """

    cluster: str
    node: str
    journal: str
    boot: str
    agent: str
    wall_ms: int
    boot_ms: int
    oldest: int
    first: int
    previous: bytes
    records: Annotated[tuple[bytes, ...], _RECORDS] = ()
    meters: Annotated[dict[int, MeterInfo], _ENTRIES] = {}
    holders: Annotated[dict[int, HolderInfo], _ENTRIES] = {}
    epochs: Annotated[dict[int, EpochInfo], _ENTRIES] = {}
    snapshot: Snapshot | None = None
    fork_of: str = ""
    version: int = VERSION


class Ack(msgspec.Struct, frozen=True):
    """The answer to a batch.

    `accepted`: last record taken into memory: send on from here (also backward: a rewind);
    `accepted_hash`: the chain's value there, hex: where the journal has another, it forks.
    `committed`: last record that every store has on disk: release up to here.
    `meters`, `holders`, `epochs`: highest dictionary number known.
    """

    accepted: int
    accepted_hash: str
    committed: int
    meters: int
    holders: int
    epochs: int
    wall_ms: int


_record_encoder = msgspec.msgpack.Encoder()
_record_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_batch_decoder = msgspec.msgpack.Decoder(Batch)


def encode_record(record: Record) -> bytes:
    """Return the bytes of a record, as the journal stores and hashes them."""
    return _record_encoder.encode(record)


def decode_record(payload: bytes) -> Record:
    """Read a record back.

    Raises:
        WireError: not a record of this version; names the element that is wrong.

    """
    try:
        return _record_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"record: {error}") from error


def chain(previous: bytes, payload: bytes) -> bytes:
    """Return the chain's value after `payload`: 16 bytes of BLAKE2b over the previous and it."""
    return hashlib.blake2b(previous + payload, digest_size=16).digest()


def pack(batch: Batch) -> bytes:
    """Return a delivery's body."""
    return zlib.compress(_record_encoder.encode(batch), 1)


def unpack(body: bytes) -> Batch:
    """Read a delivery's body, never growing beyond MAX_BATCH.

    Raises:
        WireError: not zlib, too large, not a batch, or of a version this one cannot read.

    """
    plain = inflate(body, MAX_BATCH)
    if plain is None:
        raise WireError(f"body: larger than {MAX_BATCH} bytes when decompressed")
    return decode(plain)


def inflate(body: bytes, most: int) -> bytes | None:
    """Return what a body holds, None if that is more than `most` bytes; no more are made.

    Raises:
        WireError: not zlib.

    """
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(body, most)
    except zlib.error as error:
        raise WireError(f"body: not zlib-compressed: {error}") from error
    if stream.unconsumed_tail or (len(plain) == most and not stream.eof):
        return None
    if not stream.eof:
        raise WireError("body: compressed stream is cut short")
    return plain


def decode(plain: bytes) -> Batch:
    """Read what a body holds.

    Raises:
        WireError: not a batch, more in it than one node has, or of a version this one cannot read.

    """
    try:
        batch = _batch_decoder.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"body: {error}") from error
    if batch.version != VERSION:
        raise WireError(
            f"version: {batch.version} is not supported, this aggregator reads version {VERSION}; "
            "upgrade the aggregator before the agents"
        )
    return batch
