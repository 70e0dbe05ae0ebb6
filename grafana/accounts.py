"""Users and accounts: who uses how much, and how much of it for nothing."""

from grafana.layout import Board, Row
from grafana.panels import Head, Query, number, over_time
from grafana.tables import Column, listing
from grafana.thresholds import LIMITS
from grafana.variables import ACCOUNT, CLUSTER, DATASOURCE

_WHOSE = 'cluster=~"$cluster", account=~"$account"'
_JOIN = "on (cluster, manager, workload) group_left"


def _total(what: str, before: bool = False) -> str:
    """Return what an account used in the time shown, or in as long a time before that."""
    series = f"account:wattkeeper_account_{what}_total:max{{{_WHOSE}}}[$__range]"
    return f"sum by (account) (increase({series}{' offset $__range' if before else ''}))"


_ENERGY = number(
    Head(
        "Energy of jobs in the time shown",
        "Of the chosen accounts, from their long-lived totals. Bills and months: `wattkeeper "
        "report`.",
        "watth",
        6,
        4,
    ),
    Query(f"sum({_total('energy_joules')}) / 3600"),
)
_IDLE = number(
    Head(
        "Idle share of it",
        "Part of that energy in which GPUs were allocated and nothing ran on them.",
        "percentunit",
        6,
        4,
    ),
    Query(f"sum({_total('allocated_idle_joules')}) / sum({_total('energy_joules')})"),
    ((None, "green"), (0.2, "orange"), (0.5, "red")),
)
_POWER_NOW = number(
    Head(
        "Power of jobs now", "Of the chosen accounts; jobs with series of their own.", "watt", 6, 4
    ),
    Query(
        'sum(sum by (cluster, manager, workload) (wattkeeper_job_power_watts{cluster=~"$cluster"}) '
        f"* {_JOIN} () wattkeeper_workload_info{{{_WHOSE}}})"
    ),
)
_HELD_NOW = number(
    Head("GPUs held but idle now", "By the chosen accounts.", "short", 6, 4),
    Query('sum(wattkeeper_allocated_idle_gpus{account=~"$account"}) or vector(0)'),
    ((None, "green"), (LIMITS["held_idle_gpus"], "orange")),
    decimals=0,
)
_TABLE = listing(
    Head(
        "Accounts in the time shown",
        "Energy of their jobs, against as long a time before, and what was held without use. "
        "Corrections after the fact are in `wattkeeper report` only.",
        "watth",
        width=24,
        height=10,
    ),
    (
        f"{_total('energy_joules')} / 3600",
        f"{_total('energy_joules')} / {_total('energy_joules', before=True)} - 1",
        f"{_total('allocated_idle_joules')} / {_total('energy_joules')}",
        f"{_total('allocated_idle_gpu_seconds')} / 3600",
        'sum by (account) (wattkeeper_allocated_idle_gpus{account=~"$account"})',
    ),
    (
        Column("account", "Account"),
        Column("Value #A", "Energy", unit="watth"),
        Column("Value #B", "Change", unit="percentunit"),
        Column("Value #C", "Idle share", unit="percentunit"),
        Column("Value #D", "Idle GPU-hours", unit="short"),
        Column("Value #E", "Idle GPUs now", unit="short"),
    ),
    by="Energy",
)
_POWER = over_time(
    Head("Power by account", "Mean power from the growth of the totals; the ten greatest.", "watt"),
    Query(
        "topk(10, sum by (account) "
        f"(rate(wattkeeper_account_energy_joules_total{{{_WHOSE}}}[$__rate_interval])))",
        "{{account}}",
    ),
    top=True,
)
_HELD = over_time(
    Head("GPUs held but idle, by account", "The ten greatest.", "short"),
    Query(
        'topk(10, sum by (account) (wattkeeper_allocated_idle_gpus{account=~"$account"}))',
        "{{account}}",
    ),
    top=True,
)
_USERS = listing(
    Head(
        "Users now",
        "Power of their jobs and how many there are. Users have names here only with "
        "`metrics.identity = user`; of past times `wattkeeper report --by user` tells.",
        "watt",
        width=8,
        height=10,
    ),
    (
        (
            "sum by (user) (sum by (cluster, manager, workload) "
            '(wattkeeper_job_power_watts{cluster=~"$cluster"}) '
            f"* {_JOIN} (user) wattkeeper_workload_info{{{_WHOSE}}})"
        ),
        f"count by (user) (group by (user, job_id) (wattkeeper_workload_info{{{_WHOSE}}}))",
    ),
    (
        Column("user", "User"),
        Column("Value #A", "Power", unit="watt"),
        Column("Value #B", "Jobs", unit="short"),
    ),
    by="Power",
)
_NAMED = f"* {_JOIN} (job_id, account, partition) wattkeeper_workload_info{{{_WHOSE}}}"
_PER_JOB = "sum by (cluster, manager, workload)"
_GREATEST = (
    f"topk(50, sum by (job_id, account, partition) ({_PER_JOB} "
    f'(wattkeeper_job_power_watts{{cluster=~"$cluster"}}) {_NAMED}))'
)
_BOOKED = f'{_PER_JOB} (wattkeeper_job_energy_joules_total{{cluster=~"$cluster"}})'
_JOBS = listing(
    Head(
        "Jobs now: the fifty greatest",
        "Jobs that run or just ended, with energy as the books have it.",
        "watt",
        width=16,
        height=10,
    ),
    (
        _GREATEST,
        (
            f"sum by (job_id, account, partition) ({_BOOKED} {_NAMED}) / 3600 "
            f"and on (job_id, account) {_GREATEST}"
        ),
        (
            "sum by (job_id, account, partition) (wattkeeper_job_allocated_idle_joules_total"
            f'{{cluster=~"$cluster"}} / on (cluster, manager, workload) {_BOOKED} {_NAMED}) '
            f"and on (job_id, account) {_GREATEST}"
        ),
    ),
    (
        Column("job_id", "Job", link=("wattkeeper-job", "job")),
        Column("account", "Account"),
        Column("partition", "Partition"),
        Column("Value #A", "Power", unit="watt"),
        Column("Value #B", "Energy", unit="watth"),
        Column("Value #C", "Idle share", unit="percentunit"),
    ),
    by="Power",
)

BOARD = Board(
    "wattkeeper-accounts",
    "Wattkeeper: Users and accounts",
    "Who uses how much, how that changed, and what is held without use.",
    (DATASOURCE, CLUSTER, ACCOUNT),
    (
        Row("In the time shown", (_ENERGY, _IDLE, _POWER_NOW, _HELD_NOW, _TABLE)),
        Row("Over time", (_POWER, _HELD)),
        Row("Now", (_USERS, _JOBS)),
    ),
    since="now-24h",
)
