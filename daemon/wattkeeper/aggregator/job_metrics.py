"""Metrics of jobs: who is behind a workload, power and energy."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wattkeeper.aggregator.label_values import cut
from wattkeeper.aggregator.shown_jobs import JobFigures
from wattkeeper.aggregator.snapshot import Snapshot
from wattkeeper.ledger.queries.job import Job
from wattkeeper.model.microjoules import joules

_JOB = ("cluster", "manager", "workload")
_PLACE = ("job_id", "partition", "owner_kind")
_BY_IDENTITY = {
    "none": (),
    "account": ("namespace", "owner_name", "account"),
    "user": ("namespace", "owner_name", "account", "user"),
}


def jobs(snapshot: Snapshot, identity: str) -> Iterator[Metric]:
    """Yield the metrics of the jobs that are shown; `identity` says who is named."""
    named = _BY_IDENTITY[identity]
    info = GaugeMetricFamily(
        "wattkeeper_workload_info",
        "Who is behind a workload, under every id that nodes have for it; always 1.",
        labels=(*_JOB, *_PLACE, *named),
    )
    power = GaugeMetricFamily(
        "wattkeeper_job_power_watts",
        "Mean power of a job between its last two booked instants.",
        labels=(*_JOB, "component"),
    )
    energy = CounterMetricFamily(
        "wattkeeper_job_energy_joules",
        "Energy of a running or just ended job. Use last_over_time, not increase.",
        labels=(*_JOB, "component"),
    )
    idle = CounterMetricFamily(
        "wattkeeper_job_allocated_idle_joules",
        "The part of it in which the job's GPUs were its own and nothing of it ran.",
        labels=_JOB,
    )
    # What is cut may have become alike, and a series may be there once only.
    had: set[tuple[str, ...]] = set()
    for one in sorted(snapshot.jobs, key=lambda one: one.keys):
        for key in one.keys:
            labels = tuple(map(cut, key))
            if labels in had:
                continue
            had.add(labels)
            info.add_metric([*labels, *_words(one.job, identity, named)], 1)
            if key == one.key:
                _add_figures(power, energy, idle, labels, one)
    yield from (info, power, energy, idle)
    yield GaugeMetricFamily(
        "wattkeeper_jobs_omitted",
        "Jobs without series, because there are more than metrics.max_jobs.",
        value=float(snapshot.jobs_omitted),
    )


def _words(job: Job, identity: str, named: tuple[str, ...]) -> Iterator[str]:
    for name in (*_PLACE, *named):
        # A pod's name is mostly its owner's.
        hidden = name == "job_id" and identity == "none" and bool(job.namespace)
        yield "" if hidden else cut(getattr(job, name))


def _add_figures(
    power: GaugeMetricFamily,
    energy: CounterMetricFamily,
    idle: CounterMetricFamily,
    labels: tuple[str, ...],
    job: JobFigures,
) -> None:
    for component, uj in sorted(job.energy_uj.items()):
        energy.add_metric([*labels, component], joules(uj))
    idle.add_metric(labels, joules(job.idle_uj))
    for component, watts in sorted(job.watts.items()):
        power.add_metric([*labels, component], watts)
