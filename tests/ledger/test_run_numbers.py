"""The ids of runs."""

import sqlalchemy as sa
from tests.ledger.books import T0, Journal, Meter
from tests.ledger.settling import run

from wattkeeper.ledger import schema
from wattkeeper.ledger.intake import Intake
from wattkeeper.ledger.store import Ledger
from wattkeeper.ledger.workloads import record_knowledge
from wattkeeper.model.holder import HolderInfo
from wattkeeper.schedulers.base import Knowledge


def _ids(ledger: Ledger) -> dict[str, list[int]]:
    workload = schema.workload.c
    found: dict[str, list[int]] = {}
    with ledger.reading() as connection:
        for row in connection.execute(sa.select(workload.id, workload.raw_id)):
            found.setdefault(row.raw_id, []).append(row.id)
    return found


def test_the_number_of_a_run_is_never_given_again(ledger: Ledger, intake: Intake) -> None:
    """What was exported of a run that proved to be another's is not the next job's."""
    for name, born_ms in (("n1", T0), ("n2", T0 + 300_000)):
        journal = Journal(name=f"journal-{name}", node=name)
        journal.holders[16] = HolderInfo("slurm", "7", born_ms, {})
        meter = Meter(journal, 1, f"gpu/GPU-{name}", at_ms=born_ms)
        meter.point()
        meter.run(3, (16, 1_000))
        journal.deliver(intake, T0 + 600_000)
    intake.commit_sync()
    assert _ids(ledger) == {"7": [1, 2]}
    record_knowledge(ledger, "slurm", Knowledge([run(7, T0)], T0 + 600_000), now_ms=T0 + 600_000)
    assert _ids(ledger) == {"7": [1]}
    told = [run(7, T0), run(8, T0 + 600_000)]
    record_knowledge(ledger, "slurm", Knowledge(told, T0 + 630_000), now_ms=T0 + 630_000)
    assert _ids(ledger) == {"7": [1], "8": [3]}
