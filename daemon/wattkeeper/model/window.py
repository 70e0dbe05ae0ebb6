"""The records of the books: windows, the points that check them, and what stands for a lost one."""

import enum
from collections.abc import Sequence
from typing import Annotated

import msgspec

from wattkeeper.model.meter import Method


class Split(enum.IntEnum):
    """How a share was told from the others: the `split` axis of every posting."""

    EXCLUSIVE = 0
    SHARED = 1
    SETTLED = 2
    RECOVERED = 3


class Policy(enum.IntEnum):
    """Who pays for the static power of what nobody reserved on a shared device.

    IDLE: the account `idle`. HOLDERS: those who hold the rest, by their reservations.
    """

    IDLE = 0
    HOLDERS = 1


class EpochInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stretch in which a counter is one unbroken count.

    `boot` is the kernel's boot id, `load` the driver-load id, `reset` counts what was seen to
    break the count besides. Never told by direction alone.
    """

    boot: str
    load: str
    reset: int = 0


class Share(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of one holder (or `Account`) in a window.

    `from_ms`, `to_ms`: when it held the meter, in milliseconds from the window's start.
    `idle_uj`, `idle_ms`: the part of `uj`, and of that time, in which the meter was allocated to
    the holder while nothing of the holder's ran on it.
    """

    holder: int
    uj: int
    from_ms: int
    to_ms: int
    split: Split = Split.EXCLUSIVE
    idle_uj: int = 0
    idle_ms: int = 0


class Spread(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Least, mean and greatest value in a window."""

    least: int
    mean: int
    greatest: int


class Stats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was seen in a window besides energy; None is not seen. New ones go to the end."""

    power_mw: Spread | None = None
    temperature_mc: Spread | None = None
    utilization_ppm: Spread | None = None
    memory_used_bytes: Spread | None = None
    clock_khz: Spread | None = None
    throttled_ms: int | None = None


class Window(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """One meter over one interval, split over its holders.

    `meter`, `epoch` and the holders in `shares` are numbers of the journal's dictionary.
    `start_ms`, `end_ms`: UTC; a whole cell of the grid, or any stretch where it was recovered.
    `boot_ms`: boot time at `end_ms`. `first_uj`, `last_uj`: the epoch's running count (raw
    counter with its wraps added), `last - first` is the energy. `covered_ms`: metered time.
    `policy`: by which static power was split.

    Invariant: the shares sum to `last_uj - first_uj`, exactly.
    """

    meter: int
    epoch: int
    start_ms: int
    end_ms: int
    boot_ms: int
    first_uj: int
    last_uj: int
    covered_ms: int
    method: Method
    shares: Annotated[tuple[Share, ...], msgspec.Meta(max_length=1 << 16)]
    stats: Stats | None = None
    policy: Policy = Policy.IDLE

    def parts_ppm(self, holders: Sequence[int]) -> tuple[int, ...]:
        """Return the holders' parts of its energy; none where it names none of them."""
        owed = dict.fromkeys(holders, 0)
        for part in self.shares:
            if part.holder in owed:
                owed[part.holder] += part.uj
        if not any(owed.values()):
            return ()
        return tuple(owed[holder] * 1_000_000 // self.energy_uj for holder in holders)

    @property
    def energy_uj(self) -> int:
        """Energy of the window in microjoules."""
        return self.last_uj - self.first_uj

    def flaw(self) -> str | None:
        """Return what is wrong with the window by itself, None if nothing is."""
        if self.last_uj < self.first_uj:
            return f"last_uj {self.last_uj} is below first_uj {self.first_uj}"
        if self.end_ms < self.start_ms or self.covered_ms < 0:
            return f"end_ms {self.end_ms} is before start_ms {self.start_ms}"
        booked = 0
        for part in self.shares:
            if part.uj < 0:
                return f"share of holder {part.holder} is negative: {part.uj} µJ"
            if not 0 <= part.idle_uj <= part.uj or part.idle_ms < 0:
                return f"share of holder {part.holder} is idle beyond itself: {part.idle_uj} µJ"
            booked += part.uj
        if booked != self.last_uj - self.first_uj:
            return f"shares sum to {booked} µJ, the counter advanced {self.energy_uj} µJ"
        return None


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The running count of one meter at one instant, written by the sampler, not the splitter.

    One at each slot line and at both ends of every unbroken stretch. Balance compares point with
    point per epoch against the postings in between.
    """

    meter: int
    epoch: int
    at_ms: int
    boot_ms: int
    value_uj: int


class Unmeasured(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Time in which a meter's joules cannot be known: a new epoch began unseen."""

    meter: int
    start_ms: int
    end_ms: int
    boot_ms: int
    reason: str


class ClockStep(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """The wall clock stepped by `by_ms` against boot time at `boot_ms`."""

    at_ms: int
    boot_ms: int
    by_ms: int


class Tombstone(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """What stands at the number of a record that had to be given up; its joules go to `gap`."""

    meter: int
    reason: str


Record = Window | Point | Unmeasured | ClockStep | Tombstone
