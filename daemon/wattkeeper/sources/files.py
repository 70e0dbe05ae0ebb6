"""Reading the kernel's small files, with the reason when one cannot be read."""

import errno
import os
from pathlib import Path

from wattkeeper.model.state import State

_MOST_BYTES = 4096
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})


class UnreadableError(Exception):
    """A file could not be read, or says nothing that can be used.

    `state` is ABSENT, DENIED, FAILING or STALE; `reason` says what was seen.
    """

    def __init__(self, state: State, reason: str) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason


def read_text(path: Path) -> str:
    """Return the stripped text of a small file.

    It is opened at each read: an open descriptor would outlive a change of permission, a reloaded
    module or a file replaced by rename, and the three system calls take a few microseconds.

    Raises:
        UnreadableError: with the state that fits the operating system's error.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.pread(descriptor, _MOST_BYTES, 0)
        finally:
            os.close(descriptor)
    except PermissionError as error:
        raise UnreadableError(State.DENIED, f"{path}: {error.strerror}") from error
    except OSError as error:
        state = State.ABSENT if error.errno in _GONE else State.FAILING
        raise UnreadableError(state, f"{path}: {error.strerror}") from error
    return content.decode("utf-8", "replace").strip()


def text_if_any(path: Path) -> str:
    """Return the stripped text of a small file; "" where it cannot be read, whatever the reason."""
    try:
        return read_text(path)
    except UnreadableError:
        return ""


def read_whole(path: Path, most: int) -> int:
    """Return the whole number from 0 to `most` that a file holds.

    Raises:
        UnreadableError: it cannot be read, or holds anything else (FAILING): an empty file or a
            negative number is never taken for zero.

    """
    text = read_text(path)
    if not text.isascii() or not text.isdigit():
        raise UnreadableError(State.FAILING, f"{path}: holds {text[:40]!r}, not a whole number")
    if len(text) > len(str(most)) or int(text) > most:
        raise UnreadableError(State.FAILING, f"{path}: {text[:40]} is above {most}")
    return int(text)


def names(folder: Path) -> list[str]:
    """Return the sorted names in a folder.

    Raises:
        UnreadableError: it cannot be listed.

    """
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except PermissionError as error:
        raise UnreadableError(State.DENIED, f"{folder}: {error.strerror}") from error
    except OSError as error:
        state = State.ABSENT if error.errno in _GONE else State.FAILING
        raise UnreadableError(state, f"{folder}: {error.strerror}") from error


_GRAVITY = (State.FAILING, State.DENIED, State.STALE, State.ABSENT, State.OK)


def worst(states: list[State]) -> State:
    """Return the gravest of some states; ABSENT if there are none."""
    return min(states, key=_GRAVITY.index, default=State.ABSENT)
