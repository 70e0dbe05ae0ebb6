"""The fleet as ledger and live glimpses show it together."""

from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Literal

from wattkeeper.aggregator import answers
from wattkeeper.aggregator.config import AggregatorSettings
from wattkeeper.aggregator.devices import Devices, DevicesQuery, devices, gpus_of
from wattkeeper.aggregator.groups import Groups
from wattkeeper.aggregator.live import Live, LiveNode
from wattkeeper.aggregator.times import rfc3339
from wattkeeper.ledger.inventory import marks
from wattkeeper.ledger.queries.nodes import NodeRow, nodes
from wattkeeper.ledger.queries.scope import Scope
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component
from wattkeeper.values import milliseconds

Key = tuple[str, str]
"""Cluster and name of a node."""
NodeState = Literal["live", "silent", "conflict", "absent", "off"]
STATES: tuple[NodeState, ...] = ("live", "silent", "conflict", "absent", "off")
UNMETERED: frozenset[NodeState] = frozenset({"silent", "conflict", "absent"})
"""States of nodes that draw power of which nothing is known."""


class Fleet:
    """Views of all nodes. Methods block: call them in a thread."""

    def __init__(
        self, ledger: Ledger, live: Live, settings: AggregatorSettings, now_ms: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._live = live
        self._groups = Groups(settings.groups, self._marks)
        self._silent_after_ms = milliseconds(settings.silent_after)
        self._now_ms = now_ms

    @property
    def group_kinds(self) -> tuple[str, ...]:
        """The kinds of groups that are configured, such as rack and row."""
        return self._groups.kinds

    def rows(self) -> list[NodeRow]:
        """Return the nodes as the ledger has them."""
        return nodes(self._ledger)

    def nodes(self) -> list[answers.Node]:
        """Return every node that ever delivered or a scheduler has, by cluster and name."""
        both = self._both(self._live.view())
        return [self._node(key, row, live) for key, row, live in sorted(both, key=itemgetter(0))]

    def fleet(self, scope: Scope | None) -> answers.Fleet:
        """Return the fleet now, from what its nodes said last; accounts are told by the scope."""
        now_ms = self._now_ms()
        view = self._live.view()
        states = dict.fromkeys(STATES, 0)
        for _, row, live in self._both(view):
            states[self._state(_seen_ms(row, live), row, live)] += 1
        watts: dict[str, float] = {}
        gpus = 0
        heard = self._heard(view)
        for seen in heard:
            gpus += sum(1 for meter in seen.meters if meter.component == Component.GPU)
            for component, power in seen.watts_by_component.items():
                watts[component] = watts.get(component, 0.0) + power
        return answers.Fleet(
            as_of=rfc3339(now_ms),
            nodes=states,
            watts=sum(watts.values()),
            watts_by_component=watts,
            gpus=gpus,
            allocated_idle_gpus={
                account: gpus
                for account, gpus in self._live.allocated_idle(heard).items()
                if scope is None or account in scope.accounts
            },
        )

    def devices(self, query: DevicesQuery) -> Devices:
        """Return the devices of the nodes that are live."""
        now_ms = self._now_ms()
        found = devices(self._ledger, self._heard(self._live.view()), query)
        return Devices(as_of=rfc3339(now_ms), devices=found)

    def _heard(self, view: Mapping[Key, LiveNode]) -> list[LiveNode]:
        """Return the nodes that are not silent."""
        since_ms = self._now_ms() - self._silent_after_ms
        return [node for node in view.values() if node.seen_ms >= since_ms]

    def _both(
        self, view: Mapping[Key, LiveNode]
    ) -> Iterator[tuple[Key, NodeRow | None, LiveNode | None]]:
        """Yield every node as the ledger has it and as it was seen."""
        known = {(row.cluster, row.node): row for row in self.rows()}
        for key in {*known, *view}:
            yield key, known.get(key), view.get(key)

    def allocated_idle_gpus(self) -> dict[str, int]:
        """Return by account the GPUs that are allocated now and do nothing."""
        return self._live.allocated_idle(self._heard(self._live.view()))

    def members(self, kind: str) -> dict[str, str]:
        """Return the group of one kind, such as a rack, of each node that is in one."""
        labels = self._groups.labels()
        return {node: own[kind] for node, own in labels.items() if kind in own}

    def groups_of(self, node: str) -> Mapping[str, str]:
        """Return the labels of a node by kind of group."""
        return self._groups.labels().get(node, {})

    def _marks(self) -> Mapping[str, set[str]]:
        with self._ledger.reading() as connection:
            return marks(connection)

    def _node(self, key: Key, row: NodeRow | None, live: LiveNode | None) -> answers.Node:
        seen_ms = _seen_ms(row, live)
        state = self._state(seen_ms, row, live)
        snapshot = live.snapshot if live is not None else None
        watts = live.watts_by_component if live is not None and state == "live" else {}
        sources = snapshot.sources if snapshot is not None else ()
        return answers.Node(
            cluster=key[0],
            node=key[1],
            state=state,
            last_seen=None if seen_ms is None else rfc3339(seen_ms),
            scheduler_state=row.scheduler_state if row is not None else None,
            gpus_expected=row.gpus_expected if row is not None else None,
            agent=(live.agent if live else row.agent if row else None) or None,
            watts=sum(watts.values()) if watts else None,
            gpus=gpus_of(live.meters) if live is not None and state == "live" else None,
            meters=max(row.meters if row else 0, len(live.meters) if live else 0),
            pending_records=snapshot.pending if snapshot is not None else None,
            clock_offset_seconds=row.skew_ms / 1000 if row is not None and seen_ms else None,
            refused_records=row.refused if row is not None else 0,
            events=row.events if row is not None else {},
            groups=dict(self.groups_of(key[1])),
            sources=[
                answers.Source(subject=s.subject, state=s.state, detail=s.detail) for s in sources
            ],
        )

    def _state(self, seen_ms: int | None, row: NodeRow | None, live: LiveNode | None) -> NodeState:
        if seen_ms is None:
            return "absent" if row is None or row.expected else "off"
        now_ms = self._now_ms()
        refused_ms = live.refused_ms if live is not None else None
        if refused_ms is not None and now_ms - refused_ms <= self._silent_after_ms:
            return "conflict"
        if now_ms - seen_ms <= self._silent_after_ms:
            return "live"
        return "off" if row is not None and row.expected is False else "silent"


def _seen_ms(row: NodeRow | None, live: LiveNode | None) -> int | None:
    """Return when a node was last heard of, here or by any aggregator of the ledger."""
    booked_ms = (row.seen_ms if row else None) or 0
    return max(booked_ms, live.seen_ms if live else 0) or None
