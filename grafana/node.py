"""Node: one machine, its devices, and who holds them."""

from grafana.fleet import HEAT
from grafana.layout import Board, Row
from grafana.panels import Head, Query, number, over_time
from grafana.tables import Column, listing
from grafana.thresholds import LIMITS
from grafana.variables import CLUSTER, DATASOURCE, GROUP, KIND, NODE

_NODE = 'cluster=~"$cluster", node="$node"'
_BY_GPU = f"* on (cluster, node, uuid) group_left (gpu) wattkeeper_gpu_info{{{_NODE}}}"


def _gpus(metric: str, more: str = "") -> Query:
    """Return a query of each GPU by its number, as people call them."""
    return Query(
        f"sum by (gpu) (wattkeeper_gpu_{metric}{{{_NODE}{more}}} {_BY_GPU})", "GPU {{gpu}}"
    )


_POWER_NOW = number(
    Head("Power", "Whole host if it has a meter, else its GPUs, CPUs and memory.", "watt", 6, 4),
    Query(f"sum(node:wattkeeper_power_watts:sum{{{_NODE}}})"),
)
_HOTTEST = number(
    Head("Hottest GPU", "Red is where the alert is.", "celsius", 6, 4),
    Query(f"max(node:wattkeeper_gpu_temperature_celsius:max{{{_NODE}}})"),
    HEAT,
)
_BUSY = number(
    Head(
        "GPU utilization",
        "Mean over the GPUs of the time in which anything ran on them, not how well.",
        "percentunit",
        6,
        4,
    ),
    Query(f'avg(wattkeeper_gpu_utilization_ratio{{{_NODE}, engine="gpu"}})'),
)
_CPU_BUSY = number(
    Head("CPU utilization", "Time of all cores that was not idle.", "percentunit", 6, 4),
    Query(f"avg(wattkeeper_cpu_utilization_ratio{{{_NODE}}})"),
)
_HELD = listing(
    Head(
        "Who holds its GPUs now",
        "Share of each GPU's energy in the last window, by job. What is missing to 100 % was idle, "
        "or nobody's.",
        "percentunit",
        height=9,
    ),
    (
        (
            f'sum by (gpu, job_id, account) (wattkeeper_holder_ratio{{{_NODE}, uuid!=""}} '
            f"{_BY_GPU} * on (cluster, manager, workload) group_left (job_id, account) "
            "wattkeeper_workload_info)"
        ),
    ),
    (
        Column("gpu", "GPU"),
        Column("job_id", "Job", link=("wattkeeper-job", "job")),
        Column("account", "Account", link=("wattkeeper-accounts", "account")),
        Column("Value", "Share", unit="percentunit"),
    ),
    by="Share",
    empty="nobody holds a GPU here",
)
_ENERGY = listing(
    Head(
        "Energy of its devices in the time shown",
        "What each device has counted, whoever used it. Who used it: `wattkeeper report --by "
        "node`.",
        "watth",
        height=9,
    ),
    (
        (
            "label_join(label_replace(sum by (gpu) (increase("
            f"wattkeeper_gpu_energy_joules_total{{{_NODE}}}[$__range]) {_BY_GPU}) / 3600, "
            '"kind", "GPU", "", ""), "device", " ", "kind", "gpu") or '
            "label_join(sum by (domain, socket) (increase("
            f"wattkeeper_cpu_energy_joules_total{{{_NODE}}}[$__range])) / 3600, "
            '"device", " ", "domain", "socket") or '
            "label_join(sum by (meter) (increase("
            f"wattkeeper_host_energy_joules_total{{{_NODE}}}[$__range])) / 3600, "
            '"device", " ", "meter")'
        ),
    ),
    (Column("device", "Device"), Column("Value", "Energy", unit="watth")),
    by="Energy",
)
_POWER = over_time(
    Head(
        "Power by component",
        "The host's own meter is a line of its own: it holds the others and is not added to them.",
        "watt",
    ),
    Query(f"sum(node:wattkeeper_gpu_power_watts:sum{{{_NODE}}})", "GPUs"),
    Query(f"sum by (domain) (wattkeeper_cpu_power_watts{{{_NODE}}})", "CPU {{domain}}"),
    Query(f"max by (meter) (wattkeeper_host_power_watts{{{_NODE}}})", "host ({{meter}})"),
)
_THROTTLED = over_time(
    Head(
        "Throttling by reason",
        "Part of the time in which its GPUs were slowed, mean over them. `sw_power_cap` is the "
        "power limit at work.",
        "percentunit",
    ),
    Query(
        "avg by (reason) "
        f"(rate(wattkeeper_gpu_throttle_seconds_total{{{_NODE}}}[$__rate_interval]))",
        "{{reason}}",
    ),
)
_GPU_POWER = over_time(
    Head("Power of each GPU", "As it was when it was scraped.", "watt"), _gpus("power_watts")
)
_GPU_HEAT = over_time(
    Head("Temperature of each GPU", "The red line is where the alert is.", "celsius"),
    _gpus("temperature_celsius", ', sensor="gpu"'),
    limit=LIMITS["gpu_celsius"],
)
_GPU_BUSY = over_time(
    Head("Utilization of each GPU", "Time in which anything ran on it.", "percentunit"),
    _gpus("utilization_ratio", ', engine="gpu"'),
)
_GPU_CLOCK = over_time(
    Head("Clock of each GPU", "Of its streaming multiprocessors or their like.", "hertz"),
    _gpus("clock_hertz", ', clock="sm"'),
)
_GPU_MEMORY = over_time(
    Head("Memory in use on each GPU", "Of the installed memory.", "percentunit"),
    Query(
        f"sum by (gpu) (wattkeeper_gpu_memory_used_bytes{{{_NODE}}} / on (cluster, node, uuid) "
        f"wattkeeper_gpu_memory_total_bytes{{{_NODE}}} {_BY_GPU})",
        "GPU {{gpu}}",
    ),
)
_SOURCES = listing(
    Head(
        "State of its sources",
        "What the agent reads, and how that is. `wattkeeper doctor` on the node says why, and what "
        "to do.",
        "short",
    ),
    (f"max by (source, state) (wattkeeper_source_state{{{_NODE}}} == 1)",),
    (Column("source", "Source"), Column("state", "State")),
    by="State",
)

BOARD = Board(
    "wattkeeper-node",
    "Wattkeeper: Node",
    "One node: power, heat and use of its devices, and who holds them.",
    (DATASOURCE, CLUSTER, KIND, GROUP, NODE),
    (
        Row("Now", (_POWER_NOW, _HOTTEST, _BUSY, _CPU_BUSY, _HELD, _ENERGY)),
        Row("Power and throttling", (_POWER, _THROTTLED)),
        Row("GPUs", (_GPU_POWER, _GPU_HEAT, _GPU_BUSY, _GPU_CLOCK, _GPU_MEMORY, _SOURCES)),
    ),
)
