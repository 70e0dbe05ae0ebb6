"""Health of the metering itself: whether what the others show is complete and right."""

from grafana.layout import Board, Row
from grafana.panels import Head, Query, number, over_time
from grafana.tables import Column, listing
from grafana.thresholds import LIMITS
from grafana.unmetered import unmetered
from grafana.variables import CLUSTER, DATASOURCE, GROUP, KIND

_CLUSTER = 'cluster=~"$cluster"'
_BALANCED = number(
    Head("Residual of the books", "Of the last hour; anything but 0 is wrong.", "joule", 6, 4),
    Query("max(abs(wattkeeper_ledger_residual_joules))"),
    ((None, "green"), (1e-6, "red")),
)
_PROBLEMS = number(
    Head("Problems of the balance", "Of the last hour; must be 0.", "short", 6, 4),
    Query("max(wattkeeper_ledger_problems)"),
    ((None, "green"), (1, "red")),
    decimals=0,
)
_COVERAGE = number(
    Head("Coverage", "Metered over expected time of the last hour.", "percentunit", 6, 4),
    Query("max(wattkeeper_ledger_coverage_ratio)"),
    ((None, "red"), (LIMITS["coverage_ratio"], "green")),
    decimals=2,
)
_COMMIT = number(
    Head("Last commit", "How long ago deliveries were committed to the books.", "s", 6, 4),
    Query("time() - max(wattkeeper_commit_timestamp_seconds)"),
    ((None, "green"), (LIMITS["commit_seconds"], "red")),
)
_NODES = over_time(
    Head(
        "Nodes by state",
        "live, silent, absent (never seen), in conflict, off (powered down by their scheduler).",
        "short",
    ),
    Query("max by (state) (wattkeeper_nodes)", "{{state}}"),
    stacked=True,
)
_UNMETERED = unmetered(
    Head("Nodes that are not metered", "They should be, and nothing is heard of them.", "short")
)
_SOURCES = listing(
    Head(
        "Sources that are not well",
        "On how many nodes, and which. `wattkeeper doctor` on a node says why.",
        "short",
    ),
    (
        (
            "count by (state, source) (label_replace("
            f'node:wattkeeper_source_unwell:info{{{_CLUSTER}}}, "source", "$1", '
            '"source", "(gpu|cpu|host|hwmon)/.*"))'
        ),
    ),
    (Column("source", "Source"), Column("state", "State"), Column("Value", "How many")),
    by="How many",
    empty="every source is well",
)
_UNSCRAPED = listing(
    Head(
        "Agents that cannot be scraped",
        "Listed by the aggregator and not reached by Prometheus: live panels are blind there.",
        "short",
    ),
    (f'max by (cluster, node, instance) (up{{job="wattkeeper", {_CLUSTER}}} == 0)',),
    (
        Column("node", "Node", link=("wattkeeper-node", "node")),
        Column("instance", "Address"),
    ),
    by="Node",
    empty="every agent is scraped",
)
_JOURNALS = over_time(
    Head(
        "Oldest window that is not in the books",
        "Of the ten agents that wait longest. Nothing is lost as long as their disks have room. "
        "The red line is where the alert is.",
        "s",
    ),
    Query(f"topk(10, wattkeeper_journal_oldest_pending_seconds{{{_CLUSTER}}})", "{{node}}"),
    limit=LIMITS["journal_seconds"],
    top=True,
)
_TICKS = over_time(
    Head(
        "Time that a sample takes",
        "The slowest agent, and the mean of all: reading, splitting, committing.",
        "s",
    ),
    Query(f"max(wattkeeper_tick_seconds{{{_CLUSTER}}})", "slowest"),
    Query(f"avg(wattkeeper_tick_seconds{{{_CLUSTER}}})", "mean"),
)
_LOST = over_time(
    Head(
        "What agents missed",
        "Samples left out because one took too long, deliveries that did not get through, epilogs "
        "that never came: of all agents, each second.",
        "cps",
    ),
    Query(f"sum(rate(wattkeeper_missed_ticks_total{{{_CLUSTER}}}[$__rate_interval]))", "samples"),
    Query(
        f"sum(rate(wattkeeper_failed_deliveries_total{{{_CLUSTER}}}[$__rate_interval]))",
        "deliveries",
    ),
    Query(f"sum(rate(wattkeeper_missed_epilogs_total{{{_CLUSTER}}}[$__rate_interval]))", "epilogs"),
)
_CROSSCHECK = over_time(
    Head(
        "Counters against integrated power",
        "Energy by a device's counter over energy by its sampled power: the least and the greatest "
        "of all meters. Far from 1, one of both is wrong.",
        "short",
    ),
    Query(f"min(wattkeeper_meter_crosscheck_ratio{{{_CLUSTER}}})", "least"),
    Query(f"max(wattkeeper_meter_crosscheck_ratio{{{_CLUSTER}}})", "greatest"),
)
_INTAKE = over_time(
    Head("Intake", "Records that agents deliver each second, those sent again included.", "cps"),
    Query("sum(rate(wattkeeper_intake_records_total[$__rate_interval]))", "records"),
    Query("sum(rate(wattkeeper_ledger_refused_records_total[$__rate_interval]))", "refused"),
)
_SCHEDULERS = over_time(
    Head("Age of the schedulers' last answers", "The red line is where the alert is.", "s"),
    Query(
        "time() - max by (scheduler) (wattkeeper_scheduler_answer_timestamp_seconds)",
        "{{scheduler}}",
    ),
    limit=LIMITS["scheduler_seconds"],
)
_HISTORY = over_time(
    Head("History: windows that wait", "In memory, until the store takes them.", "short"),
    Query("sum(wattkeeper_telemetry_waiting_windows)", "waiting"),
)
_DISK = over_time(
    Head(
        "History: on disk",
        "The embedded store; an engine elsewhere has figures of its own.",
        "bytes",
    ),
    Query("sum by (resolution) (wattkeeper_telemetry_parquet_bytes)", "{{resolution}}"),
    Query("sum(wattkeeper_telemetry_database_bytes)", "new rows"),
    stacked=True,
)

BOARD = Board(
    "wattkeeper-health",
    "Wattkeeper: Health of the metering",
    "Whether what the other dashboards show is complete and right.",
    (DATASOURCE, CLUSTER, KIND, GROUP),
    (
        Row("The books", (_BALANCED, _PROBLEMS, _COVERAGE, _COMMIT)),
        Row("Nodes", (_NODES, _UNMETERED, _SOURCES, _UNSCRAPED)),
        Row("Agents", (_JOURNALS, _TICKS, _LOST, _CROSSCHECK)),
        Row("Aggregator", (_INTAKE, _SCHEDULERS, _HISTORY, _DISK)),
    ),
)
