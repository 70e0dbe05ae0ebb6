"""The nodes that the ledger knows, and the totals that are exported as counters."""

from dataclasses import dataclass

from wattkeeper.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node as of the last commit. Times are UTC milliseconds.

    `seen_ms`: last delivery; `booked_ms`: end of the newest booked window. `skew_ms`: by how much
    its clock is wrong. `events` counts forks, takeovers and conflicts by kind.
    """

    cluster: str
    node: str
    journal: str
    boot: str
    agent: str
    seen_ms: int
    booked_ms: int | None
    skew_ms: int
    meters: int
    events: dict[str, int]
    refused: int


@dataclass(frozen=True, slots=True)
class AccountTotal:
    """The exported energy of one account.

    `uj` never falls; `taken_back_uj` is what it is above the books, after corrections.
    """

    cluster: str
    account: str
    uj: int
    taken_back_uj: int


def nodes(ledger: Ledger) -> list[NodeRow]:
    """Return every node, by cluster and name."""
    raise NotImplementedError


def account_totals(ledger: Ledger) -> list[AccountTotal]:
    """Return the energy of every account's workloads and persist it as a high-water mark."""
    raise NotImplementedError
