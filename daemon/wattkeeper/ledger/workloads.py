"""Holder -> workload: a map that changes as names arrive; postings never do."""

from collections.abc import Sequence

from wattkeeper.ledger.store import Ledger
from wattkeeper.schedulers.base import WorkloadInfo


def record_workloads(ledger: Ledger, workloads: Sequence[WorkloadInfo]) -> None:
    """Take a scheduler's word, in one transaction. It replaces what holders' labels said."""
    raise NotImplementedError
