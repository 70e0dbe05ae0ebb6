"""New holders find their run at the commit that writes them."""

from collections.abc import Iterator, Mapping, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema
from wattkeeper.ledger.run_book import Key, RunBook, keys
from wattkeeper.ledger.runs import NAMES, WORDS, Held
from wattkeeper.model.holder import MAX_LABEL, HolderInfo

_LABELS = (*WORDS, *NAMES)
_PIECE = 5_000
"""Holders that are named at a time: a whole fleet's start in one commit stays small."""
_MOST_SECONDS = 1 << 40


def map_holders(
    connection: sa.Connection,
    new: Mapping[int, tuple[int, HolderInfo]],
    seen: Mapping[int, int],
) -> None:
    """Write new holders with their runs, after `see_holders` of those that are known.

    `new`: (node, what it is) by the holder's id; `seen`: until when, by the same ids. Holders of
    the same ids that are known may turn out to be another run's, and move.
    """
    if not new:
        return
    clusters = {
        row.id: row.cluster
        for row in connection.execute(sa.select(schema.node.c.id, schema.node.c.cluster))
    }
    held = [_held(number, node, info, seen.get(number, 0)) for number, (node, info) in new.items()]
    ids = {one.id: keys(clusters[one.node], one.manager, one.raw_id, one.other_id) for one in held}
    held.sort(key=lambda one: (ids[one.id][0], one.birth_ms, one.id))
    for some in _pieces(held, ids):
        book = RunBook.load(connection, (ids[one.id] for one in some))
        for one in some:
            book.group(ids[one.id]).holders.append(one)
        book.settle(book.distinct())
        book.save()
        columns = "id node manager raw_id birth_ms seen_ms other_id run start_ms workload"
        bulk.insert(connection, schema.holder, columns, (_row(one, book) for one in some))


def _pieces(held: Sequence[Held], ids: Mapping[int, list[Key]]) -> Iterator[Sequence[Held]]:
    """Cut into pieces that keep holders of one id together: they may be one run."""
    begin = 0
    while begin < len(held):
        end = min(begin + _PIECE, len(held))
        while end < len(held) and ids[held[end].id][0] == ids[held[end - 1].id][0]:
            end += 1
        yield held[begin:end]
        begin = end


def _held(number: int, node: int, info: HolderInfo, seen_ms: int) -> Held:
    labels, raw_id = info.labels, info.raw_id[:MAX_LABEL]
    sluid = labels.get("sluid", "")
    if sluid.isdecimal():
        sluid = ""  # a number is another job's, whose holders would be taken for this one's
    other_id = labels.get("job_id", "") if sluid == raw_id else sluid
    started = labels.get("start_time", "")
    count = labels.get("restart_count", "")
    start_ms = None
    if started.isdecimal() and 0 < int(started[:16]) < _MOST_SECONDS:
        start_ms = int(started[:16]) * 1000
    return Held(
        number,
        node,
        info.manager[:MAX_LABEL],
        raw_id,
        "" if other_id == raw_id else other_id[:MAX_LABEL],
        info.birth_ms,
        max(seen_ms, info.birth_ms),
        start_ms=start_ms,
        token=count if count.isdecimal() and len(count) <= 9 else "",
        words=_words(labels),
    )


def _words(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what the node's labels say of a run, in the scheduler's words."""
    words = {name: labels[name][:MAX_LABEL] for name in _LABELS if name in labels}
    array, task = labels.get("array_job_id", ""), labels.get("array_task_id", "")
    if array.isdecimal() and task.isdecimal():
        words |= {"array": array[:MAX_LABEL], "job_id": f"{array}_{task}"[:MAX_LABEL]}
    return words


def _row(held: Held, book: RunBook) -> bulk.Row:
    ids = (held.id, held.node, held.manager, held.raw_id)
    told = (held.other_id, held.token, held.start_ms)
    return (*ids, held.birth_ms, held.seen_ms, *told, book.run_of(held).id)


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
