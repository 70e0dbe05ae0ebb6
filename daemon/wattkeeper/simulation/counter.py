"""An energy counter as hardware has it: it steps, it is coarse, it wraps, it is reset."""

from dataclasses import dataclass

from wattkeeper.simulation.waveform import Waveform


@dataclass(frozen=True, slots=True)
class CounterKind:
    """How a counter shows the true integral.

    `step_ms`: how often the hardware brings it up to date; `unit_uj`: its least count;
    `wrap_uj`: the range after which it begins again at 0, None if it never does.
    """

    step_ms: int
    unit_uj: int
    wrap_uj: int | None = None


class Counter:
    """One counter over one true waveform. `phase_ms` keeps the chips of a node out of step."""

    __slots__ = ("_base_uj", "_kind", "_phase_ms", "_wave")

    def __init__(self, wave: Waveform, kind: CounterKind, phase_ms: int = 0) -> None:
        self._wave = wave
        self._kind = kind
        self._phase_ms = phase_ms % kind.step_ms
        self._base_uj = 0

    def updated_ms(self, at_ms: int) -> int:
        """The last instant, not after `at_ms`, at which the hardware updated the counter."""
        return at_ms - (at_ms - self._phase_ms) % self._kind.step_ms

    def total_uj(self, at_ms: int) -> int:
        """What the counter would say at `at_ms` had it never wrapped since its reset."""
        energy = self._wave.energy_uj(self.updated_ms(at_ms)) - self._base_uj
        return max(0, energy) // self._kind.unit_uj * self._kind.unit_uj

    def read_uj(self, at_ms: int) -> int:
        """What the counter says at `at_ms`, in microjoules."""
        total = self.total_uj(at_ms)
        return total if self._kind.wrap_uj is None else total % self._kind.wrap_uj

    def reset(self, at_ms: int, to_uj: int = 0) -> None:
        """Begin again at `at_ms` from `to_uj`, as a driver load or a boot does."""
        self._base_uj = self._wave.energy_uj(at_ms) - to_uj
