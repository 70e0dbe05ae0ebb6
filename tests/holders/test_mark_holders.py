"""The spool of marks: claims from start to end, over restarts, with garbage put aside."""

import json
import os
from pathlib import Path

import pytest

from tests.holders.test_mark_book import end, start
from wattkeeper.holders import marks
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey, HolderSource
from wattkeeper.holders.mark_holders import MarkHolders
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import State

GPUS = {0: "gpu/GPU-a", 1: "gpu/GPU-b", 2: "gpu/GPU-c"}
WHOLE = 1_000_000


def holders_of(spool: Path, gpus: dict[int, str] | None = None, boot: str = "b") -> MarkHolders:
    """Return holders on a spool."""
    return MarkHolders(spool, lambda: GPUS if gpus is None else gpus, boot)


def key(job: str, at: int) -> HolderKey:
    """Return the key of a job marked at an instant of `test_mark_book`."""
    return HolderKey("slurm", job, at * 10)


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


async def test_held_from_start_to_end(tmp_path: Path) -> None:
    """The marked GPUs are allocated, kernel or no kernel, until the end mark."""
    holders: HolderSource = holders_of(tmp_path / "marks")
    await holders.look()
    assert holders.claims() == {}
    marks.write(tmp_path / "marks", start(1, "7", [0, 2], user="alice"))
    await holders.look()
    whole = (Claim(key("7", 1), reserved_ppm=WHOLE, allocated=True),)
    assert holders.claims() == {"gpu/GPU-a": whole, "gpu/GPU-c": whole}
    assert holders.infos() == {
        key("7", 1): HolderInfo("slurm", "7", 10, {"user": "alice"}),
    }
    marks.write(tmp_path / "marks", end(2, "7"))
    await holders.look()
    assert holders.claims() == {}
    # Its last joules are booked after this look, under its labels.
    assert list(holders.infos()) == [key("7", 1)]
    await holders.look()
    assert holders.infos() == {}
    assert holders.findings()[0].state == State.OK
    await holders.close()


async def test_spool_is_emptied_and_state_kept(tmp_path: Path) -> None:
    """What was taken in is in open.json; its files are gone."""
    marks.write(tmp_path, start(1))
    holders = holders_of(tmp_path)
    await holders.look()
    assert names_in(tmp_path) == ["open.json"]
    again = holders_of(tmp_path)
    await again.look()
    assert again.claims() == holders.claims()
    assert again.infos() == holders.infos()
    # A restart of the machine ends all jobs.
    rebooted = holders_of(tmp_path, boot="c")
    await rebooted.look()
    assert rebooted.claims() == {}


async def test_marks_made_while_no_agent_ran(tmp_path: Path) -> None:
    """Both ends of a job are seen afterwards, at their own times and on its meters."""
    for mark in (start(3, "7", [1]), end(5, "7"), start(8, "8", [1])):
        marks.write(tmp_path, mark)
    holders = holders_of(tmp_path)
    await holders.look()
    meters = ("gpu/GPU-b",)
    assert holders.edges(3) == [
        HolderEdge(key("7", 3), False, 5, meters),
        HolderEdge(key("8", 8), True, 8, meters, alone=True),
    ]
    assert holders.edges(0)[0] == HolderEdge(key("7", 3), True, 3, meters, alone=True)
    assert holders.edges(8) == []


async def test_job_without_gpus_is_known(tmp_path: Path) -> None:
    """It claims no meter, and its labels stand for its cgroup."""
    marks.write(tmp_path, start(1, "7", [], account="chem"))
    holders = holders_of(tmp_path)
    await holders.look()
    assert holders.claims() == {}
    assert [info.labels for info in holders.infos().values()] == [{"account": "chem"}]


async def test_shared_gpu_has_several_holders(tmp_path: Path) -> None:
    """Nobody reserves all of a shared GPU."""
    for job in ("7", "8"):
        marks.write(tmp_path, start(int(job), job, shared=True))
    holders = holders_of(tmp_path)
    await holders.look()
    expected = tuple(Claim(key(job, int(job)), allocated=True) for job in ("7", "8"))
    assert holders.claims() == {"gpu/GPU-a": expected}


async def test_index_and_uuid_of_one_gpu(tmp_path: Path) -> None:
    """Marked by index and by UUID: two names of one device, and only the newer holds it."""
    marks.write(tmp_path, start(1, "7", [0, 1]))
    marks.write(tmp_path, marks.Mark("start", "slurm", "8", 20, 2, "b", uuids=("GPU-a",)))
    holders = holders_of(tmp_path)
    await holders.look()
    owners = {meter: [c.holder for c in claims] for meter, claims in holders.claims().items()}
    assert owners == {"gpu/GPU-a": [key("8", 2)], "gpu/GPU-b": [key("7", 1)]}


async def test_indices_wait_for_the_driver(tmp_path: Path) -> None:
    """Before the GPUs are known nothing is claimed; an index that fits none is then said."""
    gpus: dict[int, str] = {}
    marks.write(tmp_path, start(1, "7", [0, 9]))
    holders = holders_of(tmp_path, gpus)
    await holders.look()
    assert holders.claims() == {}
    assert len(holders.findings()) == 1
    gpus.update(GPUS)
    await holders.look()
    assert list(holders.claims()) == ["gpu/GPU-a"]
    finding = holders.findings()[-1]
    assert (finding.subject, finding.state) == ("marks/gpus", State.FAILING)
    assert finding.detail.endswith(": 9")


async def test_garbage_is_put_aside(tmp_path: Path) -> None:
    """Foreign, half-written and linked files leave the spool; the marks beside them count."""
    (tmp_path / "0.json").write_text('{"kind": "sta')
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "folder").mkdir()
    marks.write(tmp_path, start(1))
    holders = holders_of(tmp_path)
    await holders.look()
    assert list(holders.claims()) == ["gpu/GPU-a"]
    assert names_in(tmp_path) == ["bad", "open.json"]
    assert len(names_in(tmp_path / "bad")) == 4
    finding = holders.findings()[1]
    assert (finding.subject, finding.state) == ("marks/bad", State.FAILING)
    assert finding.detail.startswith("4 files")
    # The next agent still says so, until somebody has looked at them.
    again = holders_of(tmp_path)
    await again.look()
    assert again.findings()[1].detail.startswith("4 files")


def litter(spool: Path, count: int) -> None:
    """Write files that are no marks."""
    for number in range(count):
        (spool / f"{number}").write_text("x")


async def test_what_is_put_aside_is_bounded(tmp_path: Path) -> None:
    """A script that litters the spool does not fill the disk."""
    litter(tmp_path, 130)
    await holders_of(tmp_path).look()
    assert len(names_in(tmp_path / "bad")) == 100


async def test_half_written_by_a_dead_writer(tmp_path: Path) -> None:
    """A mark being written is left alone; one abandoned for an hour is deleted."""
    for name, age in ((".young.json.aa", 10), (".old.json.bb", 7200)):
        litter(tmp_path, 0)
        half = tmp_path / name
        half.touch()
        then = half.stat().st_mtime - age
        os.utime(half, (then, then))
    await holders_of(tmp_path).look()
    assert names_in(tmp_path) == [".young.json.aa"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"boot_id": 5}', b"[1]", b'{"boot_id": "\xff"}', b'{"x":' + b"[" * 20_000],
    ids=["empty", "missing", "type", "list", "utf-8", "deep"],
)
async def test_torn_state_is_put_aside(tmp_path: Path, content: bytes) -> None:
    """An unreadable open.json costs the open holds, visibly, and nothing else."""
    (tmp_path / "open.json").write_bytes(content)
    (tmp_path / "mark.json").write_bytes(content)
    marks.write(tmp_path, start(1))
    holders = holders_of(tmp_path)
    await holders.look()
    assert list(holders.claims()) == ["gpu/GPU-a"]
    assert holders.findings()[1].subject == "marks/bad"
    assert holders.findings()[1].detail.startswith("2 files")


async def test_full_disk_keeps_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While open.json cannot be written the mark files stay; afterwards all is as it should be."""

    def full(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(file))

    file = marks.write(tmp_path, start(1))
    holders = holders_of(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(marks, "write_durably", full)
        await holders.look()
        await holders.look()
    assert names_in(tmp_path) == [file.name]
    assert list(holders.claims()) == ["gpu/GPU-a"]
    finding = holders.findings()[0]
    assert finding.state == State.FAILING
    assert "No space left" in finding.detail
    await holders.look()
    assert holders.findings()[0].state == State.OK
    assert json.loads((tmp_path / "open.json").read_text())["boot_id"] == "b"


async def test_unusable_spool(tmp_path: Path) -> None:
    """A file where the spool should be is said, and nothing is claimed."""
    (tmp_path / "marks").write_text("")
    holders = holders_of(tmp_path / "marks")
    await holders.look()
    assert holders.claims() == {}
    assert holders.infos() == {}
    assert holders.findings()[0].state == State.FAILING
    assert "marks" in holders.findings()[0].fix


async def test_ignored_marks_are_counted(tmp_path: Path) -> None:
    """An end that fits nothing shows in the findings."""
    marks.write(tmp_path, end(1))
    holders = holders_of(tmp_path)
    await holders.look()
    assert holders.findings()[0].detail == "0 open holds, 1 end_only"


async def test_peeking_changes_nothing(tmp_path: Path) -> None:
    """Doctor sees what the agent would see, and leaves every file to the agent."""
    nowhere = MarkHolders(tmp_path / "none", lambda: GPUS, "b", peek=True)
    await nowhere.look()
    assert nowhere.findings()[0].state == State.OK
    assert names_in(tmp_path) == []
    marks.write(tmp_path, start(1))
    litter(tmp_path, 1)
    (tmp_path / "open.json").write_text("torn")
    before = names_in(tmp_path)
    peeking = MarkHolders(tmp_path, lambda: GPUS, "b", peek=True)
    for _ in range(2):
        await peeking.look()
    assert list(peeking.claims()) == ["gpu/GPU-a"]
    assert names_in(tmp_path) == before
