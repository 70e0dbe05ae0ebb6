"""The processor time of the whole machine between two looks, and which processor sits where."""

from collections.abc import Sequence
from pathlib import Path

from wattkeeper.holders import kernel
from wattkeeper.holders.cgroup_tree import Hierarchy
from wattkeeper.holders.cpu_claims import Processors


class MachineTime:
    """Counts on from look to look. `sysfs` None: nobody knows which processor sits where."""

    def __init__(self, procfs: Path, sysfs: Path | None) -> None:
        self._procfs = procfs
        self._sysfs = sysfs
        self._online: frozenset[int] = frozenset()
        self._socket: dict[int, str] = {}
        self._usage_us: int | None = None
        self._busy_us: dict[int, int] = {}

    @property
    def several_sockets(self) -> bool:
        """Whether there is more than one socket to tell apart."""
        return len(set(self._socket.values())) > 1

    def resync(self) -> None:
        """See anew which processors are online; they can be switched off and on."""
        self._online = frozenset(kernel.cpus_busy_us(self._procfs))
        self._socket = kernel.sockets(self._sysfs) if self._sysfs is not None else {}

    def spent_us(self, trees: Sequence[Hierarchy]) -> int | None:
        """Return what was spent since the last call, None if that is not known."""
        usage = self._whole_us(trees)
        spent = since(self._usage_us, usage)
        self._usage_us = usage
        return spent

    def processors(self) -> Processors:
        """Return the processors with what each spent since the last call.

        A root cgroup counts to the µs but all together; procfs counts each one, to the tick.
        """
        if not self.several_sockets:
            return Processors(self._online, {}, {})
        before, self._busy_us = self._busy_us, kernel.cpus_busy_us(self._procfs)
        busy = {cpu: since(before.get(cpu), us) or 0 for cpu, us in self._busy_us.items()}
        return Processors(self._online, self._socket, busy)

    def _whole_us(self, trees: Sequence[Hierarchy]) -> int | None:
        """All processor time: from a root cgroup, to the µs, else from procfs, to the tick."""
        for tree in trees:
            usage = tree.usage_us(tree.root)
            if usage is not None:
                return usage
        return kernel.busy_us(self._procfs)


def since(before: int | None, now: int | None) -> int | None:
    """Return what was spent since, never negative; None if either count is missing."""
    return None if before is None or now is None else max(0, now - before)
