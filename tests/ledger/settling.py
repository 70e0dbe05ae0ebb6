"""A GPU whose node books to `idle` what a scheduler had granted, and what was settled of it."""

import sqlalchemy as sa
from tests.ledger.books import Journal, Meter

from wattkeeper.ledger import schema
from wattkeeper.ledger.grants import granting_clusters
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.settlement import settle
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.meter import Component, MeterInfo
from wattkeeper.schedulers.base import Knowledge, NodeGpus, NodeInfo, WorkloadInfo

NODES = (NodeInfo("c", "n1", 8, "IDLE"),)


def gpu(journal: Journal, index: int = 0, at_ms: int | None = None) -> Meter:
    """Return the meter of a GPU with its index, as the NVML source describes it."""
    meter = Meter(journal, index + 1, f"gpu/GPU-{index}")
    info = MeterInfo(meter.name, Component.GPU, "nvml", {"gpu": str(index)})
    journal.meters[meter.number] = info
    if at_ms is not None:
        meter.at_ms = at_ms
    return meter


def run(
    number: int, start_ms: int, *gpus: int, end_ms: int | None = None, user: str = ""
) -> WorkloadInfo:
    """Return a run of a Slurm job on n1."""
    return WorkloadInfo(
        cluster="c",
        manager="slurm",
        raw_id=str(number),
        job_id=str(number),
        user=user,
        state="RUNNING" if end_ms is None else "COMPLETED",
        start_ms=start_ms,
        end_ms=end_ms,
        nodes=("n1",),
        gpus=(NodeGpus("n1", gpus),) if gpus else (),
    )


def answer(ledger: Ledger, intake: Intake, at_ms: int, *runs: WorkloadInfo) -> None:
    """Take an answer of Slurm, and let the intake know, as the aggregator does."""
    record_knowledge(ledger, "slurm", Knowledge(runs, at_ms, nodes=NODES), now_ms=at_ms)
    intake.follow_grants(granting_clusters(ledger, at_ms))


def settle_all(ledger: Ledger, now_ms: int) -> None:
    """Settle until nothing is left to do."""
    while settle(ledger, now_ms):
        pass


def settled(ledger: Ledger) -> dict[str, tuple[int, int]]:
    """Return what was settled by raw id, `idle` too: (µJ, ms)."""
    posting, holder, workload = schema.posting.c, schema.holder.c, schema.workload.c
    query = (
        sa.select(workload.raw_id, posting.uj, posting.ms, posting.idle_uj, posting.idle_ms)
        .select_from(schema.posting)
        .outerjoin(schema.holder, holder.id == posting.holder)
        .outerjoin(schema.workload, workload.id == holder.workload)
        .where(posting.split == 2)
    )
    found: dict[str, tuple[int, int]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(query):
            name = row.raw_id or "idle"
            if row.raw_id:
                assert (row.idle_uj, row.idle_ms) == (row.uj, row.ms)
            uj, ms = found.get(name, (0, 0))
            found[name] = (uj + row.uj, ms + row.ms)
    return found


def waiting(ledger: Ledger) -> list[tuple[int, int, int, bool]]:
    """Return the stretches that are kept: (from, to, µJ, whether it waits)."""
    table = schema.idle.c
    query = sa.select(table.from_ms, table.to_ms, table.uj, table.keep_ms.is_(None))
    with ledger.reading() as connection:
        return [
            (a, b, uj, bool(waits))
            for a, b, uj, waits in connection.execute(query.order_by(table.from_ms, table.id))
        ]
