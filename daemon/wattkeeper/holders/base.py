"""What every way of seeing holders is to the splitter."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.state import Finding


@dataclass(frozen=True, slots=True)
class HolderKey:
    """A holder on this node: manager, the manager's id, and birth in UTC milliseconds."""

    manager: str
    raw_id: str
    birth_ms: int


@dataclass(frozen=True, slots=True)
class Claim:
    """One holder's hold on one meter.

    `holder` None is the machine's own processes (account `system`).
    `weight`: activity since the last look in whole units of its kind (µs of CPU time, ppm of SM
    time), None if not measured. `reserved_ppm`: its reserved part of the device in parts per
    million (of a partitioned GPU: of its memory), None if nothing is reserved. `compute_ppm`: its
    part of the compute units, where they are reserved apart (MIG). `allocated`: the scheduler
    (mark, pod-resources) said so, kernel or no kernel; a claim that is only seen through a
    process is not allocated. `partitions`: UUIDs of the MIG devices that it is a claim to, empty
    if it is to the whole or nobody told.
    """

    holder: HolderKey | None
    weight: int | None = None
    reserved_ppm: int | None = None
    compute_ppm: int | None = None
    allocated: bool = False
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HolderEdge:
    """A hold that began or ended on some meters, at its own time and not when it was found.

    `alone`: it began, and by the scheduler's word nobody else has any of the meters from then on,
    whatever is still seen of others.
    """

    key: HolderKey
    started: bool
    boot_ns: int
    meters: tuple[str, ...]
    alone: bool = False


class HolderSource(Protocol):
    """A way to see who holds which meter.

    `claims` is a snapshot taken without I/O: the source keeps it fresh in `look`.
    """

    @property
    def name(self) -> str:
        """Short name, as `doctor` shows it: `cgroups`, `marks`, `processes`."""
        ...

    async def look(self) -> None:
        """Bring the view up to date. Called at every sample and right after an edge."""
        ...

    def claims(self) -> Mapping[str, Sequence[Claim]]:
        """Return claims by meter name as of the last look; `cpu/*` keys stand for each socket."""
        ...

    def infos(self) -> Mapping[HolderKey, HolderInfo]:
        """Return what is known of every holder in `claims`."""
        ...

    def findings(self) -> Sequence[Finding]:
        """State of this way of seeing, for `doctor` and metrics."""
        ...

    async def close(self) -> None:
        """Stop watching."""
        ...


@runtime_checkable
class EdgeSource(Protocol):
    """A holder source that knows when holds really began and ended."""

    def edges(self, since_boot_ns: int) -> Sequence[HolderEdge]:
        """Return what began or ended after an instant of this boot, as far as looks found it."""
        ...

    def fresh(self) -> Sequence[HolderEdge]:
        """Return what the last look found out, though it may be older than the look before."""
        ...


@runtime_checkable
class ActivitySource(Protocol):
    """A holder source that sees everything which runs on some meters."""

    def listed(self) -> Collection[str]:
        """Return the meters of which every process is known, as of the last look."""
        ...
