"""Where configuration and books lie unless told otherwise. Imports nothing that takes time."""

import os
from pathlib import Path

FOLDER = Path("/etc/wattkeeper")


def data_dir(program: str) -> Path:
    """Return where a program keeps its books unless told otherwise: root's, or this user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/wattkeeper") / program
    return Path.home() / ".local/share/wattkeeper" / program
