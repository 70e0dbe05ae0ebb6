"""Brings together what a tally needs: live nodes, the books' own nodes, and whose what is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wattkeeper.budgets.scopes import Scopes
from wattkeeper.budgets.tally import Names, NodeSeen, Now, Tally
from wattkeeper.ledger.queries.spent import NodeNow, nodes_now
from wattkeeper.ledger.queries.whose import Whose, whose_grants, whose_holders, whose_silent
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import FIRST_HOLDER

_RENAME_MS = 60_000
"""How often holders are asked for anew: names may come late."""
_SLACK_MS = 60_000

Seen = Mapping[tuple[str, str], NodeSeen]
"""Nodes as they showed themselves last, by cluster and name."""


@dataclass(frozen=True, slots=True)
class _Count:
    """Where a node's books ended, and its power between the last two ends."""

    booked_ms: int
    uj: int
    watts: float | None


class Collector:
    """Tallies the power of all budgets again and again. Blocks: use it in one thread."""

    def __init__(self, ledger: Ledger, silent_after_ms: int) -> None:
        self._ledger = ledger
        self._silent_after_ms = silent_after_ms
        self._holders: dict[tuple[str, int], Whose] = {}
        self._named_ms = 0
        self._counts: dict[int, _Count] = {}

    def tally(self, scopes: Scopes, seen: Seen, from_ms: Sequence[int], now_ms: int) -> list[Now]:
        """Return each budget now; `from_ms`: when its running interval began (UTC)."""
        with self._ledger.reading() as connection:
            known = {(node.cluster, node.node): node for node in nodes_now(connection)}
            silent = [
                node.id
                for key, node in known.items()
                if node.id is not None
                and scopes.any_workload
                and not self._hears(seen, key, now_ms)
            ]
            whose = whose_silent(connection, silent, _SLACK_MS) if silent else {}
        names = Names(silent=whose)
        if seen:
            names = Names(self._whose(seen, now_ms), whose_grants(self._ledger), whose)
        tally = Tally(scopes, names, from_ms, now_ms, self._silent_after_ms)
        for key in known.keys() | seen.keys():
            node = known.get(key)
            tally.add(seen.get(key), node, self._booked_watts(node, now_ms))
        return tally.found

    def _hears(self, seen: Seen, key: tuple[str, str], now_ms: int) -> bool:
        return key in seen and now_ms - seen[key].seen_ms <= self._silent_after_ms

    def _whose(self, seen: Seen, now_ms: int) -> Mapping[tuple[str, int], Whose]:
        wanted = {
            (node.journal, holder)
            for node in seen.values()
            for meter in node.meters
            for holder in meter.holders
            if holder >= FIRST_HOLDER
        }
        if now_ms - self._named_ms >= _RENAME_MS:
            self._named_ms, self._holders = now_ms, {}
        unknown = wanted - self._holders.keys()
        kept = {key: whose for key, whose in self._holders.items() if key in wanted}
        self._holders = kept | (whose_holders(self._ledger, unknown) if unknown else {})
        return self._holders

    def _booked_watts(self, node: NodeNow | None, now_ms: int) -> float | None:
        """Return the power by what was booked lately, of a node that another aggregator hears."""
        if node is None or node.id is None or node.booked_ms is None or not self._ledger.shared:
            return None
        before = self._counts.get(node.id)
        if before is None or node.booked_ms != before.booked_ms:
            watts = None
            if before is not None and node.booked_ms > before.booked_ms and node.uj >= before.uj:
                watts = (node.uj - before.uj) / (node.booked_ms - before.booked_ms) / 1000
            before = self._counts[node.id] = _Count(node.booked_ms, node.uj, watts)
        return before.watts if now_ms - before.booked_ms <= self._silent_after_ms else None
