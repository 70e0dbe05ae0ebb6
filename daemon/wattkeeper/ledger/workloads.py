"""The scheduler's word: holder -> workload is a map that changes; postings never do."""

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.runs import NAMES, WORDS, Key, Run, Runs
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import Knowledge, WorkloadInfo

_FOREVER_MS = 1 << 60


def record_knowledge(ledger: Ledger, scheduler: str, knowledge: Knowledge) -> None:
    """Take a scheduler's word, in one transaction. It replaces what holders' labels said.

    `scheduler`: its name, under which its grants and its inventory stand.

    A run is found again by its manager, raw id and life; one that no holder was seen of yet is
    made, and holders that come late find it.

    Raises:
        LedgerError: the database does not take it.

    """
    workloads = knowledge.workloads
    if not workloads:
        return
    with ledger.writing() as connection:
        runs = Runs.load(connection, (_key(info) for info in workloads))
        for info in workloads:
            _record(runs, info)
        runs.save()


def erase_identity(ledger: Ledger, user: str) -> int:
    """Forget a user's name and the names of their jobs; figures stay. Returns how many."""
    identity = schema.identity
    with ledger.writing() as connection:
        change = sa.update(identity).where(identity.c.user == user).values(user="", name="")
        return connection.execute(change).rowcount


def _key(info: WorkloadInfo) -> Key:
    return info.cluster[:MAX_LABEL], info.manager[:MAX_LABEL], info.raw_id[:MAX_LABEL]


def _record(runs: Runs, info: WorkloadInfo) -> None:
    key = _key(info)
    end_ms = _FOREVER_MS if info.end_ms is None else info.end_ms
    run: Run = runs.find(key, info.start_ms or 0, end_ms) or runs.new(key)
    words = {name: getattr(info, name)[:MAX_LABEL] for name in (*WORDS, *NAMES)}
    run.say(words, replace=True)
    start_ms = run.start_ms if info.start_ms is None else info.start_ms
    if (run.start_ms, run.end_ms) != (start_ms, info.end_ms):
        run.start_ms, run.end_ms = start_ms, info.end_ms
        run.changed = True
