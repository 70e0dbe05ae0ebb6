"""What prolog and epilog wrote down: when each job really held which GPU of which node."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

_TICK_NS = 10_000_000  # of /proc/uptime
_LAUNCH_NS = 1_000_000_000  # from a job's cgroup to the first line of its script


@dataclass(frozen=True, slots=True)
class Edge:
    """A job's mark was made in between these two boot times (ns)."""

    not_before_ns: int
    not_after_ns: int


@dataclass(frozen=True, slots=True)
class Stay:
    """One run of a job on one node, with the node's indices of its GPUs."""

    job: int
    node: str
    gpus: tuple[int, ...]
    start: Edge
    end: Edge


def stays(log: Path) -> list[Stay]:
    """Return every stay that has ended, in the order of their ends."""
    ended: list[Stay] = []
    _read(log, ended)
    return ended


def since_granted(stays: Iterable[Stay], starts_ns: Mapping[int, Sequence[int]]) -> list[Stay]:
    """Return the stays as Slurm sees them: it grants a GPU a little before the prolog runs.

    `starts_ns`: by job, the boot times at which Slurm says that its runs began.
    """
    widened = []
    for stay in stays:
        granted = [at for at in starts_ns[stay.job] if at <= stay.start.not_after_ns]
        first = min(stay.start.not_before_ns, max(granted, default=stay.start.not_before_ns))
        widened.append(replace(stay, start=replace(stay.start, not_before_ns=first)))
    return widened


def held_s(log: Path, job: int) -> float:
    """Return for how long a job has held its GPUs, 0 if it holds none."""
    begun = [edge for (_, held), (edge, _) in _read(log, []).items() if held == job]
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return min(((now_ns - edge.not_after_ns) / 1e9 for edge in begun), default=0.0)


def _read(log: Path, ended: list[Stay]) -> dict[tuple[str, int], tuple[Edge, tuple[int, ...]]]:
    begun: dict[tuple[str, int], tuple[Edge, tuple[int, ...]]] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        kind, node, number, gpus, before, after = line.split()
        edge, job = Edge(_ns(before), _ns(after) + _TICK_NS), int(number)
        if kind == "start":
            begun[node, job] = edge, _indices(gpus)
        elif kind == "launch":
            # Nothing more than this is known of a job that slurmd started without a prolog.
            began = replace(edge, not_before_ns=edge.not_before_ns - _LAUNCH_NS)
            start, held = begun.get((node, job), (began, ()))
            begun[node, job] = start, held or _indices(gpus)
        else:
            # After a restart slurmctld has forgotten which GPUs to tell the epilog.
            start, held = begun.pop((node, job))
            ended.append(Stay(job, node, held, start, edge))
    return begun


def _indices(gpus: str) -> tuple[int, ...]:
    return tuple(map(int, gpus.split(","))) if gpus != "-" else ()


def _ns(uptime: str) -> int:
    seconds, _, hundredths = uptime.partition(".")
    return (int(seconds) * 100 + int(hundredths)) * _TICK_NS


class Counters(Protocol):
    """GPUs whose counters are known exactly, by node and number."""

    def energy_uj(self, node: str, gpu: int, at_ns: int) -> int:
        """Return what a counter said at a boot time."""

    def step_uj(self, node: str, gpu: int) -> int:
        """Return the most that one step of a counter was ever worth."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a job drew, in microjoules: at least and at most, for its edges are intervals.

    The GPUs only work inside of them, so both differ by what GPUs at rest draw.
    """

    least_uj: int
    most_uj: int

    def __contains__(self, uj: object) -> bool:
        return isinstance(uj, int) and self.least_uj <= uj <= self.most_uj


def truth(gpus: Counters, of: Iterable[Stay], slack_ns: int = 0) -> Truth:
    """Return what the GPUs drew in these stays, each edge give or take one step of a counter.

    `slack_ns`: how much further the edges may lie apart, where nobody marks them.
    """
    least = most = 0
    for stay in of:
        inner = (stay.start.not_after_ns + slack_ns, stay.end.not_before_ns - slack_ns)
        outer = (stay.start.not_before_ns - slack_ns, stay.end.not_after_ns + slack_ns)
        for gpu in stay.gpus:
            steps = 2 * gpus.step_uj(stay.node, gpu)
            least += _drawn(gpus, stay.node, gpu, inner) - steps
            most += _drawn(gpus, stay.node, gpu, outer) + steps
    return Truth(least, most)


def _drawn(gpus: Counters, node: str, gpu: int, edges: tuple[int, int]) -> int:
    return gpus.energy_uj(node, gpu, edges[1]) - gpus.energy_uj(node, gpu, edges[0])
