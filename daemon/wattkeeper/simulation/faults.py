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
    SCHEDULER_DOWN = "scheduler down"


AGENT_DOWN = frozenset(
    {
        Kind.AGENT_KILLED, Kind.TORN_TAIL, Kind.WIPED, Kind.CLONED, Kind.RELOADED,
        Kind.RELOADED_PAST, Kind.REBOOTED,
    }
)  # fmt: skip
"""Faults during which the node's agent is down."""
CENTRAL = frozenset({Kind.AGGREGATOR_KILLED, Kind.AGGREGATOR_RESTORED, Kind.SCHEDULER_DOWN})
"""Faults of the centre; the others strike one node."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    `until_ms`: when it is over; `step_ms`: by how much a clock steps; `backup_ms`: how old the
    copy is that is restored.
    """

    at_ms: int
    until_ms: int
    kind: Kind
    node: str = ""
    step_ms: int = 0
    backup_ms: int = 0

    def describe(self) -> str:
        """Say it in words."""
        where = f" on {self.node}" if self.node else ""
        lasts = f" for {(self.until_ms - self.at_ms) / 1000:.0f} s" * (self.until_ms > self.at_ms)
        step = f" by {self.step_ms / 1000:+.1f} s" if self.step_ms else ""
        return f"{self.kind}{where}{step}{lasts}"


_LASTS_MIN = {
    Kind.AGGREGATOR_RESTORED: (0.1, 1),
    Kind.AGGREGATOR_KILLED: (0.05, 3),
    Kind.NETWORK_CUT: (1, 25),
    Kind.AGENT_KILLED: (0.05, 20),
    Kind.TORN_TAIL: (0.05, 3),
    Kind.WIPED: (0.05, 2.5),
    Kind.CLONED: (0.05, 2.5),
    Kind.RELOADED: (0.5, 5),
    Kind.RELOADED_PAST: (0.5, 5),
    Kind.REBOOTED: (1, 6),
    Kind.CLOCK_STEP: (0, 0),
    Kind.DISK_FULL: (0.5, 4),
    Kind.GPU_SILENT: (0.1, 4),
    Kind.SCHEDULER_DOWN: (2, 60),
}
_QUIET_MS = _MINUTE_MS * 3 // 2
_STEPS_MS = (-90_000, -3_000, -700, 700, 5_000, 120_000)


class Plan:
    """Faults over `lasts_ms`, from 6 % to 85 % of it.

    No node has two at once, and no agent is down while the centre is or forgets.
    """

    def __init__(self, seed: int, nodes: Sequence[str], start_ms: int, lasts_ms: int) -> None:
        self._random = Random(f"{seed}/faults")
        self._nodes = nodes
        self._start_ms = start_ms
        self._lasts_ms = lasts_ms
        self._busy: dict[str, list[tuple[int, int]]] = {}

    def faults(self) -> list[Fault]:
        """Plan each kind at least once, most of them often; hours of cuts in a day's run."""
        hours = self._lasts_ms / 3_600_000
        often = max(1, round(hours * len(self._nodes) / 24))
        planned: list[Fault] = []
        for kind, (least, most) in _LASTS_MIN.items():
            longest = most * max(1.0, hours / 2) if kind is Kind.NETWORK_CUT else most
            for _ in range(max(1, round(hours / 4)) if kind in CENTRAL else often):
                fault_ms = round(self._random.uniform(least, longest) * _MINUTE_MS)
                fault = self._place(kind, min(fault_ms, self._lasts_ms // 6))
                planned += [] if fault is None else [fault]
        return sorted(planned, key=lambda fault: (fault.at_ms, fault.kind, fault.node))

    def _place(self, kind: Kind, fault_ms: int) -> Fault | None:
        """Find a node and a time at which nothing else is wrong; None if there is none."""
        random = self._random
        backup_ms = min(240_000, self._lasts_ms // 30) * (kind is Kind.AGGREGATOR_RESTORED)
        for attempt in range(80):
            # Where time is short a long fault may not fit any more.
            fault_ms = fault_ms * 3 // 4 if attempt % 10 == 9 else fault_ms
            at_ms = self._start_ms + round(random.uniform(0.06, 0.85) * self._lasts_ms)
            until_ms = min(at_ms + fault_ms, self._start_ms + self._lasts_ms * 9 // 10)
            node = "" if kind in CENTRAL else random.choice(self._nodes)
            if not self._free(node, kind, at_ms - backup_ms, until_ms):
                continue
            self._busy.setdefault(node, []).append((at_ms - backup_ms, until_ms))
            step_ms = random.choice(_STEPS_MS) if kind is Kind.CLOCK_STEP else 0
            return Fault(at_ms, max(at_ms, until_ms), kind, node, step_ms, backup_ms)
        return None

    def _free(self, node: str, kind: Kind, from_ms: int, to_ms: int) -> bool:
        taken = list(self._busy.get(node, []))
        if kind in AGENT_DOWN:
            taken += self._busy.get("", [])
        quiet_ms = min(_QUIET_MS, self._lasts_ms // 20)
        return all(to_ms + quiet_ms < a or b + quiet_ms < from_ms for a, b in taken)


def schedule(seed: int, nodes: Sequence[str], start_ms: int, lasts_ms: int) -> list[Fault]:
    """Return the faults of a run, in the order of time; they follow from the seed."""
    return Plan(seed, nodes, start_ms, lasts_ms).faults()
