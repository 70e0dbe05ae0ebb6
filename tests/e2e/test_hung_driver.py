"""A driver that hangs, reloads or is let go of: the rest goes on, and the joules are right."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.hardware import Crank
from tests.e2e.programs import Site, until
from tests.fake_nvml.library import ENERGY, FIELDS, POWER, FakeNvml

pytestmark = pytest.mark.compiler

FREEZER = Path("/sys/fs/cgroup/freezer")


def test_one_hanging_gpu_blinds_no_other(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """While one GPU hangs, the others are metered exactly; then it catches up, exactly too."""
    site.agent(delivers=False)
    site.await_first_window(uuids)
    _hang(fake, [0], True)
    until("the GPU is seen to hang", lambda: site.state(fake.meter(0)) == "stale")
    crank.turn(2)
    _await_exact(site, crank, uuids, (1, 2, 3))
    assert {"ok"} == {site.state(fake.meter(i)) for i in (1, 2, 3)}
    assert site.energy_uj(uuids[0]) == 0
    _hang(fake, [0], False)
    _await_exact(site, crank, uuids, (0,))
    assert site.state(fake.meter(0)) == "ok"


def test_agent_answers_and_ends_while_all_hang(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """With every GPU hanging, metrics are served at once, and a stop ends the agent."""
    agent = site.agent(delivers=False)
    site.await_first_window(uuids)
    crank.turn(1)
    _hang(fake, range(4), True)
    until("all are stale", lambda: _states(site, fake) == {"stale"})
    assert site.samples(timeout_s=1.0) is not None
    assert agent.stop(deadline_s=10) == 0
    _hang(fake, range(4), False)
    crank.turn(1)
    site.agent(delivers=False)
    _await_exact(site, crank, uuids)


@pytest.mark.root
def test_uninterruptible_sleep_keeps_neither_port_nor_journal(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str], frozen: Path
) -> None:
    """The child is stuck in the kernel for good; agent and successor do not wait for it."""
    agent = site.agent(delivers=False)
    site.await_first_window(uuids)
    crank.turn(1)
    [child] = set.intersection(*(set(fake.holders(i)) for i in range(4)))
    (frozen / "cgroup.procs").write_text(str(child))
    (frozen / "freezer.state").write_text("FROZEN")
    until("all are stale", lambda: _states(site, fake) == {"stale"})
    assert site.samples(timeout_s=1.0) is not None
    assert agent.stop(deadline_s=10) == 0
    assert child in fake.holders(0), "the old child is not stuck: the test proves nothing"

    successor = site.agent(delivers=False)  # same port, same data_dir
    crank.turn(1)
    _await_exact(site, crank, uuids)
    assert child in fake.holders(0)
    assert successor.stop() == 0


def test_driver_reload_is_a_new_epoch(
    site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]
) -> None:
    """Counters begin anew at 0 after a reload; both epochs are booked, neither twice."""
    site.aggregator()
    site.agent()
    site.await_first_window(uuids)
    crank.turn(1)
    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("the first epoch is booked", lambda: truth == site.measured_uj())
    module = site.sysfs / "module/nvidia"
    # Both folders exist for a moment, so that the new one gets another inode, as from kernfs.
    module.with_name("new").mkdir()
    module.rmdir()
    for i in range(4):
        crank.reset_counter(i)
    module.with_name("new").rename(module)
    fake.reload(driver="620.10")
    until("all are well again", lambda: _driver(site, "620.10"))
    crank.turn(1)
    truth = {fake.meter(i): crank.drawn_uj(i) for i in range(4)}
    until("both epochs are booked", lambda: truth == site.measured_uj())
    assert site.cli("balance", "--url", site.aggregator_url).returncode == 0


def test_release_of_one_gpu(site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]) -> None:
    """The released GPU's device file is closed, the others go on; it comes back by itself."""
    site.agent(delivers=False)
    site.await_first_window(uuids)
    done = site.cli("release", "--gpu", uuids[2], "--for", "5s", "--data-dir", str(site.agent_dir))
    assert (0, f"Released: gpu/{uuids[2]}\n") == (done.returncode, done.stdout)
    assert fake.holders(2) == []
    assert site.state(fake.meter(2)) == "released"
    assert all(fake.holders(i) for i in (0, 1, 3))
    crank.turn(1)
    _await_exact(site, crank, uuids, (0, 1, 3))
    until("it comes back", lambda: site.state(fake.meter(2)) == "ok")
    _await_exact(site, crank, uuids)


def test_release_of_all_gpus(site: Site, crank: Crank, fake: FakeNvml, uuids: list[str]) -> None:
    """The driver is closed as `rmmod` and `nvidia-smi --gpu-reset` want it, then opened again."""
    site.agent(delivers=False)
    site.await_first_window(uuids)
    done = site.cli("release", "--for", "3s", "--data-dir", str(site.agent_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert [fake.holders(i) for i in range(4)] == [[]] * 4
    crank.turn(1)
    _await_exact(site, crank, uuids)


def test_release_without_agent(site: Site) -> None:
    """Where no agent runs, the command says so and fails."""
    done = site.cli("release", "--for", "3s", "--data-dir", str(site.agent_dir))
    assert done.returncode == 1
    assert f"no agent listens in {site.agent_dir}" in done.stderr


@pytest.fixture
def frozen() -> Iterator[Path]:
    """Make a freezer cgroup: a thread frozen in it behaves like one in uninterruptible sleep."""
    if not FREEZER.is_dir() or os.geteuid() != 0:
        pytest.skip("needs root and the freezer cgroup (v1)")
    folder = FREEZER / f"wattkeeper-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a freezer cgroup: {error}")
    yield folder
    (folder / "freezer.state").write_text("THAWED")
    for pid in (folder / "cgroup.procs").read_text().split():
        subprocess.run(["kill", "-9", pid], check=False)
    until("the cgroup is empty", lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def _hang(fake: FakeNvml, gpus: Sequence[int], hangs: bool) -> None:
    for i in gpus:
        for family in (ENERGY, POWER, FIELDS):
            fake.gpu(i).hang[family] = int(hangs)


def _await_exact(
    site: Site, crank: Crank, uuids: Sequence[str], gpus: Sequence[int] = range(4)
) -> None:
    """Wait until the agent exposes exactly what these GPUs have drawn."""

    def exact() -> bool:
        return all(crank.drawn_uj(i) == site.energy_uj(uuids[i]) for i in gpus)

    until(f"GPUs {list(gpus)} are exact", exact)


def _states(site: Site, fake: FakeNvml) -> set[str | None]:
    return {site.state(fake.meter(i)) for i in range(4)}


def _driver(site: Site, version: str) -> bool:
    series = site.samples() or {}
    infos = [name for name in series if name.startswith("wattkeeper_gpu_info")]
    return len(infos) == 4 and all(f'driver="{version}"' in info for info in infos)
