"""Energy by user, account, node and the like: rows that add up to the balance's total."""

from dataclasses import dataclass, field

from wattkeeper.ledger.store import Ledger

DIMENSIONS = ("user", "account", "partition", "namespace", "owner", "name", "array", "node")
"""What a report can be grouped by."""


@dataclass(slots=True)
class ReportRow:
    """One group. `kind` is `group`, or the account whose energy is nobody's.

    Accounts: `idle`, `system`, `overhead`, `gap`, `other` (holders beyond the cap of a window).
    `key` is the group's name, empty where it is not known. Only rows by node carry several
    accounts at once, in `by_account_uj`.
    """

    key: str
    kind: str
    energy_uj: int = 0
    by_component_uj: dict[str, int] = field(default_factory=dict)
    by_account_uj: dict[str, int] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Rows, the largest first, whose energies sum to `total_uj`. Times as snapped to slots."""

    by: str
    since_ms: int
    until_ms: int
    rows: list[ReportRow]
    total_uj: int
    coverage: float | None


def report(ledger: Ledger, by: str, since_ms: int, until_ms: int) -> Report:
    """Group the energy between two instants, which snap outward to slots.

    Raises:
        ValueError: `by` is none of DIMENSIONS.

    """
    raise NotImplementedError
