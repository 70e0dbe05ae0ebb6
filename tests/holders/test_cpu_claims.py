"""Processor time becomes claims, on each socket where there are several."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.holders.machine import SCOPE, Machine
from tests.sources.tree import put
from wattkeeper.holders.base import Claim, HolderKey
from wattkeeper.holders.cgroups import CgroupHolders
from wattkeeper.holders.cpu_claims import CPUS, Processors, Spent, cpu_claims

A, B = HolderKey("slurm", "1", 0), HolderKey("slurm", "2", 0)
FIRST, SECOND = frozenset({0, 1, 4, 5}), frozenset({2, 3, 6, 7})
SOCKET = {cpu: str(int(cpu in SECOND)) for cpu in range(8)}
ALL = frozenset(range(8))


def two_sockets(*busy_us: int) -> Processors:
    """Return eight processors on two sockets, numbered across, with what each one spent."""
    return Processors(ALL, SOCKET, dict(enumerate(busy_us)))


def test_a_job_does_not_pay_for_a_socket_that_it_may_not_use() -> None:
    """Its time is on its own socket, all of which it has reserved."""
    claims = cpu_claims([Spent(A, 900, FIRST)], 1_000, two_sockets(5, 4, 1, 0))
    assert claims == {
        CPUS: (Claim(A, 900, 500_000), Claim(None, 100)),
        "cpu/0/*": (Claim(A, 900, 1_000_000), Claim(None, 0)),
        "cpu/1/*": (Claim(None, 100),),
    }


def test_time_is_laid_over_the_sockets_that_the_cpuset_touches() -> None:
    """By the number of processors on each, where the kernel does not say where it was spent."""
    claims = cpu_claims([Spent(A, 900, FIRST | {2, 3}), Spent(B, 80)], 1_000, two_sockets())
    assert claims["cpu/0/*"] == (Claim(A, 600, 1_000_000), Claim(B, 40), Claim(None, 0))
    assert claims["cpu/1/*"] == (Claim(A, 300, 500_000), Claim(B, 40), Claim(None, 160))


def test_the_kernels_word_on_where_time_was_spent_goes_first() -> None:
    """Version 1 of cgroups counts by processor."""
    claims = cpu_claims([Spent(A, 900, None, {2: 600, 4: 300})], 900, two_sockets(1, 1, 1))
    assert [claims[f"cpu/{socket}/*"][0].weight for socket in "01"] == [300, 600]


def test_one_socket_and_unknown_sockets_have_one_key() -> None:
    """There is nothing to tell apart."""
    for socket in ({}, dict.fromkeys(range(8), "0")):
        assert [*cpu_claims([Spent(A, 1)], 2, Processors(ALL, socket, {}))] == [CPUS]


def test_an_unknown_time_stays_unknown_on_every_socket() -> None:
    """And what the machine itself spent with it."""
    claims = cpu_claims([Spent(A, None)], 100, two_sockets())
    assert claims["cpu/1/*"] == (Claim(A), Claim(None))


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.none() | st.frozensets(st.integers(0, 9))), max_size=5
    ),
    st.integers(0, 10**10),
    st.lists(st.integers(0, 10**9), min_size=8, max_size=8),
)
def test_no_time_is_spent_twice(
    rows: list[tuple[int, frozenset[int] | None]], machine_us: int, busy_us: list[int]
) -> None:
    """A job's time is the same in sum over the sockets, or on none where it may use none."""
    jobs = [
        Spent(HolderKey("slurm", str(n), 0), us, allowed) for n, (us, allowed) in enumerate(rows)
    ]
    claims = cpu_claims(jobs, machine_us, two_sockets(*busy_us))
    for job in jobs:
        here = [c for key in ("cpu/0/*", "cpu/1/*") for c in claims[key] if c.holder == job.holder]
        assert sum(c.weight or 0 for c in here) == (job.us if here else 0)
        assert here or not (job.allowed or frozenset()) & ALL


async def test_cgroups_on_two_sockets(tmp_path: Path) -> None:
    """From the files of the kernel: topology, cpusets, processor time by processor."""
    machine = Machine(tmp_path)
    sysfs = tmp_path / "sys"
    for cpu, socket in SOCKET.items():
        folder = f"devices/system/cpu/cpu{cpu}/topology"
        put(sysfs, {f"{folder}/physical_package_id": f"{socket}\n"})
    holders = CgroupHolders(machine.procfs, machine.cgroupfs, machine.clock, sysfs=sysfs)
    for ticks in (0, 1):
        machine.v2(100_000 * ticks)
        machine.job(f"{SCOPE}/job_1", 50_000 * ticks, "0-1,4-5")
        lines = [f"cpu{n} {(n in FIRST) * 6 * ticks + 4 * ticks} 0 0 0 0 0 0 0 0 0" for n in ALL]
        put(machine.procfs, {"stat": "\n".join(["cpu 0 0 0 0 0 0 0 0 0 0", *lines, ""])})
        await holders.look()
    claims = holders.claims()
    (key,) = holders.infos()
    assert claims["cpu/0/*"] == (Claim(key, 50_000, 1_000_000), Claim(None, 21_429))
    assert claims["cpu/1/*"] == (Claim(None, 28_571),)
    await holders.close()
