"""Job: what one job uses, its trace, and how much of it is idle."""

from grafana.layout import Board, Row
from grafana.panels import Head, Query, number, over_time
from grafana.tables import Column, listing
from grafana.thresholds import LIMITS
from grafana.variables import ACCOUNT, CLUSTER, DATASOURCE, JOB, PLACE, WORKLOAD

_MINE = 'cluster=~"$cluster", workload=~"$workload"'
"""Of the job's own ids, so that no other job's series are looked at."""
_THERE = 'cluster=~"$cluster", node=~"$place"'
_INFO = 'wattkeeper_workload_info{cluster=~"$cluster", job_id="$job"}'
_NOW = f"on (cluster, manager, workload) group_left () {_INFO}"
_EVER = (
    "on (cluster, manager, workload) group_left () group by (cluster, manager, workload) "
    f"(last_over_time({_INFO}[$__range]))"
)
_HOLDS = f'((wattkeeper_holder_ratio{{{_MINE}, uuid!=""}} > bool 0) * {_NOW})'


def _total(metric: str) -> str:
    """Return a job's total as the books had it last: an `increase` would miss its beginning."""
    return f"last_over_time({metric}{{{_MINE}}}[$__range]) * {_EVER}"


def _of_gpus(metric: str, more: str = "") -> str:
    """Return a device's series wherever the job holds it."""
    device = f"wattkeeper_gpu_{metric}{{{_THERE}{more}}}"
    return f"{_HOLDS} * on (cluster, node, uuid) group_left () {device}"


_ENERGY = number(
    Head(
        "Energy so far",
        "As the books have it, all components: the same figure as `wattkeeper job`. What is "
        "measured and not yet delivered is still missing.",
        "watth",
        6,
        5,
    ),
    Query(f"sum({_total('wattkeeper_job_energy_joules_total')}) / 3600"),
)
_IDLE = number(
    Head(
        "Idle share",
        "Part of that energy in which its GPUs were its own and nothing of it ran.",
        "percentunit",
        6,
        5,
    ),
    Query(
        f"sum({_total('wattkeeper_job_allocated_idle_joules_total')}) "
        f"/ sum({_total('wattkeeper_job_energy_joules_total')})"
    ),
    ((None, "green"), (0.2, "orange"), (0.5, "red")),
)
_POWER_NOW = number(
    Head("Power now", "Mean between the last two booked instants.", "watt", 6, 5),
    Query(f"sum(wattkeeper_job_power_watts{{{_MINE}}} * {_NOW})"),
)
_GPUS = number(
    Head("GPUs", "On which anything of it ran in the last window.", "short", 6, 5),
    Query(f"count({_HOLDS} > 0)"),
    decimals=0,
)
_COMPONENTS = listing(
    Head("Energy by component", "As the books have it.", "watth"),
    (f"sum by (component) ({_total('wattkeeper_job_energy_joules_total')}) / 3600",),
    (Column("component", "Component"), Column("Value", "Energy", unit="watth")),
    by="Energy",
)
_PLACES = listing(
    Head(
        "Its nodes",
        "GPUs that it holds on each node, what they draw, and how hot the hottest is.",
        "short",
    ),
    (
        f"count by (node) ({_HOLDS} > 0)",
        f"sum by (node) ({_of_gpus('power_watts')})",
        f"""max by (node) ({_of_gpus("temperature_celsius", ', sensor="gpu"')})""",
    ),
    (
        Column("node", "Node", link=("wattkeeper-node", "node")),
        Column("Value #A", "GPUs"),
        Column("Value #B", "Power", unit="watt"),
        Column(
            "Value #C",
            "Hottest",
            unit="celsius",
            colours=((None, "transparent"), (LIMITS["gpu_celsius"], "red")),
        ),
    ),
    by="Power",
    empty="it holds no GPU now",
)
_TRACE = over_time(
    Head(
        "Trace: power by component",
        "As the books have it. In full resolution, and long after its end: `wattkeeper trace`.",
        "watt",
    ),
    Query(
        f"sum by (component) (wattkeeper_job_power_watts{{{_MINE}}} * {_NOW})",
        "{{component}}",
    ),
    stacked=True,
)
_LIVE = over_time(
    Head(
        "Power of its GPUs at each scrape",
        "Its share of them, summed: swings that the books' windows average out show here.",
        "watt",
    ),
    Query(f"sum(job:wattkeeper_gpu_power_watts:sum{{{_MINE}}} * {_NOW})", "GPUs"),
)
_SPREAD = over_time(
    Head(
        "Its GPUs side by side: power",
        "The least, the mean and the greatest of them. A GPU far below the others has nothing to "
        "do, or is slowed, and the others wait for it.",
        "watt",
    ),
    Query(f"min({_of_gpus('power_watts')})", "least"),
    Query(f"avg({_of_gpus('power_watts')})", "mean"),
    Query(f"max({_of_gpus('power_watts')})", "greatest"),
)
_BUSY = over_time(
    Head(
        "Its GPUs side by side: utilization",
        "The least and the mean of them, of the time in which anything ran.",
        "percentunit",
    ),
    Query(f"""min({_of_gpus("utilization_ratio", ', engine="gpu"')})""", "least"),
    Query(f"""avg({_of_gpus("utilization_ratio", ', engine="gpu"')})""", "mean"),
)
_HEAT = over_time(
    Head("Its hottest GPU", "The red line is where the alert is.", "celsius"),
    Query(f"""max({_of_gpus("temperature_celsius", ', sensor="gpu"')})""", "hottest"),
    limit=LIMITS["gpu_celsius"],
)
_THROTTLED = over_time(
    Head(
        "Throttling of its GPUs",
        "Part of the time in which they were slowed, by reason, mean over them.",
        "percentunit",
    ),
    Query(
        f"avg by (reason) (rate(wattkeeper_gpu_throttle_seconds_total{{{_THERE}}}"
        "[$__rate_interval]) * on (cluster, node, uuid) group_left () "
        f"(max by (cluster, node, uuid) ({_HOLDS}) > 0))",
        "{{reason}}",
    ),
)

BOARD = Board(
    "wattkeeper-job",
    "Wattkeeper: Job",
    "One job: what it uses, its trace, and how much of it is idle. Cost, carbon and how sure the "
    "figure is: `wattkeeper job`.",
    (DATASOURCE, CLUSTER, ACCOUNT, JOB, WORKLOAD, PLACE),
    (
        Row("The job", (_ENERGY, _IDLE, _POWER_NOW, _GPUS, _COMPONENTS, _PLACES)),
        Row("Trace", (_TRACE, _LIVE)),
        Row("GPUs", (_SPREAD, _BUSY, _HEAT, _THROTTLED)),
    ),
)
