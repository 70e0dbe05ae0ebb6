"""One meter's count: told apart are an advance, a wrap, a new epoch and a counter that lies."""

from dataclasses import dataclass
from typing import Final

import msgspec

from wattkeeper.model.clock import NS_PER_S
from wattkeeper.model.meter import MeterSpec, Method
from wattkeeper.model.reading import Reading
from wattkeeper.model.window import EpochInfo

_PJ_PER_UJ: Final = 1_000_000
"""A milliwatt times a nanosecond is a picojoule."""
_LIMIT_FACTOR: Final = 1.5
_STEP_NS: Final = NS_PER_S // 5
"""Hardware counters step every 20-100 ms; twice that is never an impossible advance."""
_DOUBT_NS: Final = 5 * NS_PER_S
"""How long a counter may stand still or contradict itself before integrated power steps in."""
_STUCK_UJ: Final = 20_000_000
"""What power must have added up to before a counter that stands still is called stuck."""
_TRUST_AGAIN: Final = 3
"""Plausible advances in a row after which a quarantined counter is believed again."""


@dataclass(frozen=True, slots=True)
class Advance:
    """`uj` microjoules were drawn between two boot instants, in one unbroken count.

    `total_uj` is the running count at `to_ns`.
    """

    from_ns: int
    to_ns: int
    uj: int
    total_uj: int


@dataclass(frozen=True, slots=True)
class Break:
    """A new epoch begins at `at_ns` with the count `total_uj`.

    `gapless`: it takes over where the old one ended, so no time is unmeasured.
    `until_ns`: to where the old epoch is known, in its own boot's time.
    `skipped_uj`: what a lying counter claimed and was not booked.
    """

    until_ns: int
    at_ns: int
    epoch: EpochInfo
    method: Method
    total_uj: int
    reason: str
    gapless: bool = False
    skipped_uj: int = 0


Step = Advance | Break


class Sight(msgspec.Struct, array_like=True):
    """A raw counter value and when it was seen."""

    raw_uj: int
    boot_ns: int


class CounterState(msgspec.Struct):
    """Everything that a count needs to go on after a restart; the journal keeps it.

    `total_uj` is the running count of the epoch at `boot_ns`, `raw_uj` the hardware's own value
    there. `power_pj` integrates power from `power_from_ns` on without a hole and counts from
    `boot_ns`: it checks the counter, and stands in where there is none to trust. `moved_ns`: when
    the counter was last seen to step. `suspect` is a value that awaits a consistent second one,
    doubted since `doubt_ns`.
    """

    epoch: EpochInfo
    method: Method
    raw_uj: int | None
    total_uj: int
    boot_ns: int
    resets: int = 0
    moved_ns: int = 0
    power_mw: int | None = None
    power_ns: int = 0
    power_from_ns: int = 0
    power_pj: int = 0
    suspect: Sight | None = None
    doubt_ns: int = 0
    trusted: int = 0
    quarantine: str = ""
    checked_uj: int = 0
    checked_power_uj: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """What epochs are named by besides the driver's load.

    `boot` is the kernel's boot id. `nonce` names the journal: a count that only the journal knows
    (wraps added up, power integrated) cannot be continued by another one.
    """

    boot: str
    nonce: str

    def epoch(self, spec: MeterSpec, method: Method, resets: int) -> EpochInfo:
        """Name the epoch of a count."""
        load = spec.load
        if method is not Method.COUNTER:
            load += f"+{method.name.lower()}@{self.nonce}"
        elif spec.wrap_uj is not None:
            load += f"@{self.nonce}"
        return EpochInfo(self.boot, load, resets)


def begin(
    reading: Reading, spec: MeterSpec, identity: Identity, resets: int = 0
) -> CounterState | None:
    """Start to count with this reading; None if it does not hold what the meter counts."""
    if spec.method is Method.COUNTER:
        if reading.energy_uj is None:
            return None
        total = reading.energy_uj
    else:
        if reading.power_mw is None:
            return None
        total = 0
    return CounterState(
        epoch=identity.epoch(spec, spec.method, resets),
        method=spec.method,
        raw_uj=reading.energy_uj,
        total_uj=total,
        boot_ns=reading.boot_ns,
        resets=resets,
        power_mw=reading.power_mw,
        power_ns=reading.boot_ns,
        power_from_ns=reading.boot_ns,
    )


class Counter:
    """The count of one meter, from its state on.

    `max_gap_ns`: power samples further apart are not integrated over.
    """

    def __init__(self, state: CounterState, identity: Identity, max_gap_ns: int) -> None:
        self.state = state
        self._identity = identity
        self._max_gap_ns = max_gap_ns

    def advance(self, reading: Reading, spec: MeterSpec) -> list[Step]:
        """Take a reading; return what it tells, in order. Empty: nothing can be said yet."""
        state = self.state
        if self._identity.epoch(spec, state.method, state.resets) != state.epoch:
            same_boot = state.epoch.boot == self._identity.boot
            return self._renew(reading, spec, "driver reloaded" if same_boot else "rebooted", 0)
        if reading.boot_ns <= self._seen_ns:
            return []  # an answer given twice confirms nothing
        unbroken = self._integrate(reading)
        if state.method is Method.COUNTER and spec.method is not Method.COUNTER:
            return self._renew(reading, spec, "counter no longer offered", state.resets + 1)
        if state.method is Method.COUNTER:
            if reading.energy_uj is None:
                return []
            return self._by_counter(reading, Sight(reading.energy_uj, reading.boot_ns), spec)
        if reading.power_mw is None:
            return []
        believed = spec.method is Method.COUNTER and self._believable(reading, spec)
        if not unbroken:
            return self._bridge(spec)
        if believed:
            return self._leave_quarantine(reading, spec)
        return [self._advance_integrated()]

    @property
    def _seen_ns(self) -> int:
        """When the newest value was taken, believed or not."""
        state = self.state
        suspect_ns = state.suspect.boot_ns if state.suspect is not None else 0
        return max(state.boot_ns, state.power_ns, suspect_ns)

    @property
    def crosscheck(self) -> float | None:
        """Energy by counter over energy by integrated power in this epoch, None if unknown."""
        if not self.state.checked_power_uj:
            return None
        return self.state.checked_uj / self.state.checked_power_uj

    def _renew(self, reading: Reading, spec: MeterSpec, reason: str, resets: int) -> list[Step]:
        """Begin an epoch at this reading; what lies between is unmeasured."""
        until_ns = self.state.boot_ns
        fresh = begin(reading, spec, self._identity, resets)
        if fresh is None:
            return []
        self.state = fresh
        return [self._break(until_ns, reason)]

    def _break(
        self, until_ns: int, reason: str, *, gapless: bool = False, skipped_uj: int = 0
    ) -> Break:
        state = self.state
        return Break(
            until_ns, state.boot_ns, state.epoch, state.method, state.total_uj, reason,
            gapless, skipped_uj,
        )  # fmt: skip

    def _integrate(self, reading: Reading) -> bool:
        """Add the trapezoid up to this power reading; False where samples lie too far apart."""
        state = self.state
        if reading.power_mw is None:
            return False
        elapsed = reading.boot_ns - state.power_ns
        unbroken = state.power_mw is not None and elapsed <= self._max_gap_ns
        if unbroken and state.power_mw is not None:
            state.power_pj += (state.power_mw + reading.power_mw) * elapsed // 2
        else:
            state.power_from_ns, state.power_pj = reading.boot_ns, 0
        state.power_mw, state.power_ns = reading.power_mw, reading.boot_ns
        return unbroken

    def _advance_integrated(self) -> Advance:
        state = self.state
        uj = state.power_pj // _PJ_PER_UJ
        state.power_pj -= uj * _PJ_PER_UJ
        state.total_uj += uj
        from_ns, state.boot_ns = state.boot_ns, state.power_ns
        return Advance(from_ns, state.boot_ns, uj, state.total_uj)

    def _by_counter(self, reading: Reading, now: Sight, spec: MeterSpec) -> list[Step]:
        state = self.state
        last = self._last
        if spec.wrap_uj is not None and _could_wrap_twice(last, now, spec):
            reason = "counter could have wrapped unseen"
            return self._renew(reading, spec, reason, state.resets + 1)
        if _plausible(last, now, spec):
            state.quarantine, state.suspect = "", None
            if _delta(last, now, spec) == 0 and state.power_pj > 0:
                return self._standing_still(reading, spec)
            return [self._advance_counted(now, spec)]
        if state.suspect is not None and _plausible(state.suspect, now, spec):
            return self._confirm(state.suspect, now, spec)
        if state.suspect is None:
            seconds = (now.boot_ns - last.boot_ns) / NS_PER_S
            state.quarantine = f"went from {last.raw_uj} to {now.raw_uj} µJ in {seconds:.1f} s"
            state.doubt_ns = now.boot_ns
        state.suspect = now
        if now.boot_ns - state.doubt_ns >= _DOUBT_NS:
            return self._enter_quarantine(reading, spec)
        return []

    @property
    def _last(self) -> Sight:
        assert self.state.raw_uj is not None, "a counted epoch began with a raw value"
        return Sight(self.state.raw_uj, self.state.boot_ns)

    def _advance_counted(self, now: Sight, spec: MeterSpec) -> Advance:
        state, last = self.state, self._last
        delta = _delta(last, now, spec)
        if state.power_from_ns <= last.boot_ns:
            state.checked_uj += delta
            state.checked_power_uj += state.power_pj // _PJ_PER_UJ
        state.power_pj = 0
        if state.power_ns != now.boot_ns:
            state.power_mw = None  # its next trapezoid would begin before this value
        state.raw_uj, state.boot_ns = now.raw_uj, now.boot_ns
        state.moved_ns = now.boot_ns
        state.total_uj += delta
        return Advance(last.boot_ns, now.boot_ns, delta, state.total_uj)

    def _standing_still(self, reading: Reading, spec: MeterSpec) -> list[Step]:
        """Wait; book no zero until it is clear whether the counter or the device rests.

        Only right after a step the next one is not due yet: a mark there cuts the interval.
        """
        state = self.state
        if reading.boot_ns - state.moved_ns < _STEP_NS:
            from_ns, state.boot_ns = state.boot_ns, reading.boot_ns
            return [Advance(from_ns, state.boot_ns, 0, state.total_uj)]
        still_ns = reading.boot_ns - max(state.boot_ns, state.power_from_ns)
        if still_ns < _DOUBT_NS or state.power_pj < _STUCK_UJ * _PJ_PER_UJ:
            return []
        state.quarantine = f"stands still at {state.power_pj / still_ns / 1000:.0f} W"
        return self._enter_quarantine(reading, spec)

    def _confirm(self, first: Sight, now: Sight, spec: MeterSpec) -> list[Step]:
        """A second reading agrees with the suspect one: a new epoch began there."""
        until_ns, skipped_uj = self.state.boot_ns, first.raw_uj - self._last.raw_uj
        self._new_epoch(spec, Method.COUNTER, first.raw_uj, first.boot_ns)
        broken = self._break(
            until_ns,
            "counter jumped" if skipped_uj > 0 else "counter was reset",
            skipped_uj=max(0, skipped_uj),
        )
        return [broken, self._advance_counted(now, spec)]

    def _enter_quarantine(self, reading: Reading, spec: MeterSpec) -> list[Step]:
        """Go on with integrated power, from the counter's last good value on if power reaches."""
        state = self.state
        if reading.power_mw is None:
            return []
        until_ns, raw_uj = state.boot_ns, state.raw_uj
        reason = f"quarantined: counter {state.quarantine}"
        self._new_epoch(spec, Method.INTEGRATED, 0, max(until_ns, state.power_from_ns))
        state.raw_uj = raw_uj
        gapless = state.boot_ns == until_ns
        begun: list[Step] = [self._break(until_ns, reason, gapless=gapless)]
        return begun if state.power_ns == state.boot_ns else [*begun, self._advance_integrated()]

    def _bridge(self, spec: MeterSpec) -> list[Step]:
        """Begin another integrated epoch at this reading: power was not seen for too long."""
        state = self.state
        until_ns, raw_uj, suspect, trusted = (
            state.boot_ns, state.raw_uj, state.suspect, state.trusted,
        )  # fmt: skip
        self._new_epoch(spec, Method.INTEGRATED, 0, state.power_ns)
        state.raw_uj, state.suspect, state.trusted = raw_uj, suspect, trusted
        return [self._break(until_ns, "power samples too far apart")]

    def _believable(self, reading: Reading, spec: MeterSpec) -> bool:
        """Tell whether a quarantined counter has advanced plausibly often enough."""
        state = self.state
        if reading.energy_uj is None:
            return False
        last, state.suspect = state.suspect, Sight(reading.energy_uj, reading.boot_ns)
        advanced = last is not None and _delta(last, state.suspect, spec) > 0
        sane = last is not None and _plausible(last, state.suspect, spec)
        state.trusted = state.trusted + 1 if advanced and sane else 0
        return state.trusted >= _TRUST_AGAIN

    def _leave_quarantine(self, reading: Reading, spec: MeterSpec) -> list[Step]:
        """Open a new counted epoch: what the counter did meanwhile is never booked twice."""
        state = self.state
        assert reading.energy_uj is not None
        last = self._advance_integrated()
        skipped_uj = max(0, reading.energy_uj - (state.raw_uj or 0))
        self._new_epoch(spec, Method.COUNTER, reading.energy_uj, reading.boot_ns)
        broken = self._break(
            reading.boot_ns, "counter trusted again", gapless=True, skipped_uj=skipped_uj
        )
        return [last, broken]

    def _new_epoch(self, spec: MeterSpec, method: Method, count_uj: int, at_ns: int) -> None:
        state = self.state
        state.resets += 1
        state.epoch = self._identity.epoch(spec, method, state.resets)
        state.method, state.boot_ns = method, at_ns
        state.raw_uj = state.total_uj = count_uj
        state.suspect, state.trusted = None, 0
        state.checked_uj = state.checked_power_uj = 0
        if method is Method.COUNTER:
            state.quarantine = ""
            state.power_pj = 0


def _delta(last: Sight, now: Sight, spec: MeterSpec) -> int:
    delta = now.raw_uj - last.raw_uj
    return delta + spec.wrap_uj if delta < 0 and spec.wrap_uj is not None else delta


def _bound_uj(elapsed_ns: int, spec: MeterSpec) -> int | None:
    """Return the most that the meter can plausibly count in this time, None if nobody knows."""
    if spec.limit_mw is None:
        return None
    return int(_LIMIT_FACTOR * spec.limit_mw) * (elapsed_ns + _STEP_NS) // _PJ_PER_UJ


def _plausible(last: Sight, now: Sight, spec: MeterSpec) -> bool:
    delta = _delta(last, now, spec)
    bound = _bound_uj(now.boot_ns - last.boot_ns, spec)
    return delta >= 0 and (bound is None or delta <= bound)


def _could_wrap_twice(last: Sight, now: Sight, spec: MeterSpec) -> bool:
    bound = _bound_uj(now.boot_ns - last.boot_ns, spec)
    return bound is None or (spec.wrap_uj is not None and bound >= spec.wrap_uj)
