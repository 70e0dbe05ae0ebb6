"""The aggregator's `data_dir` is one program's at a time."""

import fcntl
import os
from pathlib import Path


class BusyError(Exception):
    """Another program is using the folder. The message names the key and the fix."""


def hold(folder: Path) -> int:
    """Hold a folder until the returned descriptor is closed: what is in memory belongs to it.

    Raises:
        BusyError: another one holds it.
        OSError: it is not writable.

    """
    lock = os.open(folder / "aggregator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BusyError(f"data_dir: another aggregator is using {folder}; stop it first") from None
    return lock
