"""Whose a device is now: by the holders that its node sees, or by what a scheduler granted."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.dictionary import holder_ids
from wattkeeper.ledger.queries.energy import batched
from wattkeeper.ledger.store import Ledger


class Whose(NamedTuple):
    """A workload by what people tell it apart. Empty text is not known."""

    cluster: str
    job: str
    user: str = ""
    account: str = ""
    partition: str = ""
    name: str = ""


def columns() -> tuple[Any, ...]:
    """Return the columns that a `Whose` is made of."""
    workload = schema.workload.c
    return (
        workload.cluster,
        workload.job_id.label("job"),
        schema.identity.c.user,
        workload.account,
        workload.partition,
        schema.identity.c.name,
    )


def whose_holders(
    ledger: Ledger, holders: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Whose]:
    """Return by (journal, number) whose each holder is; those not known (yet) are left out."""
    holder = schema.holder.c
    query = (
        sa.select(holder.id, *columns())
        .join_from(schema.holder, schema.workload, schema.workload.c.id == holder.workload)
        .join(schema.identity, schema.identity.c.workload == holder.workload)
    )
    found: dict[tuple[str, int], Whose] = {}
    with ledger.reading() as connection:
        ids = holder_ids(connection, holders)
        for some in batched(sorted(ids), 500):
            for number, *names in connection.execute(query.where(holder.id.in_(some))):
                found[ids[number]] = Whose(*names)
    return found


def whose_grants(ledger: Ledger) -> dict[tuple[str, str, int], list[Whose]]:
    """Return by cluster, node and index of a GPU the runs that it is granted to now."""
    grant, workload = schema.granted.c, schema.workload.c
    query = (
        sa.select(grant.cluster, grant.node, grant.gpus, *columns())
        .join_from(schema.granted, schema.workload, workload.id == grant.workload)
        .join(schema.identity, schema.identity.c.workload == workload.id)
        .where(grant.seen_ms.is_(None), grant.to_ms.is_(None))
    )
    granted: dict[tuple[str, str, int], list[Whose]] = {}
    with ledger.reading() as connection:
        for cluster, node, gpus, *names in connection.execute(query):
            for index in filter(None, gpus.split(",")):
                granted.setdefault((cluster, node, int(index)), []).append(Whose(*names))
    return granted


def whose_silent(
    connection: sa.Connection, nodes: Iterable[int], slack_ms: int
) -> dict[int, set[Whose]]:
    """Return by node, of those that fell silent, whose workloads were on it to the end.

    A holder that was seen until `slack_ms` before its node's last delivery, and whose workload has
    not ended since, by its scheduler's word.
    """
    holder, node, workload = schema.holder.c, schema.node.c, schema.workload.c
    query = (
        sa.select(holder.node, *columns())
        .join_from(schema.holder, schema.node, node.id == holder.node)
        .join(schema.workload, workload.id == holder.workload)
        .join(schema.identity, schema.identity.c.workload == holder.workload)
        .where(holder.seen_ms >= node.seen_ms - slack_ms, workload.end_ms.is_(None))
    )
    found: dict[int, set[Whose]] = {}
    for some in batched(sorted(nodes), 500):
        for number, *names in connection.execute(query.where(holder.node.in_(some))):
            found.setdefault(number, set()).add(Whose(*names))
    return found
