"""For every alert: series in which all is well at first, and then it is not.

All of them run at once, so their nodes, racks and budgets have names of their own.
"""

from typing import NamedTuple

_TURN, _END = 75, 150
"""Minutes, of a value each: from when on it is not well, and how long there are any."""
QUIET, FIRING = f"{_TURN - 1}m", f"{_END}m"


class Case(NamedTuple):
    """An alert, its series by name, and the labels by which it fires, `severity` and `part` apart.

    Nothing fires at `QUIET`; at `FIRING` exactly this does.
    """

    alert: str
    series: dict[str, str]
    labels: dict[str, str] = {}  # noqa: RUF012 a tuple's default is never changed


def turns(well: float, ill: float, *, each: float = 0) -> str:
    """Return the values of a series that turns, and then grows by `each` a minute."""
    return f"{well}x{_TURN - 1} {ill}+{each}x{_END - _TURN}"


def ends(value: float) -> str:
    """Return the values of a series that ends."""
    return f"{value}x{_TURN - 1} stale"


def begins(value: float) -> str:
    """Return the values of a series that is not there at first."""
    return f"_x{_TURN} {value}x{_END - _TURN}"


def stands(value: float) -> str:
    """Return the values of a series that stays as it is."""
    return f"{value}x{_END}"


def began() -> str:
    """Return the values of a clock of what begins and never succeeds: it stands still at once."""
    return begins(60 * _TURN)


def goes(each: float = 60) -> str:
    """Return the values of a clock, or of a counter, that goes on."""
    return f"0+{each}x{_END}"


def _racks(*nodes: str) -> dict[str, str]:
    return {
        f'wattkeeper_node_info{{cluster="c",node="{node}",rack="{node[:-1]}"}}': stands(1)
        for node in nodes
    }


def _rack(name: str) -> dict[str, str]:
    return {"cluster": "c", "rack": name}


def _temperature(node: str, gpu: int, values: str) -> dict[str, str]:
    labels = f'cluster="c",node="{node}",sensor="gpu",uuid="GPU-{node}-{gpu}"'
    return {f"wattkeeper_gpu_temperature_celsius{{{labels}}}": values}


def _throttled(node: str, reason: str, values: str) -> dict[str, str]:
    labels = f'cluster="c",node="{node}",reason="{reason}",uuid="GPU-{node}"'
    return {f"wattkeeper_gpu_throttle_seconds_total{{{labels}}}": values}


def _budget(name: str, kind: str, level: str) -> dict[str, str]:
    """Return a budget whose reading ends after its level is reached, which goes on all the same."""
    budget = f'budget="{name}",instance="a"'
    return {
        f'wattkeeper_budget_info{{{budget},kind="{kind}"}}': stands(1),
        f"wattkeeper_budget_used_ratio{{{budget}}}": f"1.2x{_TURN + 9} stale",
        f'wattkeeper_budget_level{{{budget},level="{level}"}}': turns(0, 1),
    }


def _swing(job: str, share: float, values: str) -> dict[str, str]:
    """Return one GPU that stands for all of a job; the job holds `share` of it."""
    gpu = f'cluster="c",node="n{job}",uuid="GPU-{job}"'
    work = f'manager="slurm",workload="{job}"'
    info = f'account="physics",cluster="c",job_id="{job}",manager="slurm",workload="{job}"'
    return {
        f"wattkeeper_gpu_power_watts{{{gpu}}}": values,
        f"wattkeeper_holder_ratio{{{gpu},{work}}}": stands(share),
        f"wattkeeper_workload_info{{{info}}}": stands(1),
    }


_SWINGS = f"900000x{_TURN - 1} " + "900000 100000 " * _TURN
_STEPS = f"100000x{_TURN - 1} 900000x{_TURN}"

POWER = (
    Case(
        "WattkeeperPowerBudgetExceeded",
        _budget("hall", "watts", "hard"),
        {"budget": "hall", "kind": "watts"},
    ),
    Case(
        "WattkeeperDemandForecast",
        _budget("feed", "demand", "forecast"),
        {"budget": "feed", "kind": "demand"},
    ),
    Case(
        "WattkeeperEnergyBudgetExceeded",
        _budget("year", "energy", "hard"),
        {"budget": "year", "kind": "energy"},
    ),
    Case(
        "WattkeeperEnergyBudgetForecast",
        _budget("month", "energy", "forecast"),
        {"budget": "month", "kind": "energy"},
    ),
    Case(
        "WattkeeperBudgetNear",
        _budget("near", "demand", "warn"),
        {"budget": "near", "kind": "demand"},
    ),
    # From the beginning: they were never evaluated.
    Case("WattkeeperBudgetsStale", {"wattkeeper_budget_evaluated_timestamp_seconds": began()}),
    # A job of half a device swings too little; one that only starts is no swing.
    Case(
        "WattkeeperJobPowerSwing",
        _swing("1", 1, _SWINGS) | _swing("2", 0.25, _SWINGS) | _swing("3", 1, _STEPS),
        {
            "account": "physics",
            "cluster": "c",
            "job_id": "1",
            "manager": "slurm",
            "workload": "1",
        },
    ),
)

HEAT_AND_WASTE = (
    # Two nodes of a rack are one alert.
    Case(
        "WattkeeperGpusHot",
        _racks("hot11", "hot12", "hot21")
        | _temperature("hot11", 0, turns(70, 86))
        | _temperature("hot11", 1, turns(70, 90))
        | _temperature("hot12", 0, turns(70, 86))
        | _temperature("hot21", 0, turns(70, 85)),
        _rack("hot1"),
    ),
    # Slowed by its power cap a GPU does what it was told to.
    Case(
        "WattkeeperGpusThrottled",
        _racks("slow11", "slow21")
        | _throttled("slow11", "hw_thermal", turns(0, 0, each=6))
        | _throttled("slow21", "sw_power_cap", turns(0, 0, each=60)),
        _rack("slow1"),
    ),
    # Two minutes of the hour, however many GPUs, are none that is held.
    Case(
        "WattkeeperGpusHeldIdle",
        {
            'wattkeeper_allocated_idle_gpus{account="physics",instance="a"}': turns(4, 5),
            'wattkeeper_allocated_idle_gpus{account="physics",instance="b"}': turns(4, 5),
            'wattkeeper_allocated_idle_gpus{account="biology",instance="a"}': stands(8),
            'wattkeeper_allocated_idle_gpus{account="history",instance="a"}': "_x88 16x3 stale",
        },
        {"account": "physics"},
    ),
)


def _nodes(instance: str, live: int, silent: int) -> dict[str, str]:
    return {
        f'wattkeeper_nodes{{instance="{instance}",state="live"}}': stands(live),
        f'wattkeeper_nodes{{instance="{instance}",state="silent"}}': stands(silent),
    }


def _source(node: str, source: str, state: str) -> str:
    labels = f'cluster="c",node="{node}",source="{source}",state="{state}"'
    return f"wattkeeper_source_state{{{labels}}}"


METERING = (
    Case(
        "WattkeeperNodesSilent",
        _racks("mute11", "mute12")
        | {'wattkeeper_node_unmetered{cluster="c",node="mute11",state="silent"}': begins(1)}
        | {'wattkeeper_node_unmetered{cluster="c",node="mute12",state="absent"}': begins(1)},
        _rack("mute1"),
    ),
    # Nodes that are powered down are nobody's concern. 7 of 140 is a twentieth: 51 are those of
    # coverage, below.
    Case(
        "WattkeeperManyNodesSilent",
        {
            'wattkeeper_nodes{state="live"}': stands(83),
            'wattkeeper_nodes{state="silent"}': turns(4, 5),
            'wattkeeper_nodes{state="absent"}': stands(2),
            'wattkeeper_nodes{state="off"}': stands(500),
        },
    ),
    # Of a node that is silent as well another alert tells.
    Case(
        "WattkeeperNodesNotScraped",
        _racks("far11", "far21")
        | {
            'up{cluster="c",job="wattkeeper",node="far11"}': turns(1, 0),
            'up{cluster="c",job="wattkeeper",node="far12"}': stands(1),
        },
        _rack("far1"),
    ),
    Case(
        "WattkeeperSourcesUnwell",
        _racks("ill11", "ill21")
        | {
            _source("ill11", "rapl", "denied"): turns(0, 1),
            _source("ill11", "rapl", "ok"): turns(1, 0),
            _source("ill21", "rapl", "absent"): stands(1),
            _source("mute11", "rapl", "denied"): turns(0, 1),
        },
        _rack("ill1") | {"state": "denied"},
    ),
    Case(
        "WattkeeperJournalBackingUp",
        _racks("late11", "late21")
        | {
            'wattkeeper_journal_oldest_pending_seconds{cluster="c",node="late11"}': turns(
                5, 0, each=60
            ),
            'wattkeeper_journal_oldest_pending_seconds{cluster="c",node="late21"}': stands(900),
            'wattkeeper_journal_oldest_pending_seconds{cluster="c",node="mute12"}': turns(
                5, 0, each=60
            ),
        },
        _rack("late1"),
    ),
    Case("WattkeeperAgentsAbsent", {'wattkeeper_agent_info{cluster="c",node="n11"}': ends(1)}),
)

BOOKS = (
    # One that does not lead does not help.
    Case(
        "WattkeeperAggregatorAbsent",
        {
            'wattkeeper_lease_held{instance="a"}': ends(1),
            'wattkeeper_lease_held{instance="b"}': stands(0),
        },
    ),
    Case(
        "WattkeeperBooksUnbalanced",
        {
            'wattkeeper_ledger_residual_joules{instance="a"}': turns(0, -1e-6),
            'wattkeeper_ledger_problems{instance="a"}': stands(0),
        },
        {"instance": "a"},
    ),
    # A silent node of fifty explains two per cent.
    Case(
        "WattkeeperCoverageLow",
        {
            'wattkeeper_ledger_coverage_ratio{instance="a"}': turns(0.99, 0.98),
            'wattkeeper_ledger_coverage_ratio{instance="b"}': stands(0.98),
            **_nodes("a", 1, 0),
            **_nodes("b", 49, 1),
        },
        {"instance": "a"},
    ),
    # One has committed and ended, another one began and has not.
    Case(
        "WattkeeperCommitsStale",
        {
            'wattkeeper_commit_timestamp_seconds{instance="a"}': f"0+60x{_TURN} stale",
            'wattkeeper_commit_timestamp_seconds{instance="b"}': began(),
        },
    ),
    Case(
        "WattkeeperRecordsRefused", {"wattkeeper_ledger_refused_records_total": turns(7, 7, each=1)}
    ),
    Case(
        "WattkeeperSchedulerSilent",
        {
            'wattkeeper_scheduler_answer_timestamp_seconds{scheduler="slurm"}': began(),
            'wattkeeper_scheduler_answer_timestamp_seconds{scheduler="kubernetes"}': goes(),
        },
        {"scheduler": "slurm"},
    ),
    Case(
        "WattkeeperHistoryFailing",
        {
            'wattkeeper_telemetry_state{instance="a",state="failing"}': turns(0, 1),
            'wattkeeper_telemetry_state{instance="a",state="ok"}': turns(1, 0),
        },
        {"instance": "a"},
    ),
    Case(
        "WattkeeperCertificateEnds",
        {
            'wattkeeper_certificate_expiry_timestamp_seconds{instance="a"}': turns(1e6, 5e5),
            'wattkeeper_certificate_expiry_timestamp_seconds{instance="b"}': stands(1e6),
        },
        {"instance": "a"},
    ),
)

CASES = (*POWER, *HEAT_AND_WASTE, *METERING, *BOOKS)
