"""What holders read from procfs and cgroupfs. A file of something that ended reads as None."""

import os
from collections.abc import Iterator
from pathlib import Path

from wattkeeper.model.clock import NS_PER_MS, NS_PER_S, Clock

_CHUNK = 65_536
_MOST_CPUS = 1 << 16


def read(path: Path) -> str | None:
    """Return a small kernel file's text, None if it cannot be read (mostly: it just ended)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _CHUNK).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
    except OSError:
        return None


def boot_id(procfs: Path) -> str:
    """Return the kernel's id of this boot, empty if procfs does not say it."""
    return (read(procfs / "sys/kernel/random/boot_id") or "").strip()


def start_ticks(procfs: Path, pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone."""
    text = read(procfs / str(pid) / "stat") or ""
    # The second field is the command in parentheses and may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[19].isdecimal() else None


def parent(procfs: Path, pid: int) -> int | None:
    """Return the id of a process's parent; None if the process is gone."""
    fields = (read(procfs / str(pid) / "stat") or "").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else None


def start_wall_ms(ticks: int, clock: Clock) -> int:
    """Return a process's start in UTC milliseconds, by the wall clock as it stands now."""
    started_ns = ticks * NS_PER_S // os.sysconf("SC_CLK_TCK")
    return (clock.wall_ns() - clock.boot_ns() + started_ns) // NS_PER_MS


def processes(folder: Path) -> Iterator[int]:
    """Yield the ids of the processes in a cgroup and all below it."""
    for place, _, files in os.walk(folder):
        if "cgroup.procs" in files:
            for line in (read(Path(place) / "cgroup.procs") or "").split():
                if line.isdecimal():
                    yield int(line)


def cpu_set(cpu_list: str | None) -> frozenset[int] | None:
    """Return the processors that a list such as `0-3,8` names; None if empty or no such list."""
    named: set[int] = set()
    for part in (cpu_list or "").strip().split(","):
        low, _, high = part.partition("-")
        if not (low.isdecimal() and (high or low).isdecimal()):
            return None
        first, last = int(low), int(high or low)
        if not first <= last < _MOST_CPUS:
            return None
        named.update(range(first, last + 1))
    return frozenset(named)


def sockets(sysfs: Path) -> dict[int, str]:
    """Return the socket of every online processor, empty if sysfs does not say."""
    found = {}
    for folder in (sysfs / "devices/system/cpu").glob("cpu[0-9]*"):
        socket = (read(folder / "topology/physical_package_id") or "").strip()
        # An offline processor has no topology, and some firmware says -1 for all.
        if socket.isdecimal():
            found[int(folder.name[3:])] = socket
    return found


def busy_us(procfs: Path) -> int | None:
    """Return the processor time that the machine has spent, in µs, to one clock tick."""
    return _busy_us((read(procfs / "stat") or "").partition("\n")[0])


def cpus_busy_us(procfs: Path) -> dict[int, int]:
    """Return what each online processor has spent, in µs; empty if procfs does not say."""
    found = {}
    for line in (read(procfs / "stat") or "").splitlines():
        if line.startswith("cpu") and line[3:4].isdecimal():
            busy = _busy_us(line)
            if busy is not None:
                found[int(line[3:].partition(" ")[0])] = busy
    return found


def _busy_us(line: str) -> int | None:
    fields = line.split()
    if len(fields) < 9 or not all(field.isdecimal() for field in fields[1:9]):
        return None
    user, nice, system, _, _, irq, softirq, _ = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq) * 1_000_000 // os.sysconf("SC_CLK_TCK")
