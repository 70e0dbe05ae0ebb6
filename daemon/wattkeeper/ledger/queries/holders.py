"""Between holders, which telemetry names, and workloads, which only the ledger names."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.queries.named import Found
from wattkeeper.ledger.queries.scope import Scope, conditions
from wattkeeper.ledger.store import Ledger

_CHUNK = 500
_MARGIN_MS = 3_600_000
"""What is committed of a holder's life may be older than what telemetry has of it."""


class HolderKey(NamedTuple):
    """A holder as the rows of a time-series store name it; `birth_ms` in UTC milliseconds."""

    cluster: str
    manager: str
    raw_id: str
    birth_ms: int


DIMENSIONS = ("user", "account", "partition", "namespace", "job")
"""What the ledger knows of a holder's workload; `job` is its id as people call it."""


@dataclass(frozen=True, slots=True)
class Held:
    """The holders of one run, on which nodes they were, from the first birth to the last sight."""

    keys: frozenset[HolderKey]
    nodes: tuple[str, ...]
    first_ms: int | None
    last_ms: int | None


def holders_of(
    ledger: Ledger,
    wanted: Mapping[str, Collection[str]],
    jobs: AbstractSet[Found] | None,
    since_ms: int,
    until_ms: int,
    scope: Scope | None = None,
) -> set[HolderKey]:
    """Return the holders that lived between two instants and whose workload is wanted.

    `wanted`: the values of DIMENSIONS but `job`; `jobs`: cluster and id, None is any.
    """
    holder = schema.holder.c
    columns = _columns()
    query = _holders().where(
        holder.birth_ms < until_ms,
        holder.seen_ms >= since_ms - _MARGIN_MS,
        *(columns[name].in_(sorted(values)) for name, values in wanted.items()),
        *conditions(scope),
    )
    with ledger.reading() as connection:
        if jobs is None:
            return {_key(row) for row in connection.execute(query)}
        found = set()
        for some in batched(sorted({job for _, job in jobs}), _CHUNK):
            for row in connection.execute(query.where(columns["job"].in_(some))):
                if (row.of_cluster, row.job) in jobs:
                    found.add(_key(row))
        return found


def names_of(ledger: Ledger, keys: Iterable[HolderKey]) -> dict[HolderKey, dict[str, str]]:
    """Return by holder the values of DIMENSIONS; holders that are not known (yet) are left out."""
    wanted = set(keys)
    raw_ids = sorted({key.raw_id for key in wanted})
    named: dict[HolderKey, dict[str, str]] = {}
    with ledger.reading() as connection:
        for some in batched(raw_ids, _CHUNK):
            for row in connection.execute(_holders().where(schema.holder.c.raw_id.in_(some))):
                if (key := _key(row)) in wanted:
                    named[key] = {name: getattr(row, name) for name in DIMENSIONS}
    return named


def held_by(ledger: Ledger, workload: int) -> Held:
    """Return the holders of one run, by the ledger's own id of it."""
    with ledger.reading() as connection:
        own = schema.holder.c.workload == workload
        rows = connection.execute(_holders().where(own)).all()
    return Held(
        keys=frozenset(map(_key, rows)),
        nodes=tuple(sorted({row.node for row in rows})),
        first_ms=min((row.birth_ms for row in rows), default=None),
        last_ms=max((row.seen_ms for row in rows), default=None),
    )


def _columns() -> dict[str, "sa.ColumnElement[str]"]:
    workload = schema.workload.c
    return {
        "user": schema.identity.c.user,
        "account": workload.account,
        "partition": workload.partition,
        "namespace": workload.namespace,
        "job": workload.job_id,
    }


def _holders() -> "sa.Select[tuple[object, ...]]":
    holder, node, workload = schema.holder.c, schema.node.c, schema.workload.c
    return (
        sa.select(
            node.cluster.label("of_cluster"),
            node.name.label("node"),
            holder.manager,
            holder.raw_id,
            holder.birth_ms,
            holder.seen_ms,
            *(column.label(name) for name, column in _columns().items()),
        )
        .join_from(schema.holder, schema.node, node.id == holder.node)
        .join(schema.workload, workload.id == holder.workload)
        .join(schema.identity, schema.identity.c.workload == workload.id)
    )


def _key(row: "sa.Row[tuple[object, ...]]") -> HolderKey:
    return HolderKey(row.of_cluster, row.manager, row.raw_id, row.birth_ms)
