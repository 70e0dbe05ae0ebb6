"""What goes wrong with a fleet, and when: a schedule by seed that touches every kind of fault."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_MINUTE_MS = 60_000


class Kind(enum.StrEnum):
    """A kind of fault."""

    AGENT_KILLED = "agent killed"
    TORN_TAIL = "agent killed, journal's tail torn"
    WIPED = "agent killed, data folder wiped"
    CLONED = "agent killed, data folder replaced by another node's"
    RELOADED = "agent killed, driver reloaded while it is down"
    RELOADED_PAST = "agent killed, driver reloaded, counters already past their old values"
    REBOOTED = "node rebooted"
    NETWORK_CUT = "network cut"
    CLOCK_STEP = "clock stepped"
    DISK_FULL = "disk full"
    GPU_SILENT = "GPU does not answer"
    BACKED_UP = "ledger backed up"
    AGGREGATOR_KILLED = "aggregator killed"
    AGGREGATOR_RESTORED = "aggregator restored from an older copy"


AGENT_DOWN = frozenset(
    {
        Kind.AGENT_KILLED, Kind.TORN_TAIL, Kind.WIPED, Kind.CLONED, Kind.RELOADED,
        Kind.RELOADED_PAST, Kind.REBOOTED,
    }
)  # fmt: skip
"""Faults during which the node's agent is down."""
CENTRAL = frozenset({Kind.AGGREGATOR_KILLED, Kind.AGGREGATOR_RESTORED})
"""Faults of the centre; the others strike one node."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `until_ms`: when it is over; `step_ms`: by how much a clock steps."""

    at_ms: int
    until_ms: int
    kind: Kind
    node: str = ""
    step_ms: int = 0

    def describe(self) -> str:
        """Say it in words."""
        where = f" on {self.node}" if self.node else ""
        lasts = f" for {(self.until_ms - self.at_ms) / 1000:.0f} s" * (self.until_ms > self.at_ms)
        step = f" by {self.step_ms / 1000:+.1f} s" if self.step_ms else ""
        return f"{self.kind}{where}{step}{lasts}"


_LASTS_MIN = {
    Kind.AGENT_KILLED: (0.05, 20),
    Kind.TORN_TAIL: (0.05, 3),
    Kind.WIPED: (0.05, 2.5),
    Kind.CLONED: (0.05, 2.5),
    Kind.RELOADED: (0.5, 5),
    Kind.RELOADED_PAST: (0.5, 5),
    Kind.REBOOTED: (1, 6),
    Kind.NETWORK_CUT: (1, 25),
    Kind.CLOCK_STEP: (0, 0),
    Kind.DISK_FULL: (0.5, 4),
    Kind.GPU_SILENT: (0.1, 4),
    Kind.AGGREGATOR_KILLED: (0.05, 3),
    Kind.AGGREGATOR_RESTORED: (0.1, 1),
}


def schedule(seed: int, nodes: Sequence[str], start_ms: int, lasts_ms: int) -> list[Fault]:
    """Plan faults from 2 % to 85 % of the time: each kind at least once, most of them often.

    No node has two faults at once, and a network cut of a day's run lasts for hours.
    """
    random = Random(f"{seed}/faults")
    hours = lasts_ms / 3_600_000
    often = max(1, round(hours * len(nodes) / 24))
    planned: list[Fault] = []
    busy: dict[str, list[tuple[int, int]]] = {}
    for kind, (least, most) in _LASTS_MIN.items():
        times = max(1, round(hours)) if kind in CENTRAL else often
        for _ in range(times):
            longest = most * max(1.0, hours / 2) if kind is Kind.NETWORK_CUT else most
            fault_ms = round(random.uniform(least, longest) * _MINUTE_MS)
            fault = _place(random, kind, nodes, busy, (start_ms, lasts_ms, fault_ms))
            if fault is not None:
                planned.append(fault)
    return sorted(planned, key=lambda fault: (fault.at_ms, fault.kind, fault.node))


def _place(
    random: Random,
    kind: Kind,
    nodes: Sequence[str],
    busy: dict[str, list[tuple[int, int]]],
    times: tuple[int, int, int],
) -> Fault | None:
    """Find a node and a time at which nothing else is wrong; None if there is none."""
    start_ms, lasts_ms, fault_ms = times
    fault_ms = min(fault_ms, lasts_ms // 4)
    for _ in range(40):
        at_ms = start_ms + round(random.uniform(0.02, 0.85) * lasts_ms)
        until_ms = min(at_ms + fault_ms, start_ms + lasts_ms * 9 // 10)
        node = "" if kind in CENTRAL else random.choice(nodes)
        quiet_ms = 2 * _MINUTE_MS
        if all(until_ms + quiet_ms < a or b + quiet_ms < at_ms for a, b in busy.get(node, [])):
            busy.setdefault(node, []).append((at_ms, until_ms))
            step_ms = 0
            if kind is Kind.CLOCK_STEP:
                step_ms = random.choice((-90_000, -3_000, -700, 700, 5_000, 120_000))
            return Fault(at_ms, max(at_ms, until_ms), kind, node, step_ms)
    return None
