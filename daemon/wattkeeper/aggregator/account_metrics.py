"""Metrics of accounts: totals that never fall, and GPUs that are allocated but idle now."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wattkeeper.aggregator.label_values import AccountNames, cut
from wattkeeper.aggregator.snapshot import Snapshot
from wattkeeper.model.microjoules import joules


def accounts(snapshot: Snapshot, names: AccountNames) -> Iterator[Metric]:
    """Yield the totals of accounts. Those without a name of their own are summed."""
    names.learn(snapshot.accounts)
    yield from _totals(snapshot, names)


def idle_gpus(snapshot: Snapshot, names: AccountNames) -> Iterator[Metric]:
    """Yield the GPUs of this aggregator's own nodes; where several share, their sum is all."""
    counts: dict[str, int] = {}
    for account, gpus in snapshot.idle_gpus.items():
        name = names.now(account)
        counts[name] = counts.get(name, 0) + gpus
    idle = GaugeMetricFamily(
        "wattkeeper_allocated_idle_gpus",
        "GPUs that are allocated to a workload of the account and do nothing now.",
        labels=("account",),
    )
    for name, gpus in sorted(counts.items()):
        idle.add_metric([name], gpus)
    yield idle


def _totals(snapshot: Snapshot, names: AccountNames) -> Iterator[Metric]:
    labels = ("cluster", "account")
    energy = CounterMetricFamily(
        "wattkeeper_account_energy_joules",
        "Energy of an account's workloads; never falls.",
        labels=labels,
    )
    taken_back = GaugeMetricFamily(
        "wattkeeper_account_taken_back_joules",
        "What corrections took back since, and the total above still holds.",
        labels=labels,
    )
    idle = CounterMetricFamily(
        "wattkeeper_account_allocated_idle_joules",
        "The part of an account's energy in which its GPUs were allocated and nothing ran.",
        labels=labels,
    )
    idle_time = CounterMetricFamily(
        "wattkeeper_account_allocated_idle_gpu_seconds",
        "GPU-seconds that were allocated to an account while nothing ran.",
        labels=labels,
    )
    sums: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    for one in snapshot.accounts:
        key = (cut(one.cluster), names.of(one))
        had = sums.get(key, (0, 0, 0, 0))
        sums[key] = (
            had[0] + one.uj,
            had[1] + one.taken_back_uj,
            had[2] + one.idle_uj,
            had[3] + one.idle_gpu_ms,
        )
    for key, (uj, back, idle_uj, idle_ms) in sorted(sums.items()):
        energy.add_metric(key, joules(uj))
        taken_back.add_metric(key, joules(back))
        idle.add_metric(key, joules(idle_uj))
        idle_time.add_metric(key, idle_ms / 1000)
    yield from (energy, taken_back, idle, idle_time)
