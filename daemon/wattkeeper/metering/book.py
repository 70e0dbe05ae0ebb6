"""The book of one meter: intervals go in, windows of the UTC grid and points come out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from wattkeeper.holders.base import Claim
from wattkeeper.metering.counter import Advance, Break, CounterState
from wattkeeper.metering.splitting import Part, Payer, split
from wattkeeper.metering.tally import Tally
from wattkeeper.model import grid
from wattkeeper.model.clock import NS_PER_MS
from wattkeeper.model.holder import Account
from wattkeeper.model.meter import Component, Method
from wattkeeper.model.microjoules import share
from wattkeeper.model.reading import Reading
from wattkeeper.model.window import (
    EpochInfo,
    Point,
    Policy,
    Record,
    Share,
    Split,
    Unmeasured,
    Window,
)

_PJ_PER_UJ = 1_000_000
_REST_PERCENT = 15
"""Of its power limit a GPU draws no more than this at rest: A100 50 of 400 W, H100 70 of 700 W."""
_ALIKE_PERCENT = 125
"""Of the least of its kind: GPUs of one model, and a node's sockets, rest alike within that."""
_LEARN_NS = 5_000_000_000
"""A window with less metered time says nothing about the power at rest."""
_STILL_NS = 2_000_000_000
"""Neither does less time in which nothing ran: a counter steps up to ten times a second."""

_SLACK_MS = 500
"""What the labels of one instant may differ by while the clock is slewed."""

Claims = tuple[Claim, ...] | None
"""Who holds a meter; None: nobody knows, the energy goes to `gap`."""


class Numbers(Protocol):
    """The journal's dictionary, as a book needs it."""

    def payer(self, payer: Payer) -> int:
        """Return the number of a holder or account."""
        ...

    def epoch(self, epoch: EpochInfo) -> int:
        """Return the number of an epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """How books are ruled: window length, distance of points, most shares in a window.

    `policy`: who pays for unreserved static power, in windows that begin from now on.
    """

    window_ms: int
    slot_ms: int
    max_shares: int
    policy: Policy = Policy.IDLE


class Entry(msgspec.Struct, array_like=True):
    """What one payer owes in the open window; `from_ms`, `to_ms` in UTC.

    `idle_uj`, `idle_ns`: of that, and of the time, what was allocated while nothing ran.
    """

    payer: int
    split: Split
    uj: int
    from_ms: int
    to_ms: int
    idle_uj: int = 0
    idle_ns: int = 0


class Owed(NamedTuple):
    """A part of a piece of an interval; `ns` is the length of the piece."""

    part: Part
    ns: int


class Open(msgspec.Struct):
    """The window that is being filled, under the policy it began with; entries by payer and split.

    `still_uj`, `still_ns`: energy and time in which nothing ran. A journal that was written before
    there were policies knows none: it split by IDLE.
    """

    cell_ms: int
    start_ms: int
    first_uj: int
    covered_ns: int = 0
    entries: dict[int, Entry] = {}
    tally: Tally = msgspec.field(default_factory=Tally)
    policy: Policy = Policy.IDLE
    still_uj: int = 0
    still_ns: int = 0


class BookState(msgspec.Struct):
    """What a book needs to go on after a restart; the journal commits it with the windows.

    `count_uj` is the epoch's running count at `upto_ms`, the UTC label up to which the meter is
    booked. `point`: the last one written. `claims`: who held the meter when last seen, and
    `since_ns` from when on, in boot time: younger than the count where that did not answer.
    `booked_uj`: all energy since the journal began; it never falls. `rest_mw`: least mean power
    of a window, or of the part of it in which nothing ran. `owed_uj`: on a host meter, component
    energy that it has not covered yet.
    `offset_ms`: UTC minus boot time by which `upto_ms` was labelled.
    """

    number: int
    counter: CounterState | None = None
    epoch: int = 0
    method: Method = Method.COUNTER
    count_uj: int = 0
    upto_ms: int = 0
    point: Point | None = None
    open: Open | None = None
    claims: Claims = ()
    booked_uj: int = 0
    rest_mw: int | None = None
    throttled_ms: int | None = None
    owed_uj: int = 0
    last: Window | None = None
    offset_ms: int = 0
    since_ns: int = 0


@dataclass(slots=True)
class Book:
    """One meter's windows.

    `timeline` says who held the meter from which boot instant on, back to the last booking.
    `offset_ms` is UTC minus boot time, `limit_mw` the most that the meter can draw, `kind_rest_mw`
    the least that meters of its kind on the node draw at rest. Finished records gather in `out`;
    whoever journals them empties it.
    """

    component: Component
    ruling: Ruling
    numbers: Numbers
    state: BookState
    offset_ms: int = 0
    limit_mw: int | None = None
    kind_rest_mw: int | None = None
    timeline: list[tuple[int, Claims]] = field(default_factory=list)
    out: list[Record] = field(default_factory=list)

    def begin_epoch(self, step: Break, at_ms: int) -> None:
        """Close the old epoch where it is known to, and open the new one at `at_ms`."""
        state = self.state
        if state.epoch:
            # The old epoch may be of another boot: it ends in that one's time.
            offset_ms, self.offset_ms = self.offset_ms, state.offset_ms
            self._close(state.upto_ms)
            self._point(state.upto_ms)
            self.offset_ms = offset_ms
            if step.gapless or state.upto_ms - _SLACK_MS < at_ms < state.upto_ms:
                at_ms = state.upto_ms
            # Further back: the node came up with a clock that is behind.
            if at_ms > state.upto_ms:
                self.out.append(
                    Unmeasured(
                        state.number, state.upto_ms, at_ms, at_ms - self.offset_ms, step.reason
                    )
                )
        state.epoch, state.method = self.numbers.epoch(step.epoch), step.method
        state.count_uj, state.upto_ms, state.offset_ms = step.total_uj, at_ms, self.offset_ms
        if not step.gapless:
            state.owed_uj = 0
        self._point(at_ms)

    def advance(self, step: Advance, to_ms: int, reading: Reading) -> None:
        """Book an interval that ends at the UTC label `to_ms`."""
        state, ruling = self.state, self.ruling
        state.offset_ms = self.offset_ms
        to_ms = max(to_ms, state.upto_ms)
        if to_ms - state.upto_ms > ruling.window_ms * 3 // 2:
            self._recover(step, to_ms)
            return
        cell_ms = grid.floor((state.upto_ms + to_ms) // 2, ruling.window_ms)
        if state.open is not None and cell_ms > state.open.cell_ms:
            self._close(state.open.cell_ms + ruling.window_ms)
        window = state.open or self._open(cell_ms)
        owed = self._owed(step, window.policy, reading.utilization_ppm)
        self._enter(window, owed, to_ms)
        self._tally(window.tally, step, reading)
        window.covered_ns += step.to_ns - step.from_ns
        if reading.utilization_ppm == 0:
            window.still_uj += step.uj
            window.still_ns += step.to_ns - step.from_ns
        state.count_uj, state.upto_ms = step.total_uj, to_ms
        if to_ms >= window.cell_ms + ruling.window_ms:
            self._close(window.cell_ms + ruling.window_ms)

    def step_clock(self, offset_ms: int) -> None:
        """Go on under other UTC labels: the clock was set, the count is unbroken."""
        state = self.state
        if state.epoch:
            self._close(state.upto_ms)
            self._point(state.upto_ms)
            state.upto_ms += offset_ms - self.offset_ms
        self.offset_ms = state.offset_ms = offset_ms
        if state.epoch:
            self._point(state.upto_ms)

    def _open(self, cell_ms: int) -> Open:
        state = self.state
        line_ms = grid.floor(cell_ms, self.ruling.slot_ms)
        if state.point is not None and state.point.at_ms < line_ms:
            # A stretch between two points must not cross a slot line unless a window does.
            self._point(line_ms)
        start_ms = max(cell_ms, state.upto_ms)
        state.open = Open(cell_ms, start_ms, state.count_uj, entries={}, policy=self.ruling.policy)
        return state.open

    def _owed(self, step: Advance, policy: Policy, utilization_ppm: int | None) -> list[Owed]:
        """Cut the interval where its holders changed, and split each piece."""
        pieces = self._pieces(step.from_ns, step.to_ns)
        energies = share(step.uj, [length for length, _ in pieces])
        owed: list[Owed] = []
        for (length, claims), uj in zip(pieces, energies, strict=True):
            if self.component is Component.HOST:
                parts = self._overhead(uj)
            elif claims is None:
                parts = [Part(Account.GAP, uj, Split.RECOVERED)]
            else:
                static_uj = self._rest_mw * length // _PJ_PER_UJ
                parts = split(self.component, uj, static_uj, claims, policy, utilization_ppm)
            owed += [Owed(part, length) for part in parts]
        return owed

    @property
    def _rest_mw(self) -> int:
        """Power at rest as far as it is known: what never rested has only been seen busy.

        Then the least of its kind goes, and if none of them rested, a part of a GPU's power limit.
        """
        rest_mw, kind_mw = self.state.rest_mw or 0, self.kind_rest_mw
        if kind_mw is not None and (not rest_mw or rest_mw * 100 > kind_mw * _ALIKE_PERCENT):
            rest_mw = kind_mw
        if self.component is not Component.GPU or self.limit_mw is None:
            return rest_mw
        return min(rest_mw, self.limit_mw * _REST_PERCENT // 100)

    def _pieces(self, from_ns: int, to_ns: int) -> list[tuple[int, Claims]]:
        """Return (length in ns, claims) over the interval; the lengths sum to it."""
        changes = [(at, claims) for at, claims in self.timeline if from_ns < at < to_ns]
        before = [claims for at, claims in self.timeline if at <= from_ns]
        first = (from_ns, before[-1] if before else self.state.claims)
        edges = [first, *changes]
        ends = [*(at for at, _ in changes), to_ns]
        return [(end - at, claims) for (at, claims), end in zip(edges, ends, strict=True)]

    def _overhead(self, uj: int) -> list[Part]:
        """Of a host's energy, what its component meters have booked, and what none of them saw."""
        components_uj = min(uj, self.state.owed_uj)
        self.state.owed_uj -= components_uj
        return [
            Part(Account.COMPONENTS, components_uj, Split.EXCLUSIVE),
            Part(Account.OVERHEAD, uj - components_uj, Split.EXCLUSIVE),
        ]

    def _enter(self, window: Open, owed: Sequence[Owed], to_ms: int) -> None:
        for (payer, uj, how, idle), ns in owed:
            number = self.numbers.payer(payer)
            key = number << 2 | how
            entry = window.entries.get(key)
            if entry is None:
                entry = Entry(number, how, 0, self.state.upto_ms, to_ms)
                window.entries[key] = entry
            entry.uj += uj
            entry.to_ms = to_ms
            if idle:
                entry.idle_uj += uj
                entry.idle_ns += ns
            self.state.booked_uj += uj

    def _tally(self, tally: Tally, step: Advance, reading: Reading) -> None:
        power_mw = reading.power_mw
        if power_mw is None:
            power_mw = step.uj * _PJ_PER_UJ // (step.to_ns - step.from_ns)
        before, now = self.state.throttled_ms, reading.throttled_ms
        self.state.throttled_ms = now
        # The counter starts again with the driver.
        more = now - before if before is not None and now is not None and now >= before else None
        tally.add(reading, power_mw, more)

    def _recover(self, step: Advance, to_ms: int) -> None:
        """Book a stretch that nobody looked at in one window of its own, points at both ends."""
        state = self.state
        self._close(state.upto_ms)
        self._point(state.upto_ms)
        policy = self.ruling.policy
        window = Open(state.upto_ms, state.upto_ms, state.count_uj, entries={}, policy=policy)
        owed = [
            # What ran at its end says nothing of the stretch: it is not called idle.
            Owed(part._replace(split=Split.RECOVERED, idle=False), ns)
            for part, ns in self._owed(step, policy, None)
        ]
        self._enter(window, owed, to_ms)
        window.covered_ns = step.to_ns - step.from_ns
        state.open, state.count_uj, state.upto_ms = window, step.total_uj, to_ms
        self._close(to_ms)
        self._point(to_ms)

    def _point(self, at_ms: int) -> None:
        state = self.state
        point = Point(state.number, state.epoch, at_ms, at_ms - self.offset_ms, state.count_uj)
        if point != state.point:
            self.out.append(point)
        state.point = point

    def _close(self, end_ms: int) -> None:
        """Finish the open window under the end label `end_ms`."""
        state, window = self.state, self.state.open
        if window is None:
            return
        state.open, state.upto_ms = None, end_ms
        state.last = self._window(window, end_ms)
        self.out.append(state.last)
        if grid.floor(end_ms, self.ruling.slot_ms) == end_ms:
            self._point(end_ms)

    def _learn_rest(self, uj: int, ns: int, least_ns: int) -> None:
        state = self.state
        if ns >= least_ns and uj:
            mean_mw = uj * _PJ_PER_UJ // ns
            state.rest_mw = mean_mw if state.rest_mw is None else min(state.rest_mw, mean_mw)

    def _window(self, window: Open, end_ms: int) -> Window:
        state = self.state
        self._learn_rest(state.count_uj - window.first_uj, window.covered_ns, _LEARN_NS)
        self._learn_rest(window.still_uj, window.still_ns, _STILL_NS)
        return Window(
            meter=state.number,
            epoch=state.epoch,
            start_ms=window.start_ms,
            end_ms=end_ms,
            boot_ms=end_ms - self.offset_ms,
            first_uj=window.first_uj,
            last_uj=state.count_uj,
            covered_ms=round(window.covered_ns / NS_PER_MS),
            method=state.method,
            shares=_shares(window, end_ms, self.ruling.max_shares),
            stats=window.tally.stats(),
            policy=window.policy,
        )


def _shares(window: Open, end_ms: int, most: int) -> tuple[Share, ...]:
    """Return the window's shares; beyond the cap the smallest ones go to `other` together."""
    entries = sorted(window.entries.values(), key=lambda entry: -entry.uj)
    shares = [
        Share(
            entry.payer,
            entry.uj,
            max(0, entry.from_ms - window.start_ms),
            max(0, min(entry.to_ms, end_ms) - window.start_ms),
            entry.split,
            entry.idle_uj,
            round(entry.idle_ns / NS_PER_MS),
        )
        for entry in entries[:most]
    ]
    rest = entries[most:]
    if rest:
        uj, idle_uj = sum(entry.uj for entry in rest), sum(entry.idle_uj for entry in rest)
        idle_ms = round(sum(entry.idle_ns for entry in rest) / NS_PER_MS)
        length = end_ms - window.start_ms
        shares.append(Share(Account.OTHER, uj, 0, length, Split.SHARED, idle_uj, idle_ms))
    return tuple(shares)
