"""A budget: what is limited, whose, and how it is judged."""

from dataclasses import dataclass
from enum import StrEnum

from wattkeeper.budgets.calendar import (
    Calendar,
    Interval,
    Period,
    billed_interval,
    period_interval,
)
from wattkeeper.budgets.levels import STEADY, Hysteresis


class Kind(StrEnum):
    """What a budget limits: power at any instant, energy of a period, or billed demand."""

    WATTS = "watts"
    ENERGY = "energy"
    DEMAND = "demand"


class ScopeKind(StrEnum):
    """What a budget is of."""

    FLEET = "fleet"
    GROUP = "group"
    NODE = "node"
    PARTITION = "partition"
    ACCOUNT = "account"
    USER = "user"
    JOB = "job"

    @property
    def of_nodes(self) -> bool:
        """Whether all that its nodes draw counts, or what workloads are booked."""
        return self in (ScopeKind.FLEET, ScopeKind.GROUP, ScopeKind.NODE)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose power or energy counts. `group`: a kind of groups, such as rack. Cluster "" is any."""

    kind: ScopeKind = ScopeKind.FLEET
    name: str = ""
    group: str = ""
    cluster: str = ""

    def __str__(self) -> str:
        named = f"{self.group}={self.name}" if self.group else self.name
        text = f"{self.kind} {named}".strip()
        return f"{text} of cluster {self.cluster}" if self.cluster else text


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit, in milliwatts (WATTS, DEMAND) or microjoules for each period (ENERGY).

    `warn_at`: the part of the limit from which on it warns. `parent`: the budget it is shown under.
    `period`: of ENERGY. `length_ms`: of an interval of DEMAND. Outside of the calendar WATTS and
    DEMAND limit nothing.
    """

    name: str
    kind: Kind
    limit: int
    calendar: Calendar
    scope: Scope = Scope()
    warn_at: float = 0.9
    parent: str = ""
    period: Period = Period.MONTH
    length_ms: int = 0
    hysteresis: Hysteresis = STEADY

    def interval(self, at_ms: int) -> Interval:
        """Return the interval in which an instant is judged; of WATTS the instant alone."""
        if self.kind is Kind.ENERGY:
            return period_interval(at_ms, self.period, self.calendar.zone)
        if self.kind is Kind.DEMAND:
            return billed_interval(at_ms, self.length_ms, self.calendar)
        return Interval(at_ms, at_ms, self.calendar.counts(at_ms))

    def allowance_uj(self, interval: Interval) -> int:
        """Return the energy that the limit allows in an interval, in microjoules."""
        return self.limit if self.kind is Kind.ENERGY else self.limit * interval.length_ms
