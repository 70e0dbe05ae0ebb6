"""What the aggregator asks of the process that fetches, and what that streams back.

A frame is its length (4 bytes, big-endian) and msgpack.
"""

import struct
from typing import Literal

import msgspec

from wattkeeper.schedulers.base import NodeInfo, WorkloadInfo

BATCH = 256
"""Runs in one frame: decoding one does not hold up the event loop."""
NOTHING = "Nothing found"
"""The error by which 22.05 says that a list is empty."""
_LENGTH = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True):
    """One question, as JSON on the standard input.

    `what`: `live` is jobs and nodes as slurmctld has them, `ended` the accounts since
    `since_ms`. `rest`: address of slurmrestd, empty for the commands; `version` the version of
    its interface, empty to find out. `topology`: whether nodes' switches are asked for. Seconds and
    milliseconds as the names say; UTC.
    """

    what: Literal["live", "ended"]
    cluster: str
    since_ms: int
    now_ms: int
    timeout_s: float
    max_bytes: int
    slurm_cluster: str = ""
    rest: str = ""
    version: str = ""
    user: str = ""
    token_file: str = ""
    bin: str = ""
    conf: str = ""
    topology: bool = False


class Workloads(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A batch of runs."""

    runs: list[WorkloadInfo]


class Nodes(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A batch of nodes."""

    nodes: list[NodeInfo]


class Done(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The end of an answer.

    `flawed`: records that could not be read, `flaw` what was wrong with the first of them.
    `doubt`: why the GPUs of a job could not be told, the first's. `no_nodes`: why there are none,
    `no_topology`: why their switches were asked for and are not known.
    """

    slurm_cluster: str
    version: str
    flawed: int
    flaw: str
    doubt: str
    no_nodes: str
    no_topology: str = ""


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """There is no answer; the message says why and what to do."""

    message: str


Frame = Workloads | Nodes | Done | Failed
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)
HEAD = _LENGTH.size


def pack(frame: Frame) -> bytes:
    """Return a frame as it is sent."""
    body = _ENCODER.encode(frame)
    return _LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """Return how many bytes follow the first HEAD ones."""
    found: int = _LENGTH.unpack(head)[0]
    return found


def unpack(body: bytes) -> Frame:
    """Return a frame.

    Raises:
        msgspec.DecodeError: not one.

    """
    return _DECODER.decode(body)
