"""What the embedded store needs of the disk: durable names and room."""

import os
import shutil
from pathlib import Path

from wattkeeper.telemetry.base import TelemetryError


def fsync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk.

    Raises:
        OSError: as the system says.

    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, free_bytes: int) -> None:
    """Refuse to fill a disk up: half of what DuckDB does there ends in a fatal error.

    Raises:
        TelemetryError: less than `free_bytes` are free.

    """
    free = shutil.disk_usage(folder).free
    if free < free_bytes:
        raise TelemetryError(
            f"telemetry: {free >> 20} MiB are free in {folder}, {free_bytes >> 20} MiB have to "
            "stay free; make room, or shorten retention"
        )


def clear(folder: Path) -> None:
    """Make a folder, or empty the one that a killed process left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
