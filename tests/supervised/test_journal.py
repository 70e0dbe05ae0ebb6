"""The log as journald gets it."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattkeeper.supervised.journal import JournalHandler, _field, _stderr_is_the_journal


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen as journald does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.setblocking(False)
        yield listener


@pytest.fixture
def log(tmp_path: Path, journald: socket.socket) -> Iterator[logging.Logger]:
    """Give a logger that writes there alone."""
    handler = JournalHandler(tmp_path / "socket")
    log = logging.getLogger("wattkeeper.test")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)
    handler.close()


def parse(message: bytes) -> dict[str, str]:
    """Return the fields of a message, as systemd's documentation has the protocol."""
    fields = {}
    while message:
        line, _, message = message.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(message[:8], "little")
            value, message = message[8 : 8 + size], message[8 + size + 1 :]
        fields[name.decode()] = value.decode(errors="replace")
    return fields


def test_a_record_has_fields(log: logging.Logger, journald: socket.socket) -> None:
    """Gravity, logger and place can be asked for."""
    log.warning("gpu %s is stuck", 3)
    fields = parse(journald.recv(100_000))
    assert ("gpu 3 is stuck", "4") == (fields["MESSAGE"], fields["PRIORITY"])
    assert ("wattkeeper.test", "wattkeeper") == (fields["LOGGER"], fields["SYSLOG_IDENTIFIER"])
    assert (__file__, "test_a_record_has_fields") == (fields["CODE_FILE"], fields["CODE_FUNC"])


def test_a_traceback_is_one_record(log: logging.Logger, journald: socket.socket) -> None:
    """Lines stay together."""
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("failed")
    fields = parse(journald.recv(100_000))
    assert fields["MESSAGE"].startswith("failed\nTraceback")
    assert fields["MESSAGE"].endswith("ValueError: no")


@given(st.text())
@settings(max_examples=50)
def test_no_value_can_forge_a_field(value: str) -> None:
    """Names of devices and jobs are not ours: whatever they are, one field stays one."""
    expected = value.encode(errors="replace").decode(errors="replace")
    assert {"MESSAGE": expected} == parse(_field("MESSAGE", value))


def test_a_journald_that_hangs_is_not_waited_for(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    """An agent meters on; what is not taken is gone, and not said where it would be waited for."""
    for number in range(5_000):
        log.info("line %d", number)
    assert ("", "") == capfd.readouterr()


def test_only_the_journal_s_own_stream_counts(capfd: pytest.CaptureFixture[str]) -> None:
    """A child of a service whose output goes to a file writes into that file."""
    status = os.fstat(sys.stderr.fileno())
    assert _stderr_is_the_journal(f"{status.st_dev}:{status.st_ino}")
    assert not _stderr_is_the_journal(f"{status.st_dev}:{status.st_ino + 1}")
    assert not _stderr_is_the_journal("")
