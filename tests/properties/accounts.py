"""What a story's windows, postings and settlements say: who is charged for what."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from tests.ledger.books import Journal
from tests.properties.fakes import ZERO_MS
from wattkeeper.delivery.wire import decode_record
from wattkeeper.ledger import schema
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import HolderInfo
from wattkeeper.model.window import Split, Window

Payer = tuple[str, int] | int
"""A holder by its raw id and birth (UTC), or the number of an account."""


class Charge(NamedTuple):
    """A share of a window; `begin` and `end` in ms since the story began."""

    payer: Payer
    meter: str
    begin: int
    end: int
    uj: int


def charges(journal: Journal) -> Iterator[Charge]:
    """Yield every share of the windows that a node delivered."""
    for payload in journal.records:
        window = decode_record(payload)
        if isinstance(window, Window):
            meter, zero_ms = journal.meters[window.meter].name, window.start_ms - ZERO_MS
            for share in window.shares:
                payer = _payer(journal.holders.get(share.holder), share.holder)
                yield Charge(payer, meter, zero_ms + share.from_ms, zero_ms + share.to_ms, share.uj)


def _payer(info: HolderInfo | None, number: int) -> Payer:
    return number if info is None else (info.raw_id, info.birth_ms)


def postings(ledger: Ledger) -> list[Any]:
    """Return every posting with its meter, holder and run."""
    posting, holder, run = schema.posting.c, schema.holder.c, schema.workload.c
    query = (
        sa.select(
            schema.posting, schema.meter.c.name,
            holder.raw_id, holder.birth_ms,
            run.raw_id.label("run_of"), run.run, run.start_ms, run.end_ms, run.state,
        )
        .join(schema.meter, schema.meter.c.id == posting.meter)
        .outerjoin(schema.holder, holder.id == posting.holder)
        .outerjoin(schema.workload, run.id == holder.workload)
    )  # fmt: skip
    with ledger.reading() as connection:
        return list(connection.execute(query))


def posted(ledger: Ledger) -> dict[tuple[Payer, str], int]:
    """Return the µJ that nodes booked, by payer and meter."""
    sums: Counter[tuple[Payer, str]] = Counter()
    for row in postings(ledger):
        if row.split != Split.SETTLED:
            payer = (row.raw_id, row.birth_ms) if row.raw_id else row.holder
            sums[payer, row.name] += row.uj
    return {key: uj for key, uj in sums.items() if uj}


def everything(ledger: Ledger) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Return all that is posted, by slot, meter, payer with its run, and kind."""
    sums: dict[tuple[object, ...], tuple[int, ...]] = {}
    for row in postings(ledger):
        run = (row.raw_id, row.birth_ms, row.run_of, row.run, row.start_ms, row.end_ms, row.state)
        payer = run if row.raw_id else row.holder
        key = (row.slot, row.name, payer, row.method, row.split, row.policy)
        more = (row.uj, row.ms, row.idle_uj, row.idle_ms)
        sums[key] = tuple(map(sum, zip(sums.get(key, (0, 0, 0, 0)), more, strict=True)))
    return {key: figures for key, figures in sums.items() if any(figures)}


def settlements(ledger: Ledger) -> list[Any]:
    """Return what was settled of each stretch, with the stretch and the run that pays."""
    idle, settled, holder = schema.idle.c, schema.settled.c, schema.holder.c
    run, meter = schema.workload.c, schema.meter.c
    query = (
        sa.select(
            idle.from_ms, idle.to_ms, idle.uj.label("idle_uj"), settled.uj, settled.ms,
            run.raw_id, run.run, meter.name,
        )
        .join(schema.idle, idle.id == settled.idle)
        .join(schema.meter, meter.id == idle.meter)
        .join(schema.holder, holder.id == settled.holder)
        .join(schema.workload, run.id == holder.workload)
    )  # fmt: skip
    with ledger.reading() as connection:
        return list(connection.execute(query))
