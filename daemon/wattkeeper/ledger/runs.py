"""Which run of a workload a holder belongs to, told by lives that touch.

Holders of one manager and raw id on several nodes are one run if their lives overlap or lie within
a minute of each other; a later birth is another run (a requeued job, a reused number).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import sqlalchemy as sa

from wattkeeper.ledger import bulk, schema

TOUCH_MS = 60_000
"""Lives within this of each other are one run: nodes start a job one after the other."""
WORDS = (
    "job_id", "account", "partition", "namespace", "owner_kind", "owner_name", "array", "state",
)  # fmt: skip
"""What is said of a workload, beside the names in `identity`."""
NAMES = ("user", "name")

Key = tuple[str, str, str]
"""Cluster, manager and raw id."""


@dataclass(slots=True)
class Run:
    """One run: its words and names, the scheduler's times, and the life of its holders."""

    id: int
    key: Key
    words: dict[str, str]
    start_ms: int | None = None
    end_ms: int | None = None
    born_ms: int | None = None
    seen_ms: int | None = None
    fresh: bool = False
    changed: bool = False

    def touches(self, start_ms: int, end_ms: int) -> bool:
        """Tell whether [start, end] overlaps this life or lies within a minute of it."""
        begins = [at for at in (self.start_ms, self.born_ms) if at is not None]
        ends = [at for at in (self.end_ms, self.seen_ms, *begins) if at is not None]
        if not begins:
            return True
        return min(begins) - TOUCH_MS <= end_ms and start_ms <= max(ends) + TOUCH_MS

    def live(self, born_ms: int, seen_ms: int) -> None:
        """Stretch the life over that of another holder."""
        self.born_ms = born_ms if self.born_ms is None else min(self.born_ms, born_ms)
        self.seen_ms = seen_ms if self.seen_ms is None else max(self.seen_ms, seen_ms)

    def say(self, words: dict[str, str], *, replace: bool) -> None:
        """Take words that are not empty; without `replace` only where nothing is known."""
        for name, word in words.items():
            known = self.words[name]
            nameless = not known or (name == "job_id" and known == self.key[2])
            if word and word != known and (replace or nameless):
                self.words[name] = word
                self.changed = True

    def row(self) -> tuple[object, ...]:
        """Return the values of its row in `workload`, the id last."""
        words = (self.words[name] for name in WORDS)
        return (*self.key, *words, self.start_ms, self.end_ms, self.id)


@dataclass(slots=True)
class Runs:
    """The runs of some keys, read once, changed in memory, saved once."""

    connection: sa.Connection
    by_key: dict[Key, list[Run]] = field(default_factory=dict)
    next_id: int = 1

    @classmethod
    def load(cls, connection: sa.Connection, keys: Iterable[Key]) -> "Runs":
        """Read every run of these keys with its life."""
        wanted = set(keys)
        newest = connection.execute(sa.select(sa.func.max(schema.workload.c.id))).scalar()
        runs = cls(connection, {key: [] for key in wanted}, (newest or 0) + 1)
        ids = iter(sorted({raw_id for _, _, raw_id in wanted}))
        while chunk := list(islice(ids, 500)):
            for row in connection.execute(_lives(chunk)):
                own = runs.by_key.get((row.cluster, row.manager, row.raw_id))
                if own is not None:
                    own.append(_run(row))
        return runs

    def find(self, key: Key, start_ms: int, end_ms: int) -> Run | None:
        """Return the newest run whose life touches [start, end]."""
        for run in reversed(self.by_key[key]):
            if run.touches(start_ms, end_ms):
                return run
        return None

    def new(self, key: Key) -> Run:
        """Begin another run, called by its raw id until it is given a name."""
        words = dict.fromkeys((*WORDS, *NAMES), "") | {"job_id": key[2]}
        run = Run(self.next_id, key, words, fresh=True)
        self.next_id += 1
        self.by_key[key].append(run)
        return run

    def save(self) -> None:
        """Write what is new or changed."""
        runs = [run for own in self.by_key.values() for run in own]
        columns = "cluster manager raw_id " + " ".join(WORDS) + " start_ms end_ms id"
        fresh = [run for run in runs if run.fresh]
        bulk.insert(self.connection, schema.workload, columns, [run.row() for run in fresh])
        bulk.insert(self.connection, schema.identity, "user name workload", _names(fresh))
        changed = [run for run in runs if run.changed and not run.fresh]
        rows = [run.row() for run in changed]
        bulk.update(self.connection, schema.workload, columns.removesuffix(" id"), "id", rows)
        bulk.update(self.connection, schema.identity, "user name", "workload", _names(changed))


def _names(runs: Sequence[Run]) -> list[bulk.Row]:
    return [(run.words["user"], run.words["name"], run.id) for run in runs]


def _lives(raw_ids: Sequence[str]) -> "sa.Select[tuple[object, ...]]":
    workload, holder, identity = schema.workload.c, schema.holder.c, schema.identity.c
    return (
        sa.select(
            schema.workload,
            identity.user,
            identity.name,
            sa.func.min(holder.birth_ms).label("born_ms"),
            sa.func.max(holder.seen_ms).label("seen_ms"),
        )
        .join(schema.identity, identity.workload == workload.id)
        .outerjoin(schema.holder, holder.workload == workload.id)
        .where(workload.raw_id.in_(raw_ids))
        .group_by(workload.id, identity.user, identity.name)
        .order_by(workload.id)
    )


def _run(row: "sa.Row[tuple[object, ...]]") -> Run:
    words = {name: str(getattr(row, name)) for name in (*WORDS, *NAMES)}
    key = (row.cluster, row.manager, row.raw_id)
    return Run(row.id, key, words, row.start_ms, row.end_ms, row.born_ms, row.seen_ms)
