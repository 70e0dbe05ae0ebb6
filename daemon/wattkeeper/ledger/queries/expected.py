"""What should have been metered: by the meters that are known, and by the schedulers' inventory.

A meter is expected from when it first appeared on. Where a scheduler tells how many GPUs a node
has, so many are expected from the time it says so, whether an agent ever ran there or not, and not
while it says that the node is powered down. A node without any meter counts as at least one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import inventory, schema
from wattkeeper.ledger.inventory import Listed
from wattkeeper.model.grid import DAY_MS, ceil, floor
from wattkeeper.model.meter import Component

LATE_MS = 120_000
"""What was metered is in the books by then; what a scheduler says, at once."""


Wanted = Callable[[str, str], bool]
"""Whether a node is asked for, by cluster and name."""


def _every(_cluster: str, _node: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class MissingNode:
    """A node of an inventory that delivered nothing, or has GPUs that no meter was ever seen of.

    `gpus` by its scheduler's word, `metered_gpus` those that ever delivered; `expected_seconds`,
    `covered_seconds`: of meters, together. `state` is the scheduler's.
    """

    cluster: str
    node: str
    state: str
    gpus: int | None
    metered_gpus: int
    expected_seconds: float
    covered_seconds: float


@dataclass(slots=True)
class Expectation:
    """Expected milliseconds `by_meter`, and `beyond_ms` of meters that never were."""

    by_meter: dict[int, int] = field(default_factory=dict)
    beyond_ms: int = 0
    covered_ms: int = 0
    missing: list[MissingNode] = field(default_factory=list)

    @property
    def expected_ms(self) -> int:
        """All expected time of all meters."""
        return sum(self.by_meter.values()) + self.beyond_ms

    @property
    def coverage(self) -> float | None:
        """Covered over expected time, None if nothing was expected."""
        return self.covered_ms / self.expected_ms if self.expected_ms else None


@dataclass(slots=True)
class _Node:
    """A node's meters (rows of `states`), and what the inventory says of it."""

    meters: list[Any] = field(default_factory=list)
    words: list[Listed] = field(default_factory=list)


def expect(
    connection: sa.Connection,
    since_ms: int,
    until_ms: int,
    states: Sequence[Any],
    times: Mapping[int, tuple[int, int]],
    of: Wanted = _every,
) -> Expectation:
    """Return what was expected in [since, until).

    `states`: a row of each meter (id, cluster, node, component, first_ms, end_ms, skew_ms);
    `times`: its covered and unmeasured milliseconds. `of`: of which nodes, by cluster and name;
    `states` and `times` are of no others.
    """
    # A node whose clock is ahead books into the future, where nothing is expected of the others.
    booked_ms = max((row.end_ms - max(0, row.skew_ms) for row in states), default=0)
    told_ms = inventory.until_ms(connection)
    nodes: dict[tuple[str, str], _Node] = {}
    for row in states:
        nodes.setdefault((row.cluster, row.node), _Node()).meters.append(row)
    for word in inventory.listed(connection, since_ms, until_ms) if told_ms else ():
        if not of(word.cluster, word.node):
            continue
        nodes.setdefault((word.cluster, word.node), _Node()).words.append(word)
    result = Expectation(covered_ms=sum(covered for covered, _ in times.values()))
    for (cluster, name), node in sorted(nodes.items()):
        end_ms = min(until_ms, max(booked_ms, told_ms.get(cluster, 0) - LATE_MS))
        _add(result, (cluster, name), node, (since_ms, end_ms), times)
    return result


def expected_coverage(
    connection: sa.Connection, since_ms: int, until_ms: int, of: Wanted = _every
) -> float | None:
    """Return covered over expected time of the meters of some nodes, as the balance says it."""
    meter, node = schema.meter.c, schema.node.c
    states = sa.select(
        meter.id,
        node.cluster,
        node.name.label("node"),
        meter.component,
        meter.first_ms,
        meter.end_ms,
        node.skew_ms,
    ).join(schema.node, node.id == meter.node)
    rows = [row for row in connection.execute(states) if of(row.cluster, row.node)]
    own = {row.id for row in rows}
    times = _times(connection, since_ms, until_ms)
    some = {number: time for number, time in times.items() if number in own}
    return expect(connection, since_ms, until_ms, rows, some, of).coverage


def _times(connection: sa.Connection, since_ms: int, until_ms: int) -> dict[int, tuple[int, int]]:
    """Return covered and unmeasured time by meter: whole days by their sums, the edges by slots."""
    slot, day = schema.coverage.c, schema.coverage_day.c
    begin, end = ceil(since_ms, DAY_MS), floor(until_ms, DAY_MS)
    edges = sa.and_(slot.slot >= since_ms, slot.slot < until_ms)
    if begin < end:
        edges = sa.and_(edges, sa.or_(slot.slot < begin, slot.slot >= end))
    found: dict[int, tuple[int, int]] = {}
    for table, within in (
        (slot, edges),
        (day, sa.and_(day.day >= begin // DAY_MS, day.day < end // DAY_MS)),
    ):
        sums = (sa.func.sum(table.covered_ms), sa.func.sum(table.unmeasured_ms))
        query = sa.select(table.meter, *sums).where(within).group_by(table.meter)
        for number, covered, unmeasured in connection.execute(query):
            had = found.get(number, (0, 0))
            found[number] = had[0] + int(covered), had[1] + int(unmeasured)
    return found


def _add(
    result: Expectation,
    name: tuple[str, str],
    node: _Node,
    asked: tuple[int, int],
    times: Mapping[int, tuple[int, int]],
) -> None:
    own = {row.id: 0 for row in node.meters}
    beyond_ms = 0
    for from_ms, to_ms in _pieces(node, *asked):
        expected, more = _count(node, from_ms, asked[1])
        for number in expected:
            own[number] += to_ms - from_ms
        beyond_ms += more * (to_ms - from_ms)
    covered_ms = 0
    for number, expected_ms in own.items():
        covered, unmeasured = times.get(number, (0, 0))
        own[number] = max(expected_ms, covered + unmeasured)
        covered_ms += covered
    result.by_meter |= own
    result.beyond_ms += beyond_ms
    whole_ms = sum(own.values()) + beyond_ms
    gpus = sum(row.component == Component.GPU for row in node.meters)
    if whole_ms and node.words:
        last = node.words[-1]
        if not covered_ms or (beyond_ms and (last.gpus or 0) > gpus):
            seconds = (whole_ms / 1000, covered_ms / 1000)
            result.missing.append(MissingNode(*name, last.state, last.gpus, gpus, *seconds))


def _pieces(node: _Node, since_ms: int, until_ms: int) -> list[tuple[int, int]]:
    """Cut the asked time where a meter appears or falls silent, or the inventory changes."""
    cuts = {since_ms, until_ms}
    for row in node.meters:
        cuts |= {row.first_ms, row.end_ms}
    for word in node.words:
        cuts |= {word.from_ms, word.to_ms}
    inside = sorted(at for at in cuts if at is not None and since_ms <= at <= until_ms)
    return list(pairwise(inside))


def _count(node: _Node, at_ms: int, end_ms: int) -> tuple[list[int], int]:
    """Return which meters are expected at an instant, and how many more than there are."""
    known = [row for row in node.meters if row.first_ms is not None and row.first_ms <= at_ms]
    words = [word for word in node.words if word.from_ms <= at_ms < word.to_ms]
    if words and not any(word.expected for word in words):
        return [], 0
    gpus = max((word.gpus or 0 for word in words if word.expected), default=0)
    if not gpus:
        return [row.id for row in known], int(bool(words) and not known)
    others = [row.id for row in known if row.component != Component.GPU]
    own = [row for row in known if row.component == Component.GPU]
    # The one that fell silent first may have been replaced: the scheduler says how many there are.
    own.sort(key=lambda row: row.end_ms, reverse=True)
    alive = sum(row.end_ms > at_ms or row.end_ms + LATE_MS >= end_ms for row in own)
    count = max(gpus, alive)
    return others + [row.id for row in own[:count]], max(0, count - len(own))
