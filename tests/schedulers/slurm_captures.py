"""True output of Slurm 22.05, 25.11 and 26.05, and what was submitted to get it.

The files in `tests/fixtures/slurm/<version>` are what real daemons said. Those in `documented` are
written by hand from SchedMD's documentation of the versions between, which we could not run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from wattkeeper.schedulers.base import WorkloadInfo
from wattkeeper.schedulers.slurm_accounting import AccountReader, AccountRecord
from wattkeeper.schedulers.slurm_jobs import JobReader, JobRecord
from wattkeeper.schedulers.slurm_records import Records

FIXTURES = Path(__file__).parents[1] / "fixtures/slurm"
NOW_MS = 1_795_427_000_000
"""While the jobs of the captures ran: the day of all of them."""

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R")

TYPES = {"n4": 4}
"""Of the eight GPUs of a node, so many are A100; on the others all are H100."""

GPUS = {
    "timeout": 1, "gpu_short": 2, "steps": 2, "exit3": 1, "sigkill": 1, "resized": 2,
    "cancel_running": 1, "array_done": 1, "cpu_only_done": 0, "other_user": 2, "mixed": 2,
    "a100": 2, "node_fail_job": 1, "exclusive": 8, "gpu1": 1, "gpu2": 2, "multinode": 8,
    "array": 1, "array_limit": 1, "gpus_opt": 5, "gpus_per_node": 4, "gpus_per_task": 2,
    "annotated": 1, "requeued": 1, "two_steps": 2, "cpu_only": 0, "suspended": 1,
    "interactive": 1,
}  # fmt: skip
"""By the name of a job, how many GPUs it asked for; `het` asked for 1 and 2."""
BOB = {"cpu_only_done", "other_user", "cpu_only"}
CHEM = {*BOB, "annotated"}
HOSTILE = "q\"uote's \\ and\nnewline ünïcode ☃ 日本 "


def records(file: str, kind: type[T]) -> list[T]:
    """Return the records of a capture, read in chunks that end anywhere."""
    body = (FIXTURES / file).read_bytes()
    return list(Records((body[at : at + 7919] for at in range(0, len(body), 7919)), kind))


def readable(read: Callable[[T], R | None], found: list[T]) -> list[R]:
    """Return what is kept of records."""
    return [kept for kept in map(read, found) if kept is not None]


def jobs(file: str, *, now_ms: int = NOW_MS, since_ms: int = 0) -> list[WorkloadInfo]:
    """Return the runs in a capture of slurmctld."""
    return readable(JobReader("demo", now_ms, since_ms).read, records(file, JobRecord))


def accounts(file: str, slurm_cluster: str = "demo") -> list[WorkloadInfo]:
    """Return the runs in a capture of slurmdbd."""
    return readable(AccountReader("demo", slurm_cluster).read, records(file, AccountRecord))
