"""The job-mapping folder of dcgm-exporter as a way to see who has which GPU."""

import os
from pathlib import Path

import pytest

from tests.sources.tree import FakeClock
from wattkeeper.holders.base import Claim, HolderEdge, HolderKey, HolderSource
from wattkeeper.holders.dcgm_mapping import MappingHolders
from wattkeeper.model.meter import Partition
from wattkeeper.model.state import State

GPUS = {0: "gpu/GPU-a", 1: "gpu/GPU-b"}
PARTS = {
    "MIG-1": Partition("MIG-1", "gpu/GPU-b", 3, 250_000, 142_857),
    "MIG-2": Partition("MIG-2", "gpu/GPU-b", 5, 500_000, 428_571),
}
WHOLE = 1_000_000
BIRTH = 77


class Folder:
    """A mapping folder, and what looks at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.clock.now_ns = 10**12
        self.holders = MappingHolders(
            path,
            lambda: GPUS,
            lambda: PARTS,
            self.clock,
            lambda _manager, raw_id: self.births(raw_id),
        )

    def births(self, raw_id: str) -> int | None:
        """Return the birth of the one job that has a cgroup."""
        return BIRTH if raw_id == "7" else None

    def write(self, name: str, text: str, ago_ns: int = 0) -> None:
        """Write a file, some time ago by the clock."""
        (self.path / name).write_text(text)
        written_ns = self.clock.wall_ns() - ago_ns
        os.utime(self.path / name, ns=(written_ns, written_ns))

    async def jobs(self) -> dict[str, list[str]]:
        """Look; return the jobs by meter."""
        await self.holders.look()
        return {
            meter: [claim.holder.raw_id for claim in claims if claim.holder]
            for meter, claims in self.holders.claims().items()
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty folder."""
    return Folder(tmp_path)


async def test_a_job_per_file(folder: Folder) -> None:
    """Born with its cgroup, holding from when the file was written until it is gone."""
    folder.write("0", "7\n", ago_ns=5_000)
    assert {"gpu/GPU-a": ["7"]} == await folder.jobs()
    key = HolderKey("slurm", "7", BIRTH)
    source: HolderSource = folder.holders
    assert {"gpu/GPU-a": (Claim(key, reserved_ppm=WHOLE, allocated=True),)} == source.claims()
    assert {"job_id": "7"} == source.infos()[key].labels
    started = HolderEdge(key, True, folder.clock.now_ns - 5_000, ("gpu/GPU-a",))
    assert (started,) == folder.holders.fresh()
    assert [started] == folder.holders.edges(folder.clock.now_ns - 6_000)
    await folder.jobs()
    assert () == folder.holders.fresh()
    (folder.path / "0").unlink()
    gone_ns = folder.clock.now_ns + 4
    os.utime(folder.path, ns=(0, folder.clock.wall_ns() + 4))
    folder.clock.now_ns += 9
    assert {} == await folder.jobs()
    assert (HolderEdge(key, False, gone_ns, ("gpu/GPU-a",)),) == folder.holders.fresh()
    assert [key] == list(source.infos())  # its last joules are booked after this look
    await folder.jobs()
    assert {} == source.infos()


async def test_a_job_without_a_cgroup_keeps_its_birth(folder: Folder) -> None:
    """It is born when its file was written, also for an agent that starts later."""
    folder.write("0", "8", ago_ns=10**9)
    await folder.jobs()
    (first,) = folder.holders.infos()
    assert first.birth_ms == (folder.clock.wall_ns() - 10**9) // 10**6
    again = MappingHolders(
        folder.path, lambda: GPUS, dict, folder.clock, lambda _manager, _raw_id: None
    )
    await again.look()
    assert [first] == list(again.infos())
    folder.clock.now_ns += 10**10
    folder.write("1", "8 1001\n")
    await folder.jobs()
    assert [first] == list(folder.holders.infos())


async def test_several_jobs_share(folder: Folder) -> None:
    """Of one GPU nothing is reserved; the other is the job's alone."""
    folder.write("0", "7\n8\n7\n")
    folder.write("1", "8\n")
    assert {"gpu/GPU-a": ["7", "8"], "gpu/GPU-b": ["8"]} == await folder.jobs()
    reserved = {
        meter: [claim.reserved_ppm for claim in claims]
        for meter, claims in folder.holders.claims().items()
    }
    assert {"gpu/GPU-a": [None, None], "gpu/GPU-b": [WHOLE]} == reserved


async def test_instances_and_uuids(folder: Folder) -> None:
    """`GPU.instance`, and both kinds of UUID."""
    folder.write("1.3", "7\n")
    folder.write("MIG-2", "8\n")
    folder.write("GPU-c", "9\n")
    assert {"gpu/GPU-b": ["7", "8"], "gpu/GPU-c": ["9"]} == await folder.jobs()
    parts = [claim.partitions for claim in folder.holders.claims()["gpu/GPU-b"]]
    assert [("MIG-1",), ("MIG-2",)] == parts


async def test_what_means_nothing_is_told(folder: Folder) -> None:
    """Other names, other lines, folders: nothing is guessed."""
    folder.write("0", "7\nnot a job\n\x00\xff\n")
    folder.write("99", "7\n")
    folder.write("README", "7\n")
    folder.write("1", "")
    (folder.path / "GPU-x").mkdir()
    assert {"gpu/GPU-a": ["7"]} == await folder.jobs()
    told = {finding.subject: finding for finding in folder.holders.findings()}
    assert "3 entries" in told["mapping/entries"].detail
    folder.write("1", "s1G5M83WET9100\n")
    assert {"gpu/GPU-a": ["7"], "gpu/GPU-b": ["s1G5M83WET9100"]} == await folder.jobs()
    labels = {info.raw_id: info.labels for info in folder.holders.infos().values()}
    assert {"sluid": "s1G5M83WET9100"} == labels["s1G5M83WET9100"]


async def test_no_folder(tmp_path: Path) -> None:
    """Absent, with the setting to correct; when it goes, its claims end."""
    folder = Folder(tmp_path / "jobs")
    assert {} == await folder.jobs()
    (finding,) = folder.holders.findings()
    assert (State.ABSENT, True) == (finding.state, "job_mapping_dir" in finding.fix)
    folder.path.mkdir()
    folder.write("0", "7\n")
    assert {"gpu/GPU-a": ["7"]} == await folder.jobs()
    assert [State.OK] == [finding.state for finding in folder.holders.findings()]
    (folder.path / "0").unlink()
    folder.path.rmdir()
    assert {} == await folder.jobs()
    await folder.holders.close()
