"""What the numbers of journals' dictionaries stand for, as committed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.roster import gpu_index
from wattkeeper.ledger.schema import HOLDER_BITS
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.meter import Component, MeterInfo

T = TypeVar("T")

_CHUNK = 500
"""Values in one IN list; SQLite takes 32,766 variables, PostgreSQL plans short lists better."""


MeterName = tuple[str, str, int | None]
"""Name, component, and a GPU's index on its node."""


def meter_names(ledger: Ledger, journals: Iterable[str]) -> dict[str, dict[int, MeterName]]:
    """Return by journal and number what each meter is, as committed."""
    named: dict[str, dict[int, MeterName]] = {}
    for (journal, number), info in meter_infos(ledger, journals).items():
        index = gpu_index(info.component, info.labels)
        named.setdefault(journal, {})[number] = (info.name, info.component, index)
    return named


def meter_infos(ledger: Ledger, journals: Iterable[str]) -> dict[tuple[str, int], MeterInfo]:
    """Return by journal and number what each meter is."""
    journal, mapped, meter = schema.journal.c, schema.journal_meter.c, schema.meter.c
    query = (
        sa.select(
            journal.name.label("journal"),
            mapped.number,
            meter.name,
            meter.component,
            meter.source,
            meter.labels,
        )
        .join(schema.journal_meter, mapped.journal == journal.id)
        .join(schema.meter, meter.id == mapped.meter)
    )
    with ledger.reading() as connection:
        return {
            (row.journal, row.number): MeterInfo(
                row.name, Component(row.component), row.source, json.loads(row.labels or "{}")
            )
            for chunk in _chunks(sorted(journals))
            for row in connection.execute(query.where(journal.name.in_(chunk)))
        }


def holder_keys(
    ledger: Ledger, holders: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], tuple[str, str, int]]:
    """Return by (journal, number) the manager, raw id and birth of each holder that is known."""
    holder = schema.holder.c
    query = sa.select(holder.id, holder.manager, holder.raw_id, holder.birth_ms)
    with ledger.reading() as connection:
        ids = holder_ids(connection, holders)
        return {
            ids[row.id]: (row.manager, row.raw_id, row.birth_ms)
            for some in _chunks(sorted(ids))
            for row in connection.execute(query.where(holder.id.in_(some)))
        }


def holder_accounts(
    ledger: Ledger, holders: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], tuple[str, str]]:
    """Return by (journal, number) the cluster and account of the workload behind each holder.

    Holders whose workload is not known (yet) are left out.
    """
    found: dict[tuple[str, int], tuple[str, str]] = {}
    holder, workload = schema.holder.c, schema.workload.c
    with ledger.reading() as connection:
        ids = holder_ids(connection, holders)
        query = sa.select(holder.id, workload.cluster, workload.account).join(
            schema.workload, workload.id == holder.workload
        )
        for some in _chunks(sorted(ids)):
            for number, cluster, account in connection.execute(query.where(holder.id.in_(some))):
                found[ids[number]] = (cluster, account)
    return found


def granted_accounts(ledger: Ledger) -> dict[tuple[str, str, int], set[str]]:
    """Return by cluster, node and index of a GPU the accounts whose runs it is granted to now."""
    grant, workload = schema.granted.c, schema.workload.c
    query = (
        sa.select(grant.cluster, grant.node, grant.gpus, workload.account)
        .join_from(schema.granted, schema.workload, workload.id == grant.workload)
        .where(grant.seen_ms.is_(None), grant.to_ms.is_(None))
    )
    granted: dict[tuple[str, str, int], set[str]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(query):
            for index in row.gpus.split(","):
                granted.setdefault((row.cluster, row.node, int(index)), set()).add(row.account)
    return granted


def holder_ids(
    connection: sa.Connection, holders: Iterable[tuple[str, int]]
) -> dict[int, tuple[str, int]]:
    """Return (journal, number) by the holder's id in the ledger."""
    wanted = set(holders)
    journal = schema.journal.c
    bases: dict[str, int] = {}
    for chunk in _chunks(sorted({name for name, _ in wanted})):
        query = sa.select(journal.name, journal.id).where(journal.name.in_(chunk))
        bases |= {row.name: row.id for row in connection.execute(query)}
    return {
        bases[name] << HOLDER_BITS | number: (name, number)
        for name, number in wanted
        if name in bases
    }


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
