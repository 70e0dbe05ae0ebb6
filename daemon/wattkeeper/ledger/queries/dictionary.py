"""What the numbers of a journal's dictionary stand for, for live views."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.roster import gpu_index
from wattkeeper.ledger.schema import HOLDER_BITS
from wattkeeper.ledger.store import Ledger

T = TypeVar("T")

_CHUNK = 500
"""Values in one IN list; SQLite takes 32,766 variables, PostgreSQL plans short lists better."""


MeterName = tuple[str, str, int | None]
"""Name, component, and a GPU's index on its node."""


def meter_names(ledger: Ledger, journals: Iterable[str]) -> dict[str, dict[int, MeterName]]:
    """Return by journal and number what each meter is, as committed."""
    named: dict[str, dict[int, MeterName]] = {}
    journal, mapped, meter = schema.journal.c, schema.journal_meter.c, schema.meter.c
    query = (
        sa.select(journal.name, mapped.number, meter.name, meter.component, meter.labels)
        .join(schema.journal_meter, mapped.journal == journal.id)
        .join(schema.meter, meter.id == mapped.meter)
    )
    with ledger.reading() as connection:
        for chunk in _chunks(sorted(journals)):
            for name, number, meter_name, component, labels in connection.execute(
                query.where(journal.name.in_(chunk))
            ):
                index = gpu_index(component, json.loads(labels or "{}"))
                named.setdefault(name, {})[number] = (meter_name, component, index)
    return named


def holder_accounts(
    ledger: Ledger, holders: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], tuple[str, str]]:
    """Return by (journal, number) the cluster and account of the workload behind each holder.

    Holders whose workload is not known (yet) are left out.
    """
    wanted = sorted(set(holders))
    found: dict[tuple[str, int], tuple[str, str]] = {}
    journal, holder, workload = schema.journal.c, schema.holder.c, schema.workload.c
    with ledger.reading() as connection:
        ids: dict[int, tuple[str, int]] = {}
        for chunk in _chunks(sorted({name for name, _ in wanted})):
            numbered = connection.execute(
                sa.select(journal.name, journal.id).where(journal.name.in_(chunk))
            )
            bases = {row.name: row.id for row in numbered}
            for name, number in wanted:
                if name in bases:
                    ids[bases[name] << HOLDER_BITS | number] = (name, number)
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


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
