"""The log: fields for journald where it listens, else lines on standard error."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}
_LONGEST = 64 << 10
"""Bytes of a message. journald takes longer ones, but only by another way than a datagram."""


class JournalHandler(logging.Handler):
    """Writes records in journald's own protocol, each with logger and place in the code.

    Never waits: what a journald that hangs does not take is lost.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._path = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        fields = [_field(name, value) for name, value in self._fields(record)]
        # Not to standard error instead: that ends at the same journald, and would be waited for.
        with contextlib.suppress(OSError):
            self._socket.sendto(b"".join(fields), self._path)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        return [
            ("MESSAGE", self.format(record)),
            ("PRIORITY", str(_PRIORITIES.get(record.levelname, 5))),
            ("SYSLOG_IDENTIFIER", "wattkeeper"),
            ("LOGGER", record.name),
            ("CODE_FILE", record.pathname),
            ("CODE_LINE", str(record.lineno)),
            ("CODE_FUNC", record.funcName or ""),
        ]


def set_up(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Let everything that is logged go to journald if standard error does, else to that."""
    if _stderr_is_the_journal(environ.get("JOURNAL_STREAM", "")):
        logging.basicConfig(format="%(message)s", handlers=[JournalHandler()])
    else:
        logging.basicConfig(format=_FORMAT, stream=sys.stderr)
    set_level(level)


def set_level(level: str) -> None:
    """Log what is as grave as `level`, or graver."""
    logging.getLogger().setLevel(level.upper())


def _stderr_is_the_journal(stream: str) -> bool:
    """Tell whether systemd connected us to the journal, and nobody else to a file since."""
    if not stream:
        return False
    status = os.fstat(sys.stderr.fileno())
    return stream == f"{status.st_dev}:{status.st_ino}"


def _field(name: str, value: str) -> bytes:
    content = value.encode(errors="replace")[:_LONGEST]
    if b"\n" not in content:
        return name.encode() + b"=" + content + b"\n"
    return name.encode() + b"\n" + len(content).to_bytes(8, "little") + content + b"\n"
