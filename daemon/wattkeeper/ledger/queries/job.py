"""What a job used, and which jobs there are."""

from dataclasses import dataclass

from wattkeeper.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a workload, as in DESIGN's `A job`; energies in whole microjoules.

    `run` counts the runs of this id from 1, `runs` how many there are. `end_ms` is None while it
    runs. `peak_watts` is the greatest sum over its meters, of the highest window in a slot.
    `gpu_seconds` is time held, by GPU. `coverage` is the metered part of its meters' time.
    `as_of_ms`: up to when its holders were seen.
    """

    cluster: str
    job_id: str
    raw_id: str
    run: int
    runs: int
    manager: str
    user: str
    account: str
    partition: str
    namespace: str
    owner_kind: str
    owner_name: str
    array: str
    name: str
    state: str
    start_ms: int | None
    end_ms: int | None
    nodes: list[str]
    energy_uj: int
    energy_by_component_uj: dict[str, int]
    energy_by_source_uj: dict[str, int]
    energy_by_split_uj: dict[str, int]
    allocated_idle_uj: int
    mean_watts: float | None
    peak_watts: float | None
    gpu_seconds: float
    coverage: float | None
    as_of_ms: int | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: None is any. `since_ms`, `until_ms`: lived at some instant in between."""

    cluster: str | None = None
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    state: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    limit: int = 1000


def job(ledger: Ledger, cluster: str, key: str, run: int | None = None) -> Job | None:
    """Return the newest run (or the given one) of a job by its id or raw id, None if unknown."""
    raise NotImplementedError


def jobs(ledger: Ledger, which: JobFilter) -> list[Job]:
    """Return the jobs that match, the newest first."""
    raise NotImplementedError
