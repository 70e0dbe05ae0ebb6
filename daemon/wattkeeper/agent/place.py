"""The data folder: made, locked, and on a disk that keeps what SQLite was promised."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wattkeeper.agent.control import SOCKET
from wattkeeper.flags import ConfigError
from wattkeeper.model.state import Finding, State

_LONGEST_SOCKET = 107
"""Bytes of a unix socket's path, set by the kernel."""
_NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "cifs", "smb3", "smbfs"}
    | {"afs", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "wekafs", "pvfs2", "orangefs"}
)
_VOLATILE = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})


def file_system(path: Path, procfs: Path) -> str:
    """Return the type of the file system that holds `path`, `` where it cannot be told."""
    target = path.absolute()
    while not target.exists():
        target = target.parent
    target = target.resolve()
    best, kind = -1, ""
    try:
        lines = (procfs / "self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " "))
        # A later line hides an earlier one on the same folder.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[2]
    return kind


def look(data_dir: Path, procfs: Path) -> Finding:
    """Return whether a journal is safe in `data_dir`."""
    kind = file_system(data_dir, procfs)
    if kind in _NETWORK:
        return Finding(
            "data_dir",
            State.FAILING,
            f"{data_dir} is on {kind}, whose locks and syncs do not hold what a journal needs",
            "set data_dir to a folder on a local disk",
        )
    if kind in _VOLATILE:
        return Finding(
            "data_dir",
            State.STALE,
            f"{data_dir} is on {kind} and goes with a reboot or the container",
            "set data_dir to a local disk, or mount one there; else a restart leaves a gap",
        )
    return Finding("data_dir", State.OK, f"{data_dir} ({kind or 'unknown file system'})")


def boot_id(procfs: Path) -> str:
    """Return the kernel's boot id.

    Raises:
        ConfigError: there is none under `procfs`.

    """
    file = procfs / "sys/kernel/random/boot_id"
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"path.procfs: cannot read {file}: {error}; set it to the host's /proc"
        ) from error


@contextlib.contextmanager
def claim(data_dir: Path, procfs: Path) -> Iterator[None]:
    """Make the folder, and hold it as the only agent.

    Raises:
        ConfigError: it cannot be written, is on a network disk, or another agent has it.

    """
    found = look(data_dir, procfs)
    if found.state is State.FAILING:
        raise ConfigError(f"data_dir: {found.detail}; {found.fix}")
    longest = _LONGEST_SOCKET - len("/" + SOCKET)
    if len(os.fsencode(data_dir.absolute())) > longest:
        raise ConfigError(
            f"data_dir: {data_dir} is too long for the control socket in it; "
            f"choose a folder whose path has at most {longest} bytes"
        )
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock: IO[str] = (data_dir / "agent.lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"data_dir: cannot write {data_dir}: {error.strerror}; "
            "set data_dir to a folder of this user, or run as root"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"data_dir: another agent is running in {data_dir}; "
                "stop it, or give this one another data_dir"
            ) from error
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
