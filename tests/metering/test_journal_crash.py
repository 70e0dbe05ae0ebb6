"""The journal under kill -9, a torn log and a full disk, in real processes."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.metering.test_journal import everything, fill, open_journal, window
from wattkeeper.metering.book import BookState
from wattkeeper.metering.journal import FILE, JournalError

_WRITER = """
import sys, msgspec
from pathlib import Path
from tests.metering.test_journal import open_journal, window
from wattkeeper.metering.book import BookState
journal = open_journal(Path(sys.argv[1]), durable=True)
for number in range(journal.meta.last, 10**6):
    state = BookState(1, booked_uj=(number + 1) * 5)
    journal.append([window(number)], {"gpu/x": msgspec.msgpack.encode(state)})
    print(number + 1, flush=True)
"""


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": f"{root}:{root / 'daemon'}"}


def _agree(folder: Path) -> int:
    """Assert that only whole commits are there; return the last number."""
    with open_journal(folder) as journal:
        assert journal.set_aside == ""
        last = journal.meta.last
        assert everything(journal) == [window(n) for n in range(last)]
        assert journal.states().get("gpu/x", BookState(1)).booked_uj == last * 5
        return last


def test_kill_9_in_the_middle_of_appends_leaves_whole_commits(tmp_path: Path) -> None:
    """What an append has returned from is there; states and records agree; it goes on."""
    for lines in (3, 20, 41):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip
        assert writer.stdout is not None
        promised = 0
        for _ in range(lines):
            promised = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        assert _agree(tmp_path) >= promised


def test_a_log_torn_anywhere_opens_at_a_whole_commit(tmp_path: Path) -> None:
    """Cut at random offsets, or overwritten behind them: an earlier commit, never half of one."""
    alive = tmp_path / "alive"
    alive.mkdir()
    journal = open_journal(alive)
    for number in range(60):
        state = msgspec.msgpack.encode(BookState(1, booked_uj=(number + 1) * 5))
        journal.append([window(number)], {"gpu/x": state})
    log = alive / f"{FILE}-wal"
    size = log.stat().st_size
    draw = random.Random(7)
    found = set()
    for round_ in range(40):
        torn = tmp_path / f"torn-{round_}"
        torn.mkdir()
        shutil.copy(alive / FILE, torn / FILE)
        at = draw.randrange(size)
        content = log.read_bytes()
        tail = b"" if round_ % 2 else draw.randbytes(size - at)
        (torn / log.name).write_bytes(content[:at] + tail)
        found.add(_agree(torn))
    journal.close()
    assert len(found) > 10
    assert max(found) < 60


def test_a_full_disk_loses_nothing_and_is_survived(tmp_path: Path) -> None:
    """Appends fail with a reason, the journal stays whole, and goes on when there is room."""
    script = """
import resource, signal, sys
from pathlib import Path
from tests.metering.test_journal import everything, fill, open_journal, window
from wattkeeper.metering.journal import JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = open_journal(Path(sys.argv[1]))
fill(journal, 20)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
limit = (Path(sys.argv[1]) / "journal.sqlite-wal").stat().st_size + 5000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
failed = 0
for _ in range(30):
    try:
        fill(journal, 1)
    except JournalError as error:
        assert "cannot write" in str(error), error
        failed += 1
assert failed, "the disk was never full"
kept = journal.meta.last
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
fill(journal, 5)
assert journal.meta.last == kept + 5
assert everything(journal) == [window(n) for n in range(kept + 5)]
print("whole", failed)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, env=_environment(), check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("whole")


def _write_without_end(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.root
def test_a_full_file_system_loses_nothing_and_is_survived(tmp_path: Path) -> None:
    """The same on a real file system without room left."""
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"may not mount: {mounted.stderr.strip()}")
    try:
        with open_journal(tmp_path) as journal:
            fill(journal, 5)
            ballast = tmp_path / "ballast"
            with pytest.raises(OSError, match="space"):
                _write_without_end(ballast)
            with pytest.raises(JournalError, match="full"):
                fill(journal, 1000)
            kept = journal.meta.last
            ballast.unlink()
            fill(journal, 5)
            assert everything(journal) == [window(n) for n in range(kept + 5)]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
