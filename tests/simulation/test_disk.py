"""Files suffer as on a real disk: only the torn write is lost, a full one refuses."""

from pathlib import Path

import pytest

from wattkeeper.metering.journal import FILE, Journal, JournalError
from wattkeeper.model.window import ClockStep
from wattkeeper.simulation import disk


def journal(folder: Path) -> Journal:
    """Open a journal."""
    folder.mkdir(exist_ok=True)
    return Journal(folder, cluster="simulated", node="n", max_bytes=1 << 30, durable=False)


def steps(count: int) -> list[ClockStep]:
    """Return records that take room."""
    return [ClockStep(number, number, 1_000_000 + number) for number in range(count)]


def test_a_torn_tail_loses_the_last_append_only(tmp_path: Path) -> None:
    """The log is cut inside its last frame: the append before it is whole."""
    old = journal(tmp_path / "old")
    old.append(steps(3), {})
    old.append(steps(2), {})
    disk.copy_as_is(tmp_path / "old" / FILE, tmp_path / "new" / FILE)
    disk.copy_as_is(tmp_path / "old" / FILE, tmp_path / "torn" / FILE)
    old.close()
    assert disk.tear(tmp_path / "torn", 100)
    with journal(tmp_path / "new") as whole, journal(tmp_path / "torn") as torn:
        assert whole.meta.last == 5
        assert torn.meta.last == 3
        assert len(torn.stretch(0, 1 << 20).payloads) == 3


def test_without_a_log_there_is_nothing_to_tear(tmp_path: Path) -> None:
    """A journal that was closed in order has no log."""
    journal(tmp_path / "closed").close()
    assert not disk.tear(tmp_path / "closed", 100)


def test_a_full_disk_refuses_until_there_is_room(tmp_path: Path) -> None:
    """The journal says so, keeps what it has, and goes on afterwards."""
    with journal(tmp_path / "full") as full:
        full.append(steps(10), {})
        disk.fill(full._db)
        with pytest.raises(JournalError, match="full"):
            full.append(steps(10_000), {})
        assert full.meta.last == 10
        disk.free(full._db)
        full.append(steps(10_000), {})
        assert full.meta.last == 10_010
