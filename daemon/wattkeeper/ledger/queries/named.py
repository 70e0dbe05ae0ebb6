"""Which jobs people mean by an id: a job, an array, a heterogeneous job, the scheduler's own id."""

import re
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.queries.scope import Scope, conditions
from wattkeeper.ledger.store import Ledger

MAX_COMPONENTS = 128
"""Components that Slurm lets a heterogeneous job have."""

_NUMBER = re.compile(r"(\d+)")

Found = tuple[str, str]
"""Cluster and id of a job."""


def named(
    ledger: Ledger, typed: Sequence[str], cluster: str | None = None, scope: Scope | None = None
) -> list[Found]:
    """Return cluster and id of the jobs that the typed ids mean, in their order, without doubles.

    An id is an array's (`123`: every task of it), a heterogeneous job's (`22`: its components
    `22+0`, `22+1`), a job's (`123_4`, a pod's name), or the id that its scheduler has for it (the
    number of an array task, a SLUID, a pod's UID): the first of these that there is in the scope.
    """
    workload = schema.workload.c
    columns = (workload.array, workload.job_id, workload.raw_id, workload.other_id)
    meant: list[dict[str, set[Found]]] = [{}, {}, {}, {}]
    with ledger.reading() as connection:
        clusters = _clusters(connection) if cluster is None else [cluster]
        for some in batched(list(dict.fromkeys(typed)), 500):
            for column, found in zip(columns, meant, strict=True):
                _find(connection, clusters, column, [str(one) for one in some], found, scope)
        arrays, jobs, *others = meant
        lone = [one for one in typed if one.isdecimal() and one not in jobs and one not in arrays]
        components = _components(connection, clusters, lone, scope)
    result: dict[Found, None] = {}
    for one in typed:
        whole = arrays.get(one) or components.get(one) or jobs.get(one)
        own = whole or set().union(*(found.get(one, set()) for found in others))
        result.update(dict.fromkeys(sorted(own, key=_order)))
    return list(result)


def _clusters(connection: sa.Connection) -> list[str]:
    return sorted(connection.scalars(sa.select(schema.workload.c.cluster).distinct()))


def _find(
    connection: sa.Connection,
    clusters: Sequence[str],
    column: "sa.ColumnElement[str]",
    ids: Sequence[str],
    found: dict[str, set[Found]],
    scope: Scope | None,
) -> None:
    workload = schema.workload.c
    query = (
        sa.select(column.label("typed"), workload.cluster, workload.job_id)
        .join(schema.identity, schema.identity.c.workload == workload.id)
        .where(*conditions(scope))
        .distinct()
    )
    mine = (workload.cluster.in_(clusters), column.in_(ids), column != "")
    for row in connection.execute(query.where(*mine)):
        found.setdefault(row.typed, set()).add((row.cluster, row.job_id))


def _components(
    connection: sa.Connection, clusters: Sequence[str], ids: Iterable[str], scope: Scope | None
) -> dict[str, set[Found]]:
    """Return the components of heterogeneous jobs; the first one has the job's own number."""
    workload = schema.workload.c
    firsts: dict[str, set[Found]] = {}
    for some in batched([f"{one}+0" for one in ids], 500):
        _find(connection, clusters, workload.job_id, [str(one) for one in some], firsts, scope)
    found: dict[str, set[Found]] = {}
    for first in firsts:
        job = first.removesuffix("+0")
        parts: dict[str, set[Found]] = {}
        names = [f"{job}+{number}" for number in range(MAX_COMPONENTS)]
        _find(connection, clusters, workload.job_id, names, parts, scope)
        found[job] = set().union(*parts.values())
    return found


def _order(found: Found) -> tuple[str, list[tuple[int, str]]]:
    """Order ids as people count: `20_9` before `20_10`."""
    pieces = _NUMBER.split(found[1])
    return found[0], [(int(piece) if piece.isdecimal() else -1, piece) for piece in pieces]
