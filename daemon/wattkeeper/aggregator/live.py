"""What the nodes said last: unbooked glimpses for live views. Kept in memory only."""

from collections.abc import Sequence
from dataclasses import dataclass

from wattkeeper.delivery.wire import Batch, Snapshot
from wattkeeper.ledger.queries.dictionary import (
    MeterName,
    granted_accounts,
    holder_accounts,
    meter_names,
)
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import FIRST_HOLDER
from wattkeeper.model.meter import Component

IDLE_PPM = 10_000
"""A GPU whose utilization is below 1 % does nothing."""


@dataclass(frozen=True, slots=True)
class LiveMeter:
    """One meter at the instant of the last delivery; `holders` are numbers of the journal.

    `shares_ppm`: their parts of the meter's last window, empty where that is not known. `gpu`: a
    GPU's index on its node, by which schedulers call it.
    """

    name: str
    component: str
    gpu: int | None
    power_mw: int | None
    temperature_mc: int | None
    utilization_ppm: int | None
    holders: tuple[int, ...]
    shares_ppm: tuple[int, ...] = ()

    @property
    def workloads(self) -> tuple[int, ...]:
        """The holders that are somebody's, not an account of ours."""
        return tuple(holder for holder in self.holders if holder >= FIRST_HOLDER)

    @property
    def held(self) -> bool:
        """True where the node sees a workload's holder."""
        return bool(self.workloads)

    @property
    def idle(self) -> bool:
        """True for a GPU on which nothing runs."""
        return (
            self.component == Component.GPU
            and self.utilization_ppm is not None
            and self.utilization_ppm < IDLE_PPM
        )


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node as its last delivery showed it. Times are UTC milliseconds by our own clock.

    `refused_ms`: when a delivery was last refused because another journal of it is live.
    """

    cluster: str
    node: str
    journal: str
    agent: str
    seen_ms: int
    meters: tuple[LiveMeter, ...]
    snapshot: Snapshot | None
    refused_ms: int | None

    @property
    def watts_by_component(self) -> dict[str, float]:
        """Power by component, as far as known; host meters see the same watts again."""
        watts: dict[str, float] = {}
        for meter in self.meters:
            if meter.component != Component.HOST and meter.power_mw is not None:
                watts[meter.component] = watts.get(meter.component, 0.0) + meter.power_mw / 1000
        return watts


@dataclass(slots=True)
class _Glimpse:
    agent: str
    journal: str
    seen_ms: int
    snapshot: Snapshot | None


class Live:
    """The nodes by cluster and name: changed on the event loop, viewed in threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._glimpses: dict[tuple[str, str], _Glimpse] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._meters: dict[str, dict[int, MeterName]] = {}

    def delivered(self, batch: Batch, now_ms: int) -> None:
        """Take note of a delivery that was accepted; one without a snapshot keeps the last."""
        key = (batch.cluster, batch.node)
        known = self._glimpses.get(key)
        if batch.snapshot is None and known is not None and known.journal == batch.journal:
            known.seen_ms = now_ms
            return
        self._glimpses[key] = _Glimpse(batch.agent, batch.journal, now_ms, batch.snapshot)

    def refused(self, batch: Batch, now_ms: int) -> None:
        """Take note of a delivery that was refused because another journal or node is live."""
        key = batch.cluster, batch.node
        self._refused[key] = now_ms
        self._glimpses.setdefault(key, _Glimpse(batch.agent, batch.journal, now_ms, None))

    def view(self) -> dict[tuple[str, str], LiveNode]:
        """Return every node that delivered since the start, by cluster and name. Blocks.

        A meter that was never committed has no name yet and is left out.
        """
        glimpses = list(self._glimpses.items())
        self._learn([glimpse for _, glimpse in glimpses])
        return {key: self._show(key, glimpse) for key, glimpse in glimpses}

    def allocated_idle(self, heard: Sequence[LiveNode]) -> dict[str, int]:
        """Return by account the GPUs of some nodes that are allocated and do nothing. Blocks.

        Whose a GPU is says its node, or where that sees nobody, the scheduler.
        """
        idle = [(node, meter) for node in heard for meter in node.meters if meter.idle]
        holders = ((node.journal, one) for node, meter in idle for one in meter.workloads)
        accounts = holder_accounts(self._ledger, holders)
        granted = granted_accounts(self._ledger) if idle else {}
        counts: dict[str, int] = {}
        for node, meter in idle:
            if meter.held:
                pairs = ((node.journal, one) for one in meter.workloads)
                whose = {accounts.get(pair, ("", ""))[1] for pair in pairs}
            elif meter.gpu is not None:
                whose = granted.get((node.cluster, node.node, meter.gpu), set())
            else:
                continue
            for account in whose:
                counts[account] = counts.get(account, 0) + 1
        return counts

    def _learn(self, glimpses: list[_Glimpse]) -> None:
        current = {glimpse.journal for glimpse in glimpses}
        unknown = {
            glimpse.journal
            for glimpse in glimpses
            if glimpse.snapshot is not None
            and any(
                m.meter not in self._meters.get(glimpse.journal, ())
                for m in glimpse.snapshot.meters
            )
        }
        known = {journal: names for journal, names in self._meters.items() if journal in current}
        if unknown:
            known.update(meter_names(self._ledger, unknown))
        self._meters = known

    def _knows(self, glimpse: _Glimpse) -> bool:
        if glimpse.snapshot is None:
            return True
        names = self._meters.get(glimpse.journal, {})
        return all(live.meter in names for live in glimpse.snapshot.meters)

    def _show(self, key: tuple[str, str], glimpse: _Glimpse) -> LiveNode:
        names = self._meters.get(glimpse.journal, {})
        shown = glimpse.snapshot.meters if glimpse.snapshot is not None else ()
        meters = tuple(
            LiveMeter(
                *names[live.meter],
                live.power_mw,
                live.temperature_mc,
                live.utilization_ppm,
                live.holders,
                live.shares_ppm,
            )
            for live in shown
            if live.meter in names
        )
        return LiveNode(
            *key,
            journal=glimpse.journal,
            agent=glimpse.agent,
            seen_ms=glimpse.seen_ms,
            meters=meters,
            snapshot=glimpse.snapshot,
            refused_ms=self._refused.get(key),
        )
