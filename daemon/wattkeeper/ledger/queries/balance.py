"""Do the books balance? Points against postings, per meter, epoch and slot."""

from dataclasses import dataclass, field

from wattkeeper.ledger.store import Ledger


@dataclass(slots=True)
class MeterBalance:
    """One meter over the asked time; energies in whole microjoules.

    `measured_uj` is what the counter advanced: from point to point, plus `open_uj`, what was
    booked after the newest point (negative: a point is ahead of its windows). `workload_uj`
    includes holders beyond the cap of a window. `components_uj` stands on host meters only and
    counts in no total of the fleet. `problems` says, in words, why the answer is no.
    """

    node: str
    meter: str
    component: str
    measured_uj: int = 0
    open_uj: int = 0
    workload_uj: int = 0
    idle_uj: int = 0
    system_uj: int = 0
    overhead_uj: int = 0
    gap_uj: int = 0
    components_uj: int = 0
    residual_uj: int = 0
    covered_seconds: float = 0.0
    unmeasured_seconds: float = 0.0
    expected_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Balance:
    """The answer: whether every meter's books balance over [since_ms, until_ms), UTC.

    `coverage` is covered over expected seconds, None if nothing was expected. `residual_uj` sums
    the absolute residuals, so that errors of two meters cannot cancel. `total_uj` is the fleet's
    energy without what host meters and component meters both see.
    """

    since_ms: int
    until_ms: int
    meters: list[MeterBalance]
    residual_uj: int
    total_uj: int
    coverage: float | None
    problems: list[str]

    @property
    def balanced(self) -> bool:
        """True if no residual and no problem was found on any meter."""
        return self.residual_uj == 0 and not self.problems


def balance(ledger: Ledger, since_ms: int | None = None, until_ms: int | None = None) -> Balance:
    """Check every meter between two instants, which snap outward to slots; None is unbounded."""
    raise NotImplementedError
