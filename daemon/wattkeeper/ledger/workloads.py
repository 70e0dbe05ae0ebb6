"""Holder -> workload: a map that changes as names arrive; postings never do."""

from collections.abc import Sequence

import sqlalchemy as sa

from wattkeeper.ledger import schema
from wattkeeper.ledger.runs import find_run, new_run
from wattkeeper.ledger.store import Ledger
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.schedulers.base import WorkloadInfo

_WORDS = (
    "cluster", "manager", "raw_id", "job_id", "account", "partition", "namespace", "owner_kind",
    "owner_name", "array", "state",
)  # fmt: skip
_FOREVER_MS = 1 << 60


def record_workloads(ledger: Ledger, workloads: Sequence[WorkloadInfo]) -> None:
    """Take a scheduler's word, in one transaction. It replaces what holders' labels said.

    A run is found again by its manager, raw id and life; one that no holder was seen of yet is
    made, and holders that come late find it.

    Raises:
        LedgerError: the database does not take it.

    """
    with ledger.writing() as connection:
        for info in workloads:
            _record(connection, info)


def _record(connection: sa.Connection, info: WorkloadInfo) -> None:
    words: dict[str, object] = {name: getattr(info, name)[:MAX_LABEL] for name in _WORDS}
    user, name = info.user[:MAX_LABEL], info.name[:MAX_LABEL]
    run = find_run(
        connection,
        str(words["cluster"]),
        str(words["manager"]),
        str(words["raw_id"]),
        info.start_ms or 0,
        _FOREVER_MS if info.end_ms is None else info.end_ms,
    )
    if run is None:
        times = {"start_ms": info.start_ms, "end_ms": info.end_ms}
        new_run(connection, {**words, **times}, user, name)
        return
    known = {name: word for name, word in words.items() if word}
    known |= {"start_ms": info.start_ms} if info.start_ms is not None else {}
    workload, identity = schema.workload, schema.identity
    connection.execute(
        sa.update(workload).where(workload.c.id == run).values(**known, end_ms=info.end_ms)
    )
    who = {key: text for key, text in (("user", user), ("name", name)) if text}
    if who:
        connection.execute(sa.update(identity).where(identity.c.workload == run).values(who))


def erase_identity(ledger: Ledger, user: str) -> int:
    """Forget a user's name and the names of their jobs; figures stay. Returns how many."""
    identity = schema.identity
    with ledger.writing() as connection:
        change = sa.update(identity).where(identity.c.user == user).values(user="", name="")
        return connection.execute(change).rowcount
