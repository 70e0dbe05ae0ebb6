"""The runs of some ids with their holders: read together, settled in memory, written once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import sqlalchemy as sa

from wattkeeper.ledger import bulk, erasing, labels, schema
from wattkeeper.ledger.belonging import assign, gather
from wattkeeper.ledger.runs import NAMES, WORDS, Held, Run

Key = tuple[str, str, str]
"""Cluster, manager and one of the ids of a run or a holder."""

_CHUNK = 500
_NEWEST = "newest_workload"
"""The setting that keeps the highest number of a run, where that run is gone."""
_COLUMNS = "cluster manager raw_id other_id run scheduler " + " ".join(WORDS) + " start_ms end_ms"


@dataclass(slots=True)
class Group:
    """Runs and holders that share ids: one job number, its requeues, its reuses."""

    cluster: str
    manager: str
    runs: list[Run] = field(default_factory=list)
    holders: list[Held] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)

    @property
    def told(self) -> list[Run]:
        """The runs that a scheduler spoke of."""
        return [run for run in self.runs if run.scheduler]

    def new(self, raw_id: str, scheduler: str = "") -> Run:
        """Begin another run, called by its raw id until it is given a name."""
        words = dict.fromkeys((*WORDS, *NAMES), "") | {"job_id": raw_id}
        run = Run(0, self.cluster, self.manager, raw_id, words, scheduler=scheduler, fresh=True)
        self.runs.append(run)
        return run


def keys(cluster: str, manager: str, *ids: str) -> list[Key]:
    """Return the keys of the ids that are known, at least one."""
    known = [one for one in dict.fromkeys(ids) if one]
    return [(cluster, manager, one) for one in known or [""]]


@dataclass(slots=True)
class RunBook:
    """Groups by any of their ids. `load` reads them, `settle` maps holders to runs, `save` writes.

    Holders that the centre made itself (journal 0) stand under the workload they were made for.
    """

    connection: sa.Connection
    groups: dict[Key, Group] = field(default_factory=dict)
    _moved: dict[int, tuple[Held, Run]] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)

    @classmethod
    def load(cls, connection: sa.Connection, wanted: Iterable[Sequence[Key]]) -> "RunBook":
        """Read every run and holder that shares an id with these, also by way of others.

        `wanted`: the ids of one run or holder each; those belong together.
        """
        book = cls(connection)
        todo: set[Key] = set()
        for ids in wanted:
            book.group(ids)
            todo.update(ids)
        runs: set[int] = set()
        holders: set[int] = set()
        asked: set[Key] = set()
        while todo:
            asked |= todo
            found: set[Key] = set()
            for run in _runs(connection, todo):
                ids = keys(run.cluster, run.manager, run.raw_id, run.other_id)
                found.update(ids)
                if run.id not in runs:
                    runs.add(run.id)
                    book.group(ids).runs.append(run)
            for cluster, held in _holders(connection, todo):
                ids = keys(cluster, held.manager, held.raw_id, held.other_id)
                found.update(ids)
                if held.id not in holders:
                    holders.add(held.id)
                    book.group(ids).holders.append(held)
            todo = found - asked
        labels.read(connection, [run for group in book.distinct() for run in group.runs])
        return book

    def group(self, ids: Sequence[Key]) -> Group:
        """Return the group of these ids, which belong together from now on."""
        groups = {id(group): group for key in ids if (group := self.groups.get(key))}
        if not groups:
            groups[0] = Group(ids[0][0], ids[0][1])
        first, *others = sorted(groups.values(), key=lambda group: -len(group.keys))
        for other in others:
            first.runs += other.runs
            first.holders += other.holders
            self._lead(first, other.keys)
        self._lead(first, ids)
        return first

    def distinct(self) -> list[Group]:
        """Return every group once."""
        return list({id(group): group for group in self.groups.values()}.values())

    def settle(self, groups: Iterable[Group]) -> None:
        """Give every holder of these groups its run: the scheduler's, else one made of holders."""
        for group in groups:
            self._settle(group)

    def run_of(self, held: Held) -> Run:
        """Return the run of a holder that is new, after `settle`."""
        return self._moved[held.id][1]

    def save(self) -> None:
        """Write what is new or changed; the runs then have their ids."""
        write(self.connection, [run for group in self.distinct() for run in group.runs])
        moved = [
            (run.id, held.id) for held, run in self._moved.values() if held.workload is not None
        ]
        bulk.update(self.connection, schema.holder, "workload", "id", sorted(moved))
        if self._gone:
            _keep_newest(self.connection)
        for column in (schema.workload.c.id, schema.identity.c.workload, schema.label.c.workload):
            statement = sa.delete(column.table).where(column == sa.bindparam("gone"))
            rows = [(gone,) for gone in sorted(self._gone)]
            bulk.execute(self.connection, statement, ["gone"], rows)

    def _settle(self, group: Group) -> None:
        told = assign(group.told, group.holders)
        made = {run.id: run for run in group.runs if not run.scheduler}
        erased = {run.id: run for run in group.runs if run.erased}
        for cluster in gather(held for held in group.holders if held.id not in told):
            own = {held.workload for held in cluster.holders if held.workload in made}
            raw_id = cluster.holders[0].raw_id
            run = made.pop(min(filter(None, own))) if own else group.new(raw_id)
            for held in cluster.holders:
                self._put(held, run)
                if held.other_id and held.raw_id == run.raw_id:
                    run.put(other_id=run.other_id or held.other_id)
        for held in group.holders:
            if held.id not in told:
                continue
            run = told[held.id]
            if run.fresh and (before := erased.get(held.workload or 0)):
                erasing.erase(run, before.words["user"])
            if held.workload in made:
                self._inherit(group, run, made[held.workload])
            self._put(held, run)
        # What is left was made of holders that are somebody else's by now.
        for run in made.values():
            if any(run is own for own in group.runs):
                group.runs = [own for own in group.runs if own is not run]
                self._gone.add(run.id)

    def _inherit(self, group: Group, run: Run, made: Run) -> None:
        """Take what the nodes said of a run, and its id if this one has none yet."""
        run.say(made.words, replace=False)
        if run.fresh and any(made is own for own in group.runs):
            run.id, run.fresh, run.changed = made.id, False, True
            run.relabelled = run.relabelled or bool(made.labels)
            group.runs = [own for own in group.runs if own is not made]

    def _put(self, held: Held, run: Run) -> None:
        run.say(held.words, replace=False)
        run.born_ms = min(held.birth_ms, run.born_ms or held.birth_ms)
        if not run.id or held.workload != run.id:
            self._moved[held.id] = (held, run)

    def _lead(self, group: Group, ids: Iterable[Key]) -> None:
        for key in ids:
            self.groups[key] = group
            group.keys.add(key)


def write(connection: sa.Connection, runs: Iterable[Run]) -> None:
    """Write the runs that are new, which get their ids, or changed."""
    runs = list(runs)
    erasing.keep_away(connection, runs)
    fresh = [run for run in runs if run.fresh]
    for number, run in enumerate(fresh, (_newest(connection) if fresh else 0) + 1):
        run.id = number
    bulk.insert(connection, schema.workload, f"{_COLUMNS} id", map(_row, fresh))
    bulk.insert(connection, schema.identity, "user name erased workload", _named(fresh))
    changed = [run for run in runs if run.changed and not run.fresh]
    bulk.update(connection, schema.workload, _COLUMNS, "id", map(_row, changed))
    bulk.update(connection, schema.identity, "user name erased", "workload", _named(changed))
    labels.write(connection, [run for run in runs if run.relabelled])


def _newest(connection: sa.Connection) -> int:
    """Return the highest number that a run ever had: what was exported stands under it."""
    setting = schema.setting.c
    kept = connection.scalar(sa.select(setting.value).where(setting.key == _NEWEST))
    newest = connection.scalar(sa.select(sa.func.max(schema.workload.c.id)))
    return max(newest or 0, int(kept or 0))


def _keep_newest(connection: sa.Connection) -> None:
    newest = _newest(connection)
    connection.execute(sa.delete(schema.setting).where(schema.setting.c.key == _NEWEST))
    connection.execute(sa.insert(schema.setting).values(key=_NEWEST, value=str(newest)))


def _row(run: Run) -> bulk.Row:
    words = (run.words[name] for name in WORDS)
    ids = (run.cluster, run.manager, run.raw_id, run.other_id, run.token, run.scheduler)
    return (*ids, *words, run.start_ms, run.end_ms, run.id)


def _named(runs: Iterable[Run]) -> list[bulk.Row]:
    return [(run.words["user"], run.words["name"], int(run.erased), run.id) for run in runs]


def _in_pieces(wanted: Iterable[Key]) -> Iterator[tuple[str, list[str]]]:
    """Yield ids by cluster, so many at a time as a statement takes."""
    by_cluster: dict[str, set[str]] = {}
    for cluster, _, one in wanted:
        by_cluster.setdefault(cluster, set()).add(one)
    for cluster, some in by_cluster.items():
        ids = iter(sorted(some))
        while chunk := list(islice(ids, _CHUNK)):
            yield cluster, chunk


def _runs(connection: sa.Connection, wanted: set[Key]) -> Iterator[Run]:
    workload = schema.workload.c
    for cluster, ids in _in_pieces(wanted):
        for column in (workload.raw_id, workload.other_id):
            # The index on other ids leaves out the empty ones, and wants to be told so.
            mine = (workload.cluster == cluster, column.in_(ids), column != "")
            for row in connection.execute(select_runs().where(*mine)):
                if wanted & set(keys(row.cluster, row.manager, row.raw_id, row.other_id)):
                    yield run_of(row)


def select_runs() -> "sa.Select[Any]":
    """Return the query for runs, in the order of their ids; `run_of` reads its rows."""
    identity = schema.identity.c
    return (
        sa.select(schema.workload, identity.user, identity.name, identity.erased)
        .join(schema.identity, identity.workload == schema.workload.c.id)
        .order_by(schema.workload.c.id)
    )


def run_of(row: Any) -> Run:
    """Return the run of a row of `select_runs`."""
    return Run(
        row.id,
        row.cluster,
        row.manager,
        row.raw_id,
        {name: getattr(row, name) for name in (*WORDS, *NAMES)},
        other_id=row.other_id,
        token=row.run,
        scheduler=row.scheduler,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        erased=bool(row.erased),
    )


def _holders(connection: sa.Connection, wanted: set[Key]) -> Iterator[tuple[str, Held]]:
    holder, node = schema.holder.c, schema.node.c
    query = sa.select(schema.holder, node.cluster).join(schema.node, node.id == holder.node)
    for cluster, ids in _in_pieces(wanted):
        for column in (holder.raw_id, holder.other_id):
            mine = (
                column.in_(ids),
                column != "",
                node.cluster == cluster,
                holder.id >= 1 << schema.HOLDER_BITS,
            )
            for row in connection.execute(query.where(*mine)):
                if wanted & set(keys(row.cluster, row.manager, row.raw_id, row.other_id)):
                    yield row.cluster, _held(row)


def _held(row: Any) -> Held:
    return Held(
        row.id,
        row.node,
        row.manager,
        row.raw_id,
        row.other_id,
        row.birth_ms,
        row.seen_ms,
        start_ms=row.start_ms,
        token=row.run,
        workload=row.workload,
    )
