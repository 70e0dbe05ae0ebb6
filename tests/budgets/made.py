"""Budgets, nodes and readings made by hand."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from wattkeeper.budgets.budget import Budget, Kind, Scope, ScopeKind
from wattkeeper.budgets.calendar import Calendar
from wattkeeper.budgets.levels import Hysteresis
from wattkeeper.ledger.queries.spent import NodeNow

UTC = Calendar(ZoneInfo("UTC"))
NOW = 1_800_000_000_000
AT_ONCE = Hysteresis(0, 0, 0.95)


def budget(name: str = "b", kind: Kind = Kind.WATTS, limit: int = 1_000_000, **more: object) -> (
    Budget
):  # fmt: skip
    """Return a budget of the fleet that is judged at once."""
    usual = {"calendar": UTC, "hysteresis": AT_ONCE, "length_ms": 900_000}
    return Budget(name, kind, limit, **(usual | more))  # type: ignore[arg-type]


def of(kind: str, name: str = "", group: str = "") -> Budget:
    """Return a budget of a scope."""
    return budget(f"{kind}-{name}", scope=Scope(ScopeKind(kind), name, group))


@dataclass(frozen=True)
class Meter:
    """A meter that shows itself."""

    component: str
    power_mw: int | None
    holders: tuple[int, ...] = ()
    shares_ppm: tuple[int, ...] = ()
    gpu: int | None = None


@dataclass(frozen=True)
class Node:
    """A node that shows itself."""

    node: str
    meters: tuple[Meter, ...]
    seen_ms: int = NOW
    cluster: str = "c"

    @property
    def journal(self) -> str:
        """One of its own."""
        return f"journal of {self.node}"


def known(node: str, booked_ms: int | None = NOW - 10_000, meters: int = 2, **more: object) -> (
    NodeNow
):  # fmt: skip
    """Return a node as the books have it."""
    usual = {
        "id": 1, "cluster": "c", "node": node, "seen_ms": NOW, "booked_ms": booked_ms,
        "meters": meters, "gpus": 1, "uj": 0, "listed": False, "expected": True,
        "gpus_expected": None,
    }  # fmt: skip
    return NodeNow(**(usual | more))  # type: ignore[arg-type]
