"""The answer of `/v1/report`."""

from typing import Literal

from pydantic import Field

from wattkeeper.aggregator.answers import Answer, FactorUsed, Instant, Microjoules, Valued


class JobRef(Answer):
    """A job by its cluster and id."""

    cluster: str
    job_id: str


class JobEnergies(Answer):
    """How energy spreads over the jobs of a group."""

    least_uj: Microjoules
    median_uj: Microjoules
    most_uj: Microjoules
    most_job: JobRef | None = Field(description="the one that used most")


class ReportRow(Valued):
    """One row: a group of workloads (`kind` group), or the account that is nobody's.

    `kind` is `rest` for all groups together that have no row of their own, by `limit`.

    `allocated_idle_…`: parts of the workloads' energy, cost and GPU-seconds in which nothing of
    theirs ran. `mean_watts`: over the whole time. `accuracy`: the class, A to D, that 95 % of the
    energy is of, or better; `energy_by_accuracy_uj` tells each.
    """

    key: str | None
    kind: Literal["group", "idle", "system", "overhead", "gap", "other", "rest"]
    jobs: int
    energy_uj: Microjoules
    energy_kwh: float
    energy_by_component_uj: dict[str, Microjoules]
    energy_by_account_uj: dict[str, Microjoules]
    energy_by_source_uj: dict[str, Microjoules]
    energy_by_split_uj: dict[str, Microjoules]
    energy_by_accuracy_uj: dict[str, Microjoules]
    energy_by_state_uj: dict[str, Microjoules] = Field(description="of jobs, by their state")
    energy_of_jobs: JobEnergies | None
    accuracy: str | None
    allocated_idle_uj: Microjoules
    allocated_idle_kwh: float
    allocated_idle_cost: str | None
    gpu_seconds: float
    allocated_idle_gpu_seconds: float
    mean_watts: float | None


class SeriesRow(Answer):
    """Energy of a group in each step. `kind` is `rest` for all groups that have no row."""

    key: str | None
    kind: Literal["group", "idle", "system", "overhead", "gap", "other", "rest"]
    energy_uj: list[Microjoules]


class ReportSeries(Answer):
    """The report's energy over time; `starts` are the begins of its steps."""

    step: Literal["hour", "day", "month"]
    starts: list[Instant]
    rows: list[SeriesRow]


class Whose(Answer):
    """The jobs that somebody may see: a user's own, and those of some accounts."""

    user: str
    accounts: list[str]


class Report(Valued):
    """Energy by group; the rows add up to `energy_uj`, which is what the meters counted.

    `workload_uj` is what of it jobs used: the balance's. `coverage` is of the whole fleet, also
    where `only` restricts the report to a cluster, an account, a partition or a user.
    """

    by: str
    since: Instant
    until: Instant
    as_of: Instant
    timezone: str
    only: dict[str, str]
    whose: Whose | None = Field(description="whose jobs it is about; null is everybody's")
    energy_uj: Microjoules
    energy_kwh: float
    workload_uj: Microjoules
    energy_by_component_uj: dict[str, Microjoules]
    energy_by_accuracy_uj: dict[str, Microjoules]
    accuracy: str | None
    allocated_idle_uj: Microjoules
    allocated_idle_kwh: float
    allocated_idle_cost: str | None
    gpu_seconds: float
    allocated_idle_gpu_seconds: float
    jobs: int
    mean_watts: float | None
    coverage: float | None
    currency: str | None
    factors: list[FactorUsed]
    rows: list[ReportRow]
    series: ReportSeries | None
