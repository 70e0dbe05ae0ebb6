"""`/metrics` of the aggregator: a view of a snapshot that is a few seconds old at most."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.fleet import STATES
from wattkeeper.aggregator.snapshot import JobFigures, Snapshot
from wattkeeper.model.holder import MAX_LABEL
from wattkeeper.model.microjoules import joules

_JOB = ("cluster", "manager", "workload")
_INFO = (*_JOB, "job_id", "partition", "namespace", "owner_kind")


def cut(value: str) -> str:
    """Return a label's value without control characters, and not longer than MAX_LABEL."""
    if value.isprintable() and len(value) <= MAX_LABEL:
        return value
    return "".join(char if char.isprintable() else " " for char in value[:MAX_LABEL])


class Exporter(Collector):
    """Renders the snapshot. `identity`: who is named: `account`, `user` too, or nobody (`none`)."""

    def __init__(
        self, snapshot: Cached[Snapshot], *, identity: str, group_kinds: Iterable[str]
    ) -> None:
        self._snapshot = snapshot
        self._identity = identity
        self._kinds = tuple(group_kinds)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def describe(self) -> list[Metric]:
        """Return nothing: asking for a snapshot before there is a ledger would be too early."""
        return []

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition and its content type, as the scraper accepts it. Blocks."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type

    def expire(self) -> None:
        """Take a new snapshot for the next scrape."""
        self._snapshot.expire()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the snapshot."""
        snapshot = self._snapshot.get()
        yield from self._jobs(snapshot)
        yield from self._accounts(snapshot)
        yield from self._nodes(snapshot)
        yield from _ledger(snapshot)
        yield from _intake(snapshot)

    def _jobs(self, snapshot: Snapshot) -> Iterator[Metric]:
        names = {"none": (), "account": ("account",), "user": ("account", "user")}[self._identity]
        owner = ("owner_name",) if names else ()
        info = GaugeMetricFamily(
            "wattkeeper_workload_info",
            "Who is behind a workload; always 1.",
            labels=(*_INFO, *owner, *names),
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
        for job in snapshot.jobs:
            key = [cut(part) for part in job.key]
            labels = (getattr(job.job, name) for name in (*_INFO[3:], *owner, *names))
            info.add_metric([*key, *map(cut, labels)], 1)
            _add_figures(power, energy, key, job)
        yield from (info, power, energy)
        yield GaugeMetricFamily(
            "wattkeeper_jobs_not_shown",
            "1 if there are more jobs than metrics.max_jobs allows series for.",
            value=float(snapshot.jobs_left_out),
        )

    def _accounts(self, snapshot: Snapshot) -> Iterator[Metric]:
        energy = CounterMetricFamily(
            "wattkeeper_account_energy_joules",
            "Energy of an account's workloads; never falls.",
            labels=("cluster", "account"),
        )
        taken_back = GaugeMetricFamily(
            "wattkeeper_account_taken_back_joules",
            "What corrections took back since, and the total above still holds.",
            labels=("cluster", "account"),
        )
        booked: dict[tuple[str, str], tuple[int, int]] = {}
        for total in snapshot.accounts:
            key = (cut(total.cluster), self._account(total.account))
            uj, back = booked.get(key, (0, 0))
            booked[key] = (uj + total.uj, back + total.taken_back_uj)
        for key, (uj, back) in sorted(booked.items()):
            energy.add_metric(key, joules(uj))
            taken_back.add_metric(key, joules(back))
        idle = GaugeMetricFamily(
            "wattkeeper_allocated_idle_gpus",
            "GPUs that are held by a workload of the account and do nothing now.",
            labels=("account",),
        )
        counts: dict[str, int] = {}
        for account, gpus in snapshot.idle_gpus.items():
            name = self._account(account)
            counts[name] = counts.get(name, 0) + gpus
        for name, gpus in sorted(counts.items()):
            idle.add_metric([name], gpus)
        yield from (energy, taken_back, idle)

    def _account(self, account: str) -> str:
        return "" if self._identity == "none" else cut(account)

    def _nodes(self, snapshot: Snapshot) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "wattkeeper_node_info",
            "A node and the groups it belongs to; always 1.",
            labels=("cluster", "node", *self._kinds),
        )
        states = dict.fromkeys(STATES, 0)
        for node in snapshot.nodes:
            groups = (cut(node.groups.get(kind, "")) for kind in self._kinds)
            info.add_metric([cut(node.cluster), cut(node.node), *groups], 1)
            states[node.state] += 1
        counted = GaugeMetricFamily(
            "wattkeeper_nodes", "Nodes that ever delivered, by state now.", labels=("state",)
        )
        for state, count in states.items():
            counted.add_metric([state], count)
        yield from (info, counted)


def _add_figures(
    power: GaugeMetricFamily, energy: CounterMetricFamily, key: list[str], job: JobFigures
) -> None:
    for component, uj in sorted(job.energy_uj.items()):
        energy.add_metric([*key, component], joules(uj))
    for component, watts in sorted(job.watts.items()):
        power.add_metric([*key, component], watts)


def _ledger(snapshot: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "wattkeeper_ledger_residual_joules",
        "What the meters counted and nobody was booked, over the last hour; must be 0.",
        value=joules(snapshot.residual_uj),
    )
    yield GaugeMetricFamily(
        "wattkeeper_ledger_problems",
        "Problems that the balance of the last hour found; must be 0.",
        value=float(snapshot.problems),
    )
    coverage = GaugeMetricFamily(
        "wattkeeper_ledger_coverage_ratio", "Metered part of the last hour.", labels=()
    )
    if snapshot.coverage is not None:
        coverage.add_metric([], snapshot.coverage)
    yield coverage
    refused = CounterMetricFamily(
        "wattkeeper_ledger_refused_records",
        "Records that were refused; their joules are in gap.",
        value=float(sum(node.refused_records for node in snapshot.nodes)),
    )
    events = CounterMetricFamily(
        "wattkeeper_ledger_events",
        "Forks, takeovers, conflicts and wrong clocks.",
        labels=("kind",),
    )
    kinds: dict[str, int] = {}
    for node in snapshot.nodes:
        for kind, count in node.events.items():
            kinds[kind] = kinds.get(kind, 0) + count
    for kind, count in sorted(kinds.items()):
        events.add_metric([kind], count)
    yield from (refused, events)


def _intake(snapshot: Snapshot) -> Iterator[Metric]:
    counts = snapshot.intake
    for name, what in (
        ("deliveries", "Deliveries that were accepted."),
        ("records", "Records in accepted deliveries, those sent again included."),
        ("bytes", "Bytes of deliveries as received."),
    ):
        yield CounterMetricFamily(f"wattkeeper_intake_{name}", what, value=float(counts[name]))
    refused = CounterMetricFamily(
        "wattkeeper_intake_refused_deliveries", "Deliveries that were refused.", labels=("reason",)
    )
    for reason, count in sorted(snapshot.intake_refused.items()):
        refused.add_metric([reason], count)
    yield refused
    yield CounterMetricFamily(
        "wattkeeper_commit_failures",
        "Commits that the database did not take; nothing is lost, the next one retries.",
        value=float(counts["commit_failures"]),
    )
    last = GaugeMetricFamily(
        "wattkeeper_commit_timestamp_seconds", "When the last commit ended.", labels=()
    )
    if snapshot.committed_ms is not None:
        last.add_metric([], snapshot.committed_ms / 1000)
    yield last
