"""What single jobs are asked for beside their sums: when they used energy, and on what."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.queries.energy import meters_of, slots_of
from wattkeeper.ledger.queries.grain import grain
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.sums import parts, whole
from wattkeeper.model.grid import DAY_MS, ceil
from wattkeeper.model.meter import Component


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices of one kind whose energy is in a job's: `model` is empty where it is not told."""

    component: str
    model: str
    count: int


def job_span(ledger: Ledger, workload: int) -> tuple[int, int] | None:
    """Return the whole days and slots that a run's energy lies in, None if it used nothing."""
    with ledger.reading() as connection:
        first, last = slots_of(connection, workload)
    if first is None or last is None:
        return None
    return first, ceil(last, ledger.slot_ms)


def job_energy(
    ledger: Ledger, workload: int, span: tuple[int, int], lines: Iterable[int]
) -> dict[int, int]:
    """Return a run's microjoules by an instant of when it used them.

    `span`: as `job_span` says. No sum lies on both sides of one of `lines`, instants on slot lines.
    """
    posting, rollup = schema.posting.c, schema.rollup.c
    finely = grain(lines, *span)
    fine = finely.fine if finely else ()
    told: dict[int, int] = {}
    with ledger.reading() as connection:
        holders = sa.select(schema.holder.c.id).where(schema.holder.c.workload == workload)
        days = (
            sa.select(rollup.day, *parts(rollup.uj))
            .where(
                rollup.holder.in_(holders),
                *(sa.or_(rollup.day < a // DAY_MS, rollup.day >= b // DAY_MS) for a, b in fine),
            )
            .group_by(rollup.day)
        )
        for row in connection.execute(days):
            told[row.day * DAY_MS] = whole(row.uj_high, row.uj_low)
        step_ms = finely.step_ms if finely else DAY_MS
        for from_ms, to_ms in fine:
            at = (posting.slot // step_ms * step_ms).label("at")
            slots = (
                sa.select(at, *parts(posting.uj))
                .where(
                    posting.slot >= from_ms,
                    posting.slot < to_ms,
                    posting.meter.in_(meters_of(workload)),
                    posting.holder.in_(holders),
                )
                .group_by(at)
            )
            for row in connection.execute(slots):
                told[row.at] = told.get(row.at, 0) + whole(row.uj_high, row.uj_low)
    return told


def job_hardware(ledger: Ledger, workload: int) -> list[Hardware]:
    """Return the GPUs, by model, and the processor sockets that a run's energy was metered on."""
    meter = schema.meter.c
    query = sa.select(meter.component, meter.name, meter.node, meter.labels).where(
        meter.id.in_(meters_of(workload))
    )
    found: Counter[tuple[str, str]] = Counter()
    sockets: set[tuple[int, str]] = set()
    with ledger.reading() as connection:
        for row in connection.execute(query):
            if row.component == Component.GPU:
                labels = json.loads(row.labels or "{}")
                found[row.component, str(labels.get("model", ""))] += 1
            elif row.component == Component.CPU:
                sockets.add((row.node, "/".join(row.name.split("/")[:2])))
    if sockets:
        found[Component.CPU.value, ""] = len(sockets)
    return [Hardware(*key, count) for key, count in sorted(found.items())]
