"""`/metrics` of the aggregator: a view of a snapshot that is a few seconds old at most."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wattkeeper.aggregator.account_metrics import accounts, idle_gpus
from wattkeeper.aggregator.budget_metrics import budgets
from wattkeeper.aggregator.cached import Cached
from wattkeeper.aggregator.fleet import STATES, UNMETERED
from wattkeeper.aggregator.history_metrics import history
from wattkeeper.aggregator.job_metrics import jobs
from wattkeeper.aggregator.label_values import AccountNames, cut
from wattkeeper.aggregator.polls import STATES as POLL_STATES
from wattkeeper.aggregator.snapshot import Snapshot
from wattkeeper.model.microjoules import joules


class Exporter(Collector):
    """Renders the snapshot.

    `identity`: who is named: `account`, `user` too, or nobody (`none`). `max_values`: accounts
    with a name of their own, at most. `scraped` is told of every snapshot that somebody was shown.
    """

    def __init__(
        self,
        snapshot: Cached[Snapshot],
        *,
        identity: str,
        max_values: int,
        group_kinds: Iterable[str],
        scraped: Callable[[Snapshot], None],
    ) -> None:
        self._snapshot = snapshot
        self._identity = identity
        self._names = AccountNames(identity, max_values)
        self._kinds = tuple(group_kinds)
        self._scraped = scraped
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
        if snapshot.leads:
            yield from jobs(snapshot, self._identity)
            yield from accounts(snapshot, self._names)
            yield from self._nodes(snapshot)
            yield from _ledger(snapshot)
            yield from _schedulers(snapshot)
            yield from budgets(snapshot.budgets, snapshot.since_ms)
        yield from idle_gpus(snapshot, self._names)
        yield from _intake(snapshot)
        yield from history(snapshot.history)
        self._scraped(snapshot)

    def _nodes(self, snapshot: Snapshot) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "wattkeeper_node_info",
            "A node and the groups it belongs to; always 1.",
            labels=("cluster", "node", *self._kinds),
        )
        unmetered = GaugeMetricFamily(
            "wattkeeper_node_unmetered",
            "1 for each node that should be metered and is silent, absent or in conflict.",
            labels=("cluster", "node", "state"),
        )
        states = dict.fromkeys(STATES, 0)
        for node in snapshot.nodes:
            if node.state in UNMETERED:
                unmetered.add_metric([cut(node.cluster), cut(node.node), node.state], 1)
            groups = (cut(node.groups.get(kind, "")) for kind in self._kinds)
            info.add_metric([cut(node.cluster), cut(node.node), *groups], 1)
            states[node.state] += 1
        counted = GaugeMetricFamily(
            "wattkeeper_nodes",
            "Nodes by state now; absent and off ones never delivered, or are powered down.",
            labels=("state",),
        )
        for state, count in states.items():
            counted.add_metric([state], count)
        yield from (info, unmetered, counted)


def _schedulers(snapshot: Snapshot) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "wattkeeper_scheduler_state",
        "1 for the state that a scheduler is in: waiting for its first answer, answering, failing.",
        labels=("scheduler", "state"),
    )
    answered = GaugeMetricFamily(
        "wattkeeper_scheduler_answer_timestamp_seconds",
        "When a scheduler was asked for its last answer; before one, since when it is asked.",
        labels=("scheduler",),
    )
    took = GaugeMetricFamily(
        "wattkeeper_scheduler_answer_seconds",
        "How long its last answer took until it stood in the ledger.",
        labels=("scheduler",),
    )
    for poll in snapshot.polls:
        for name in POLL_STATES:
            state.add_metric([poll.scheduler, name], float(name == poll.state))
        answered_ms = snapshot.since_ms if poll.answered_ms is None else poll.answered_ms
        if answered_ms is not None:
            answered.add_metric([poll.scheduler], answered_ms / 1000)
        if poll.answer_s is not None:
            took.add_metric([poll.scheduler], poll.answer_s)
    yield from (state, answered, took)


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
        "wattkeeper_ledger_coverage_ratio",
        "Metered over expected time of the last hour; expected by the schedulers' inventory too.",
        labels=(),
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
    yield GaugeMetricFamily(
        "wattkeeper_lease_held",
        "1 where schedulers are asked and totals are exported, 0 where another aggregator does it.",
        value=float(snapshot.leads),
    )
    yield CounterMetricFamily(
        "wattkeeper_intake_moved_nodes",
        "Nodes that another aggregator had committed first; their agents sent again.",
        value=float(snapshot.moved),
    )
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
    cut = CounterMetricFamily(
        "wattkeeper_refused_connections",
        "Connections to the aggregator that were not served, by reason.",
        labels=("reason",),
    )
    for reason, count in sorted(snapshot.connections_refused.items()):
        cut.add_metric([reason], count)
    yield cut
    end = GaugeMetricFamily(
        "wattkeeper_certificate_expiry_timestamp_seconds",
        "When the certificate ends that the aggregator shows; nothing where it speaks no TLS.",
        labels=(),
    )
    if snapshot.certificate_end_s is not None:
        end.add_metric([], snapshot.certificate_end_s)
    yield end
    yield CounterMetricFamily(
        "wattkeeper_refused_questions",
        "Questions of callers who asked too many (limits.questions).",
        value=float(counts["refused_questions"]),
    )
    yield CounterMetricFamily(
        "wattkeeper_commit_failures",
        "Commits that the database did not take; nothing is lost, the next one retries.",
        value=float(counts["commit_failures"]),
    )
    last = GaugeMetricFamily(
        "wattkeeper_commit_timestamp_seconds",
        "When the last commit ended; before one, when this aggregator began.",
        labels=(),
    )
    committed_ms = snapshot.since_ms if snapshot.committed_ms is None else snapshot.committed_ms
    if committed_ms is not None:
        last.add_metric([], committed_ms / 1000)
    yield last
