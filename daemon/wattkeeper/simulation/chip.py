"""A chip: what asks power of it, what it draws, how hot it gets, what each holder truly used."""

import math
from dataclasses import dataclass

from wattkeeper.simulation.waveform import Pattern, Waveform

WHOLE_PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class ChipKind:
    """What a chip is made like.

    `idle_mw`, `peak_mw`: drawn with nothing and with everything running; `limit_mw`: the power
    limit at which it throttles; `rise_mc_per_w`: steady rise over the ambient, millidegrees per
    watt; `inertia_ms`: time constant of its warming; `slowdown_mc`: where it slows itself down.
    """

    idle_mw: int
    peak_mw: int
    limit_mw: int
    rise_mc_per_w: int = 80
    inertia_ms: int = 20_000
    slowdown_mc: int = 87_000


@dataclass(frozen=True, slots=True)
class Demand:
    """What one holder asks of a chip.

    `power`: milliwatts above idle; `reserved_ppm`: its reserved part of the chip; `exclusive`:
    it has the chip to itself, so it pays for the idle power as well. `idle`: nothing of it runs.
    """

    power: Pattern
    reserved_ppm: int = WHOLE_PPM
    exclusive: bool = True
    memory_bytes: int = 0
    idle: bool = False


class Chip:
    """Power, heat and the true energy of every holder of one chip.

    Truth of a shared chip: idle power by reservation, what is drawn above it by what each asks.
    """

    def __init__(self, kind: ChipKind, at_ms: int, ambient_mc: int = 30_000) -> None:
        self.kind = kind
        self.demands: dict[str, Demand] = {}
        self.memory_bytes = 0
        self.wave = Waveform(at_ms, Pattern((1, kind.idle_mw)))
        self.throttled = Waveform(at_ms, Pattern((1, 0)))
        """Its integral is the time spent throttled, in milliseconds."""
        self.slowed = Waveform(at_ms, Pattern((1, 0)))
        """The part of it for heat; the rest is for the power limit."""
        self._true_uj: dict[str, int] = {}
        self._idle_uj: dict[str, int] = {}
        self._settled_ms = at_ms
        self._ambient_mc = ambient_mc
        self._since_ms = at_ms
        self._from_mc = self._steady_mc = self._steady(kind.idle_mw)
        self._slow_ms: int | None = None

    def attach(self, at_ms: int, holder: str, demand: Demand) -> None:
        """Let `holder` run from `at_ms` on, or ask for something else from then on."""
        self._settle(at_ms)
        self.demands[holder] = demand
        self._rule(at_ms)

    def detach(self, at_ms: int, holder: str) -> int:
        """End `holder` at `at_ms`; returns its true energy since it came, in microjoules."""
        self._settle(at_ms)
        self.demands.pop(holder, None)
        self._rule(at_ms)
        self._idle_uj.pop(holder, None)
        return self._true_uj.pop(holder, 0)

    def true_uj(self, at_ms: int, holder: str) -> int:
        """True energy of a running `holder` up to `at_ms`, which must not lie in the past."""
        self._settle(at_ms)
        return self._true_uj.get(holder, 0)

    def idle_uj(self, at_ms: int, holder: str) -> int:
        """The part of `true_uj` that it spent while nothing of it ran."""
        self._settle(at_ms)
        return self._idle_uj.get(holder, 0)

    def temperature_mc(self, at_ms: int) -> int:
        """Temperature at `at_ms` in millidegrees Celsius; first order towards the steady value."""
        if self._slow_ms is not None and at_ms > self._slow_ms:
            return self.kind.slowdown_mc
        decay = math.exp((self._since_ms - at_ms) / self.kind.inertia_ms)
        return round(self._steady_mc + (self._from_mc - self._steady_mc) * decay)

    def utilization_ppm(self, at_ms: int) -> int:
        """Power above idle as a part of what it could be, over the last second as NVML has it."""
        kind = self.kind
        mean_mw = (self.wave.energy_uj(at_ms) - self.wave.energy_uj(at_ms - 1000)) // 1000
        busy = max(0, mean_mw - kind.idle_mw)
        return min(WHOLE_PPM, busy * WHOLE_PPM // (kind.peak_mw - kind.idle_mw))

    def forget_before(self, at_ms: int) -> None:
        """Free what was drawn before `at_ms` and before the last change."""
        settled = min(at_ms, self._settled_ms)
        self.wave.forget_before(settled)
        self.throttled.forget_before(settled)
        self.slowed.forget_before(settled)

    def _settle(self, at_ms: int) -> None:
        """Book the true energy since the last change to those who ran."""
        since, self._settled_ms = self._settled_ms, max(self._settled_ms, at_ms)
        if not self.demands or at_ms <= since:
            return
        energy = self.wave.energy_uj(at_ms) - self.wave.energy_uj(since)
        idle = self.kind.idle_mw * (at_ms - since)
        asked = sum(demand.power.mean_mw for demand in self.demands.values())
        for holder, demand in self.demands.items():
            if demand.exclusive:
                part = energy
            else:
                part = idle * demand.reserved_ppm // WHOLE_PPM
                part += (energy - idle) * demand.power.mean_mw // asked if asked else 0
            self._true_uj[holder] = self._true_uj.get(holder, 0) + part
            if demand.idle:
                self._idle_uj[holder] = self._idle_uj.get(holder, 0) + part

    def _rule(self, at_ms: int) -> None:
        """Work out what the chip draws from `at_ms` on."""
        kind = self.kind
        temperature = self.temperature_mc(at_ms)
        demands = list(self.demands.values())
        if len(demands) == 1:
            asked = demands[0].power.map(lambda mw: mw + kind.idle_mw)
        else:
            asked = Pattern((1, kind.idle_mw + sum(demand.power.mean_mw for demand in demands)))
        drawn = asked.map(lambda mw: min(mw, kind.limit_mw))
        self.memory_bytes = sum(demand.memory_bytes for demand in demands)
        self.wave.change(at_ms, drawn)
        self.throttled.change(at_ms, asked.map(lambda mw: int(mw > kind.limit_mw)))
        self.slowed.change(at_ms, Pattern((1, 0)))
        self._since_ms, self._from_mc = at_ms, temperature
        self._steady_mc = self._steady(drawn.mean_mw)
        self._slow_ms = self._plan_slowdown(drawn)

    def _plan_slowdown(self, drawn: Pattern) -> int | None:
        """Throttle from the instant at which the chip would become too hot, if it would."""
        kind = self.kind
        if self._steady_mc <= kind.slowdown_mc:
            return None
        above = (kind.slowdown_mc - self._steady_mc) / (self._from_mc - self._steady_mc)
        after_ms = 0 if above >= 1 else math.ceil(-kind.inertia_ms * math.log(above))
        slow_ms = self._since_ms + after_ms
        held_mw = (kind.slowdown_mc - self._ambient_mc) * 1000 // kind.rise_mc_per_w
        self.wave.change(slow_ms, drawn.map(lambda mw: max(kind.idle_mw, min(mw, held_mw))))
        self.throttled.change(slow_ms, Pattern((1, 1)))
        self.slowed.change(slow_ms, Pattern((1, 1)))
        return slow_ms

    def _steady(self, mean_mw: int) -> int:
        return self._ambient_mc + mean_mw * self.kind.rise_mc_per_w // 1000
