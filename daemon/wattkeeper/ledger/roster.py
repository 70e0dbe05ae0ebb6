"""Who delivers: nodes, journals, their dictionaries. Decides forks, takeovers and conflicts."""

import json
from collections import deque
from collections.abc import Mapping
from typing import TypeVar

from wattkeeper.delivery.wire import GENESIS, Batch
from wattkeeper.ledger.entries import check_identity, fingerprint
from wattkeeper.ledger.journals import JournalBook, NodeBook
from wattkeeper.ledger.meters import MeterBook
from wattkeeper.ledger.pending import Pending
from wattkeeper.ledger.refusal import Refusal
from wattkeeper.model.holder import MAX_LABEL, HolderInfo
from wattkeeper.model.meter import Component, MeterInfo
from wattkeeper.model.window import EpochInfo

RECENT_HOLDERS = 32
"""Holders per journal kept in memory to tell a redefinition."""
PATIENCE = 2
"""How often a journal is asked for entries before they are taken for gone."""
SHARED_PATIENCE = 32
"""The same where it may hear another aggregator in between, which has those entries."""

Entry = TypeVar("Entry", MeterInfo, HolderInfo, EpochInfo)


class Roster:
    """Every node, journal and meter.

    `numbers`: ids for new ones, drawn from the ledger; None where one process writes it, which
    counts by itself.
    """

    def __init__(self, takeover_after_ms: int, numbers: deque[int] | None = None) -> None:
        self._takeover_after_ms = takeover_after_ms
        self._numbers = numbers
        self._meters = 0
        self.patience = PATIENCE if numbers is None else SHARED_PATIENCE
        self.nodes: dict[tuple[str, str], NodeBook] = {}
        self.journals: dict[str, JournalBook] = {}
        self.by_uuid: dict[str, MeterBook] = {}
        self.node_by_id: dict[int, NodeBook] = {}
        self.last_event: dict[int, tuple[str, str]] = {}
        self.granting: set[str] = set()

    def grant(self, clusters: set[str]) -> None:
        """Take it that schedulers grant the GPUs of these clusters, from now on."""
        self.granting = clusters
        for node in self.nodes.values():
            for meter in node.meters.values():
                meter.granted = node.cluster in clusters

    def enter(self, node: NodeBook) -> None:
        """Take a node, of which nothing is known, as the ledger has it."""
        self.nodes[node.cluster, node.name] = self.node_by_id[node.id] = node
        for journal in node.journals:
            self.journals[journal.name] = journal
        for meter in node.meters.values():
            meter.granted = node.cluster in self.granting
            self._meters += 1
            if meter.component == Component.GPU:
                rival = self.by_uuid.get(meter.name)
                if rival is None or rival.end_ms < meter.end_ms:
                    self.by_uuid[meter.name] = meter

    def forget(self, node: NodeBook) -> None:
        """Know nothing of a node any more; what the ledger has of it is not touched."""
        del self.node_by_id[node.id]
        del self.nodes[node.cluster, node.name]
        for journal in node.journals:
            del self.journals[journal.name]
        for meter in node.meters.values():
            if self.by_uuid.get(meter.name) is meter:
                del self.by_uuid[meter.name]

    def knows(self, batch: Batch) -> bool:
        """Tell whether a delivery goes on where its node was known to be."""
        node, journal = (
            self.nodes.get((batch.cluster, batch.node)),
            self.journals.get(batch.journal),
        )
        if node is None or journal is None or node.current is not journal:
            return False
        return batch.first <= journal.accepted + 1

    def event(self, pending: Pending, node: NodeBook, at_ms: int, kind: str, detail: str) -> None:
        """Note what befell a node, once while it repeats itself."""
        if self.last_event.get(node.id) != (kind, detail):
            self.last_event[node.id] = (kind, detail)
            pending.events.append((at_ms, node.id, kind, detail))

    def journal(self, pending: Pending, batch: Batch, now_ms: int) -> JournalBook:
        """Return the journal of a delivery, made its node's current one if it may be.

        Raises:
            Refusal: it belongs to another node, or another journal of this node is live.

        """
        check_identity(batch)
        known = self.journals.get(batch.journal)
        if known is not None and (known.node.cluster, known.node.name) != (
            batch.cluster,
            batch.node,
        ):
            detail = (
                f"journal {batch.journal} is node {known.node.name}'s, delivered as {batch.node}"
            )
            self.event(pending, known.node, now_ms, "fork", detail)
            raise Refusal("fork", detail)
        node = self._node(pending, batch, now_ms)
        current = node.current
        if current is None or current is not known:
            if current is not None:
                self._check_takeover(pending, node, current, batch, now_ms)
            journal = known or self._new_journal(pending, node, batch)
            if current is not None:
                detail = f"journal {journal.name} took over from {current.name}"
                self.event(pending, node, now_ms, "takeover", detail)
            node.current = journal
        else:
            journal = current
        if batch.boot not in node.boots:
            node.boots.add(batch.boot)
            pending.new_boots.append((node.id, batch.boot))
        node.boot, node.agent = batch.boot, batch.agent[:MAX_LABEL]
        node.seen_ms = journal.seen_ms = now_ms
        return journal

    def check_rivals(
        self, pending: Pending, journal: JournalBook, batch: Batch, now_ms: int
    ) -> None:
        """Let one node only book a GPU: two agents that read one counter would book it twice.

        Once the other node is silent, the books go on where its own end.

        Raises:
            Refusal: it is live.

        """
        own = [meter for meter in journal.meters.values() if meter.component == Component.GPU]
        new = (meter.name for meter in batch.meters.values() if meter.component is Component.GPU)
        for name in (*(meter.name for meter in own), *new):
            other = self._rival(name, journal.node, batch.boot)
            if other is not None and self._is_live(other, now_ms):
                self._alarm(pending, name, journal.node, other, now_ms)
                raise Refusal("two-live-meters", _claimed(name, other, journal.node))
        for meter in own:
            if self._was_moved(meter, batch.boot, now_ms):
                self._claim(pending, meter, journal.node, now_ms)

    def learn(self, pending: Pending, journal: JournalBook, batch: Batch, now_ms: int) -> None:
        """Take the dictionary entries of a delivery.

        Raises:
            Refusal: an entry that is known means something else now.

        """
        gone = journal.asked >= self.patience
        for number, meter in _news(batch.meters, journal.known_meters, gone):
            self._learn_meter(pending, journal, number, meter, now_ms)
        for number, epoch in _news(batch.epochs, journal.known_epochs, gone):
            journal.epochs[number] = epoch
            journal.known_epochs = number
            pending.journal_epochs.append((journal.id, number, epoch.boot, epoch.load, epoch.reset))
        for number, holder in _news(batch.holders, journal.known_holders, gone):
            journal.known_holders = number
            journal.recent[number] = fingerprint(holder.manager, holder.raw_id, holder.birth_ms)
            journal.recent.pop(number - RECENT_HOLDERS, None)
            pending.holders[journal.base | number] = (journal.node.id, holder)

    def _number(self, count: int) -> int:
        return count + 1 if self._numbers is None else self._numbers.popleft()

    def _node(self, pending: Pending, batch: Batch, now_ms: int) -> NodeBook:
        key = (batch.cluster, batch.node)
        node = self.nodes.get(key)
        if node is None:
            node = NodeBook(self._number(len(self.nodes)), *key)
            self.nodes[key] = self.node_by_id[node.id] = node
            pending.new_nodes.append((node.id, node.cluster, node.name, now_ms))
        return node

    def _new_journal(self, pending: Pending, node: NodeBook, batch: Batch) -> JournalBook:
        journal = JournalBook(self._number(len(self.journals)), node, batch.journal)
        self.journals[journal.name] = journal
        node.journals.append(journal)
        pending.new_journals.append((journal.id, node.id, journal.name, batch.fork_of, GENESIS))
        return journal

    def _check_takeover(
        self,
        pending: Pending,
        node: NodeBook,
        current: JournalBook,
        batch: Batch,
        now_ms: int,
    ) -> None:
        new_boot = batch.boot not in node.boots
        silent = now_ms - current.seen_ms > self._takeover_after_ms
        if new_boot or silent or batch.fork_of == current.name:
            return
        detail = (
            f"node {node.name} delivers from journal {batch.journal} while {current.name} is live: "
            "two agents under one name, or a cloned node"
        )
        self.event(pending, node, now_ms, "conflict", detail)
        raise Refusal("two-live-journals", detail)

    def _learn_meter(
        self, pending: Pending, journal: JournalBook, number: int, info: MeterInfo, now_ms: int
    ) -> None:
        node = journal.node
        meter = node.meters.get(info.name)
        if meter is None:
            meter = MeterBook(self._number(self._meters), node.id, info.name, info.component.value)
            meter.granted = node.cluster in self.granting
            self._meters += 1
            node.meters[info.name] = meter
            row = (meter.id, node.id, info.name, info.component.value, "", "")
            pending.new_meters.append(row)
        # A meter that is described anew has another number: the newest one tells what it is now.
        labels = {name[:MAX_LABEL]: text[:MAX_LABEL] for name, text in info.labels.items()}
        pending.labels[meter.id] = (info.source, json.dumps(labels), meter.id)
        meter.gpu = gpu_index(info.component, labels)
        journal.meters[number] = meter
        journal.known_meters = number
        pending.journal_meters.append((journal.id, number, meter.id))
        if info.component is Component.GPU:
            self._claim(pending, meter, node, now_ms)

    def _claim(self, pending: Pending, meter: MeterBook, node: NodeBook, now_ms: int) -> None:
        """A GPU's UUID is one in the world: two live nodes that have it are one cloned one.

        It stays with the node that had it first as long as that is live: else whoever names the GPU
        of another node, and then its boot, would keep that node from delivering.
        """
        other = self.by_uuid.get(meter.name, meter)
        if other.node != meter.node:
            rival = self.node_by_id[other.node]
            if other.info.boot == node.boot:
                meter.take_over(pending, other)
            elif self._is_live(rival, now_ms):
                self._alarm(pending, meter.name, node, rival, now_ms)
                return
        self.by_uuid[meter.name] = meter

    def _rival(self, name: str, node: NodeBook, boot: str) -> NodeBook | None:
        """Return the other node that has booked a GPU in this boot of the machine."""
        other = self.by_uuid.get(name)
        if other is None or other.node == node.id or other.info.boot != boot:
            return None
        return self.node_by_id[other.node]

    def _was_moved(self, meter: MeterBook, boot: str, now_ms: int) -> bool:
        """Tell whether a GPU stands under a node that is silent, and is this one's by now."""
        other = self.by_uuid.get(meter.name, meter)
        if other.node == meter.node or self._is_live(self.node_by_id[other.node], now_ms):
            return False
        return other.info.boot == boot or meter.end_ms > other.end_ms

    def _is_live(self, node: NodeBook, now_ms: int) -> bool:
        return now_ms - node.seen_ms <= self._takeover_after_ms

    def _alarm(
        self, pending: Pending, name: str, node: NodeBook, rival: NodeBook, now_ms: int
    ) -> None:
        detail = _claimed(name, rival, node)
        self.event(pending, node, now_ms, "conflict", detail)
        self.event(pending, rival, now_ms, "conflict", detail)


def _claimed(name: str, rival: NodeBook, node: NodeBook) -> str:
    return f"{name} is claimed by {rival.name} and {node.name}, both live"


def gpu_index(component: str, labels: Mapping[str, str]) -> int | None:
    """Return the index of a GPU on its node in PCI order, by which schedulers call it."""
    text = labels.get("gpu", "")
    known = component == Component.GPU and text.isascii() and text.isdigit() and len(text) < 9
    return int(text) if known else None


def _news(entries: Mapping[int, Entry], known: int, gone: bool) -> list[tuple[int, Entry]]:
    """Return the entries that continue `known`; beyond a hole only if what it held is `gone`."""
    news: list[tuple[int, Entry]] = []
    for number in sorted(entries):
        if number <= known:
            continue
        if number > known + 1 and not gone:
            break
        news.append((number, entries[number]))
        known = number
    return news
