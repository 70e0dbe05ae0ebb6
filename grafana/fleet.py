"""Fleet: the operator's first five questions, then power, heat and throttling."""

from grafana.layout import Board, Row
from grafana.panels import Head, Query, Steps, bars, distribution, over_time
from grafana.tables import Column, grid, listing
from grafana.thresholds import LIMITS
from grafana.unmetered import unmetered
from grafana.variables import CLUSTER, DATASOURCE, GROUP, KIND, in_groups

HEAT: Steps = (
    (None, "blue"),
    (40, "green"),
    (LIMITS["gpu_celsius"] - 15, "yellow"),
    (LIMITS["gpu_celsius"] - 5, "orange"),
    (LIMITS["gpu_celsius"], "red"),
)
USED: Steps = ((None, "green"), (0.9, "orange"), (1, "red"))
_CLUSTER = 'cluster=~"$cluster"'
_HOTTEST = f"node:wattkeeper_gpu_temperature_celsius:max{{{_CLUSTER}}}"
_HEAT_REASONS = 'reason=~"hw_thermal|sw_thermal|hw_power_brake"'
_MONTH = f"increase(account:wattkeeper_account_energy_joules_total:max{{{_CLUSTER}}}[30d])"
_BEFORE = _MONTH.removesuffix(")") + " offset 30d)"

_HELD = listing(
    Head(
        "Held but idle: how many GPUs, by whom",
        "GPUs that are allocated to jobs of an account and do nothing now, and how many GPU-hours "
        "of the last 24 hours went by like that. The energy in it is the account's.",
        "short",
        width=8,
    ),
    (
        "sum by (account) (wattkeeper_allocated_idle_gpus) > 0",
        (
            "sum by (account) (increase("
            f"account:wattkeeper_account_allocated_idle_gpu_seconds_total:max{{{_CLUSTER}}}[1d])) "
            "/ 3600 and on (account) sum by (account) (wattkeeper_allocated_idle_gpus) > 0"
        ),
    ),
    (
        Column("account", "Account", link=("wattkeeper-accounts", "account")),
        Column(
            "Value #A",
            "GPUs now",
            colours=((None, "transparent"), (LIMITS["held_idle_gpus"], "orange")),
        ),
        Column("Value #B", "GPU-hours, 24 h", unit="short"),
    ),
    by="GPUs now",
    empty="no GPU is held without use",
)
_UNMETERED = unmetered(
    Head(
        "Nodes that are not metered",
        "Nodes that should be metered and are silent, absent (never seen) or in conflict (two "
        "agents for one node). What they draw is missing in every total here.",
        "short",
        width=8,
    )
)
_ACCOUNTS = listing(
    Head(
        "Top accounts: 30 days against the 30 before",
        "Energy of jobs by account, from its long-lived totals, and how it changed. "
        "For calendar months and bills: `wattkeeper report --by account`.",
        "watth",
        width=8,
    ),
    (
        f"topk(10, sum by (account) ({_MONTH})) / 3600",
        (
            f"(sum by (account) ({_MONTH}) / sum by (account) ({_BEFORE}) - 1) "
            f"and on (account) topk(10, sum by (account) ({_MONTH}))"
        ),
    ),
    (
        Column("account", "Account", link=("wattkeeper-accounts", "account")),
        Column("Value #A", "Energy, 30 d"),
        Column("Value #B", "Change", unit="percentunit"),
    ),
    by="Energy, 30 d",
)
_RACKS = bars(
    Head(
        "Heat: the hottest groups",
        "The hottest GPU of each rack (or of the chosen kind of group), the ten hottest ones. "
        "Red is where the alert is.",
        "celsius",
        width=8,
    ),
    Query(f"topk(10, max by ($kind) ({in_groups(_HOTTEST)}))", "{{$kind}}"),
    HEAT,
    least=20,
    most=LIMITS["gpu_celsius"] + 5,
)
_LIMITS = listing(
    Head(
        "Distance to today's limits",
        "Budgets by how much of their limit is used: of watts now, of the demand's running "
        "interval, of the period's energy. Below 0 W there is nothing left.",
        "percentunit",
        width=8,
    ),
    (
        "max by (budget) (wattkeeper_budget_used_ratio)",
        (
            "max by (budget) (wattkeeper_budget_watts) - max by (budget) "
            "(wattkeeper_budget_power_watts)"
        ),
        "max by (budget) (wattkeeper_budget_forecast_ratio)",
    ),
    (
        Column("budget", "Budget", link=("wattkeeper-budgets", "budget")),
        Column("Value #A", "Used", colours=USED, most=1.2, bar=True),
        Column("Value #B", "Left now", unit="watt"),
        Column("Value #C", "Forecast", unit="percentunit", colours=USED),
    ),
    by="Used",
    empty="no budgets are configured",
)
_ALERTS = listing(
    Head(
        "Alerts now",
        "What the rules say of Wattkeeper. What each means, and what to do: docs/runbook.md.",
        "short",
        width=8,
    ),
    (
        (
            "max by (alertname, severity, rack, budget, account) "
            '(ALERTS{alertname=~"Wattkeeper.+", alertstate="firing"})'
        ),
    ),
    (
        Column("severity", "Severity"),
        Column("alertname", "Alert"),
        Column("rack", "Rack"),
        Column("budget", "Budget"),
        Column("account", "Account"),
    ),
    by="Alert",
    empty="no alert fires",
)

_POWER = over_time(
    Head(
        "Power of the fleet",
        "What GPUs and CPUs (with their memory) draw, and what hosts draw beside that where they "
        "have a meter of their own: fans, network, losses.",
        "watt",
    ),
    Query(f"sum(cluster:wattkeeper_gpu_power_watts:sum{{{_CLUSTER}}})", "GPUs"),
    Query(f"sum(cluster:wattkeeper_cpu_power_watts:sum{{{_CLUSTER}}})", "CPUs and memory"),
    Query(
        f"sum(cluster:wattkeeper_power_watts:sum{{{_CLUSTER}}})"
        f" - sum(cluster:wattkeeper_gpu_power_watts:sum{{{_CLUSTER}}})"
        f" - sum(cluster:wattkeeper_cpu_power_watts:sum{{{_CLUSTER}}})",
        "Rest of the hosts",
    ),
    stacked=True,
)
_POWER_BY_GROUP = over_time(
    Head(
        "Power by group",
        "The twenty groups of the chosen kind that draw most, whole hosts where they are metered.",
        "watt",
    ),
    Query(
        f"topk(20, sum by ($kind) ({in_groups(f'node:wattkeeper_power_watts:sum{{{_CLUSTER}}}')}))",
        "{{$kind}}",
    ),
    top=True,
)
_DISTRIBUTION = distribution(
    Head(
        "Every GPU by temperature, over time",
        "How many GPUs are how hot: each one is counted, however many there are.",
        "celsius",
    ),
    Query(
        f"sum by (le) (cluster:wattkeeper_gpu_temperature_celsius:bucket{{{_CLUSTER}}})", "{{le}}"
    ),
)
_HEAT_MAP = grid(
    Head(
        "Heat map of every GPU, now",
        "Nodes downwards, their GPUs across. Of a larger selection than 100 nodes, the 100 with "
        "the hottest GPUs: choose a group to see all of its own.",
        "celsius",
    ),
    "max by (node, gpu) ("
    f'(wattkeeper_gpu_temperature_celsius{{{_CLUSTER}, sensor="gpu"}} '
    f"and on (cluster, node) topk(100, {in_groups(_HOTTEST)})) "
    f"* on (cluster, node, uuid) group_left (gpu) wattkeeper_gpu_info{{{_CLUSTER}}})",
    HEAT,
    rows=Column("node", "Node", link=("wattkeeper-node", "node")),
    across="gpu",
)
_THROTTLING = over_time(
    Head(
        "Throttling of the fleet by reason",
        "Part of the time in which GPUs were slowed, mean over all of them. `sw_power_cap` is the "
        "power limit at work and no fault; the others are heat or power supply.",
        "percentunit",
    ),
    Query(
        f"avg by (reason) (node:wattkeeper_gpu_throttle:ratio_rate5m{{{_CLUSTER}}})", "{{reason}}"
    ),
)
_THROTTLED = listing(
    Head(
        "Nodes slowed most by heat or power brake",
        "Part of the last 5 minutes in which their GPUs were slowed. A synchronous job waits for "
        "the slowest of them.",
        "percentunit",
    ),
    (
        (
            "topk(20, max by (cluster, node) "
            f"(node:wattkeeper_gpu_throttle:ratio_rate5m{{{_CLUSTER}, {_HEAT_REASONS}}}) > 0)"
        ),
    ),
    (
        Column("node", "Node", link=("wattkeeper-node", "node")),
        Column(
            "Value",
            "Slowed",
            unit="percentunit",
            colours=((None, "transparent"), (LIMITS["throttled_ratio"], "orange")),
            most=1,
        ),
    ),
    by="Slowed",
    empty="no GPU is slowed by heat",
)

BOARD = Board(
    "wattkeeper-fleet",
    "Wattkeeper: Fleet",
    "What is wasted, blind, hot or near its limit now; then power, heat and throttling over time.",
    (DATASOURCE, CLUSTER, KIND, GROUP),
    (
        Row("Now", (_HELD, _UNMETERED, _ACCOUNTS, _RACKS, _LIMITS, _ALERTS)),
        Row("Power", (_POWER, _POWER_BY_GROUP)),
        Row("Heat", (_DISTRIBUTION, _HEAT_MAP)),
        Row("Throttling", (_THROTTLING, _THROTTLED)),
    ),
)
