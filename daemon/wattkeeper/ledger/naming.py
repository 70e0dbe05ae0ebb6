"""New holders find their workload at the commit that writes them."""

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.runs import NAMES, WORDS, Key, Runs
from wattkeeper.model.holder import MAX_LABEL, HolderInfo

_LABELS = (*WORDS, *NAMES)
_PIECE = 5_000
"""Holders that are named at a time: a whole fleet's start in one commit stays small."""


def map_holders(
    connection: sa.Connection,
    new: Mapping[int, tuple[int, HolderInfo]],
    seen: Mapping[int, int],
) -> None:
    """Write new holders with their workloads, after `see_holders` of those that are known.

    `new`: (node, what it is) by the holder's id; `seen`: until when, by the same ids.
    """
    if not new:
        return
    clusters = {
        row.id: row.cluster
        for row in connection.execute(sa.select(schema.node.c.id, schema.node.c.cluster))
    }
    keys = {number: _key(clusters[node], info) for number, (node, info) in new.items()}
    order = sorted(new, key=lambda number: (keys[number], new[number][1].birth_ms, number))
    for some in _pieces(order, keys):
        runs = Runs.load(connection, {keys[number] for number in some})
        rows = [_row(runs, keys[number], number, *new[number], seen) for number in some]
        runs.save()
        columns = "id node manager raw_id birth_ms seen_ms workload"
        bulk.insert(connection, schema.holder, columns, rows)


def _pieces(order: Sequence[int], keys: Mapping[int, Key]) -> Iterator[Sequence[int]]:
    """Cut into pieces that keep holders of one key together: they may be one run."""
    begin = 0
    while begin < len(order):
        end = min(begin + _PIECE, len(order))
        while end < len(order) and keys[order[end]] == keys[order[end - 1]]:
            end += 1
        yield order[begin:end]
        begin = end


def _row(
    runs: Runs, key: Key, number: int, node: int, info: HolderInfo, seen: Mapping[int, int]
) -> bulk.Row:
    born_ms = info.birth_ms
    seen_ms = max(seen.get(number, 0), born_ms)
    run = runs.find(key, born_ms, seen_ms) or runs.new(key)
    run.live(born_ms, seen_ms)
    labels = {name: info.labels[name][:MAX_LABEL] for name in _LABELS if name in info.labels}
    run.say(labels, replace=False)
    return number, node, key[1], key[2], born_ms, seen_ms, run.id


def _key(cluster: str, info: HolderInfo) -> Key:
    return cluster, info.manager[:MAX_LABEL], info.raw_id[:MAX_LABEL]


def see_holders(connection: sa.Connection, seen: Mapping[int, int]) -> None:
    """Write until when (UTC milliseconds) holders were seen, by their ids; it never falls."""
    holder = schema.holder
    at_ms: sa.BindParameter[int] = sa.bindparam("at_ms")
    statement = (
        sa.update(holder)
        .where(holder.c.id == sa.bindparam("of_id"), holder.c.seen_ms < sa.bindparam("than_ms"))
        .values(seen_ms=at_ms)
    )
    rows = [(at, number, at) for number, at in sorted(seen.items())]
    bulk.execute(connection, statement, ["at_ms", "of_id", "than_ms"], rows)
