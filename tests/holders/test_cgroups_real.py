"""The real cgroup trees of this machine: v1 and v2, whichever are mounted."""

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wattkeeper.holders.cgroup_tree import hierarchies
from wattkeeper.holders.cgroups import CPUS, CgroupHolders
from wattkeeper.model.clock import SystemClock

CGROUPFS = Path("/sys/fs/cgroup")
PROCFS = Path("/proc")
BUSY = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"

pytestmark = pytest.mark.root


def trees() -> list[tuple[str, Path]]:
    """Return the mounted trees that count processor time, by name."""
    return [(tree.controller or "v2", tree.root) for tree in hierarchies(CGROUPFS)]


def scope(name: str, root: Path) -> Path:
    """Return where Slurm puts a node's jobs in a tree, on a node of a name of its own."""
    node = f"wk{secrets.token_hex(4)}"
    if name == "v2":
        return root / f"{node}_slurmstepd.scope"
    return root / f"slurm_{node}" / "uid_0"


def spinning() -> subprocess.Popen[bytes]:
    """Start a process that does nothing but work."""
    return subprocess.Popen([sys.executable, "-c", BUSY])


@pytest.fixture(params=["v2", "cpuacct", "freezer"])
def jobs(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield a real folder for jobs, removed afterwards with all that is in it."""
    root = dict(trees()).get(request.param)
    if root is None:
        pytest.skip(f"no {request.param} hierarchy is mounted in {CGROUPFS}")
    place = scope(request.param, root)
    try:
        place.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"cgroups cannot be made here: {error}")
    yield place
    until = time.monotonic() + 5
    for folder in sorted(place.rglob("*/"), reverse=True):
        # A killed process leaves its cgroup a moment after it was waited for.
        while (folder / "cgroup.procs").read_text() and time.monotonic() < until:
            time.sleep(0.01)
        folder.rmdir()
    while place != root:
        with contextlib.suppress(FileNotFoundError):
            place.rmdir()
        place = place.parent


async def test_edges_within_milliseconds(jobs: Path) -> None:
    """A real mkdir and rmdir of a job's cgroup wake the agent."""
    edge = asyncio.Event()
    holders = CgroupHolders(PROCFS, CGROUPFS, SystemClock(), edge.set)
    await holders.look()
    name = f"job_{secrets.randbelow(10**9)}"
    raw_id = name.removeprefix("job_")
    took = []
    for change in (os.mkdir, os.rmdir):
        began = time.monotonic()
        change(jobs / name)
        async with asyncio.timeout(5):
            await edge.wait()
        took.append(time.monotonic() - began)
        edge.clear()
        there = raw_id in {key.raw_id for key in holders.infos()}
        assert there is (change is os.mkdir)
    assert max(took) < 1.0
    print(f"edges seen after {', '.join(f'{1000 * s:.1f} ms' for s in took)}")
    await holders.close()


async def test_processor_time_of_a_busy_job(jobs: Path) -> None:
    """A spinning process is charged to its job, and the rest stays the machine's."""
    if "freezer" in str(jobs):
        pytest.skip("the freezer counts no time")
    raw_id = str(secrets.randbelow(10**9))
    folder = jobs / f"job_{raw_id}"
    folder.mkdir()
    with spinning() as child:
        try:
            (folder / "cgroup.procs").write_text(str(child.pid))
            holders = CgroupHolders(PROCFS, CGROUPFS, SystemClock())
            await holders.look()
            spent = 0
            async with asyncio.timeout(20):
                while spent < 50_000:
                    await asyncio.sleep(0.02)
                    await holders.look()
                    by_id = {c.holder and c.holder.raw_id: c.weight for c in holders.claims()[CPUS]}
                    spent += by_id[raw_id] or 0
                    assert all(weight is None or weight >= 0 for weight in by_id.values())
            birth = holders.birth_ms("slurm", raw_id)
            await holders.close()
        finally:
            child.kill()
    assert birth is not None
    assert abs(birth - time.time_ns() // 1_000_000) < 30_000
