"""Marks: what prolog and epilog say at a job's edges. A durable file first, then a poke."""

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from wattkeeper.holders import gpus
from wattkeeper.holders.paths import SLURM
from wattkeeper.model.clock import NS_PER_MS
from wattkeeper.model.holder import MAX_LABEL

SPOOL = "marks"
"""Folder of the spool below the agent's `data_dir`."""
CONTROL_SOCKET = "control.sock"
"""The agent's root-only socket below its `data_dir`."""
POKE_S = 1.0
_MOST_BYTES = 65_536
_MOST_LABELS = 64

LABELS = {
    "SLURM_JOB_ID": "job_id",
    "SLURM_JOB_SLUID": "sluid",
    "SLURM_JOB_USER": "user",
    "SLURM_JOB_UID": "uid",
    "SLURM_JOB_ACCOUNT": "account",
    "SLURM_JOB_PARTITION": "partition",
    "SLURM_JOB_NAME": "name",
    "SLURM_ARRAY_JOB_ID": "array_job_id",
    "SLURM_ARRAY_TASK_ID": "array_task_id",
    "SLURM_RESTART_COUNT": "restart_count",
    "SLURM_JOB_RESTART_COUNT": "restart_count",  # prolog and epilog; the job sees the one above
    "SLURM_JOB_START_TIME": "start_time",
}
# gres/mps and gres/shard give one GPU to several jobs. Slurm tells the prolog of the first only;
# for shards `shared` has to be said.
_SHARING = ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "SLURM_SHARDS_ON_NODE")

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=4096)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Mark(msgspec.Struct, frozen=True):
    """One edge of one job on this node.

    `wall_ms` is UTC, `boot_ns` CLOCK_BOOTTIME of the boot `boot_id`: both when the mark was made.
    `gpus` are the node's indices as Slurm counts them, `uuids` GPUs named outright. `shared`:
    other jobs may hold the same GPUs at the same time.
    """

    kind: Literal["start", "end"]
    manager: Id
    raw_id: Id
    wall_ms: Count
    boot_ns: Count
    boot_id: str
    gpus: tuple[Index, ...] = ()
    uuids: tuple[Id, ...] = ()
    shared: bool = False
    labels: dict[str, str] = {}


def clean(value: str) -> str:
    """Return a label cut to MAX_LABEL, with control characters and broken bytes replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in value[:MAX_LABEL])


def from_environment(
    kind: Literal["start", "end"],
    environ: Mapping[str, str],
    boot_id: str,
    *,
    uuids: Sequence[str] = (),
    shared: bool = False,
) -> Mark:
    """Return the mark that Slurm's prolog or epilog makes now, from its environment.

    GPUs come from SLURM_JOB_GPUS, which counts the node's devices; CUDA_VISIBLE_DEVICES starts
    at 0 inside a constrained job and is never used. `uuids` replace them.

    Raises:
        ValueError: which variable is missing or wrong, and what to do.

    """
    wall_ns, boot_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    raw_id = environ.get("SLURM_JOB_SLUID") or environ.get("SLURM_JOB_ID")
    if not raw_id:
        raise ValueError("SLURM_JOB_ID is not set: call this from Slurm's Prolog and Epilog")
    labels = {label: clean(environ[name]) for name, label in LABELS.items() if environ.get(name)}
    return Mark(
        kind=kind,
        manager=SLURM,
        raw_id=clean(raw_id)[:128],
        wall_ms=wall_ns // NS_PER_MS,
        boot_ns=boot_ns,
        boot_id=boot_id,
        gpus=() if uuids else _indices(environ.get("SLURM_JOB_GPUS", "")),
        uuids=tuple(clean(uuid)[:128] for uuid in uuids),
        shared=shared or any(environ.get(name) for name in _SHARING),
        labels=labels,
    )


def _indices(text: str) -> tuple[int, ...]:
    try:
        return gpus.indices(text)
    except ValueError as error:
        raise ValueError(f"SLURM_JOB_GPUS: {error}") from error


def write(spool: Path, mark: Mark) -> Path:
    """Put a mark into the spool so that it survives a crash and a power cut; return its file.

    Raises:
        OSError: the spool cannot be written.

    """
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{mark.wall_ms:016d}-{mark.boot_ns:020d}-{secrets.token_hex(4)}.json"
    write_durably(spool / name, msgspec.json.encode(mark))
    return spool / name


def write_durably(file: Path, content: bytes) -> None:
    """Replace a file by another content, whole or not at all, and wait for the disk.

    Raises:
        OSError: the folder cannot be written.

    """
    half = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        half.rename(file)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(file: Path) -> Mark:
    """Return the mark in a file.

    Raises:
        ValueError: it holds no mark, or is no plain file.
        OSError: it cannot be read.

    """
    if file.is_symlink() or not file.is_file():
        raise ValueError("not a plain file")
    with file.open("rb") as content:
        text = content.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES} bytes")
    mark = msgspec.json.decode(text, type=Mark)
    kept = list(mark.labels.items())[:_MOST_LABELS]
    labels = {clean(name): clean(value) for name, value in kept}
    return msgspec.structs.replace(mark, labels=labels)


def poke(control: Path, timeout_s: float = POKE_S) -> bool:
    """Tell the agent to read its counters and the spool now; True once it has answered.

    False after `timeout_s` or when no agent listens: the spool file is enough, the agent finds it
    at its next sample or start.
    """
    until = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.settimeout(timeout_s)
            client.connect(str(control))
            client.sendall(json.dumps({"op": "mark"}).encode() + b"\n")
            client.settimeout(max(0.001, until - time.monotonic()))
            return client.recv(4096) != b""
        except OSError:
            return False
