"""The queries that `docs/metrics.md` shows, with what they must answer over known series.

The series of the programs are those of their golden expositions, so that a label that is renamed
fails here; those of other exporters are written as these write them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FIXTURES = Path(__file__).parents[1] / "fixtures" / "exposition"
_GPU = "GPU-00000000-0000-4000-8000-0000c0ffee00"
_IDLE_GPU = "GPU-00000001-0000-4000-8000-0000c0ffee01"
_POD = "0a1b2c3d-1111-2222-3333-444455556666"


class Query(NamedTuple):
    """A query under a heading, what it is for, and its answer by labels."""

    heading: str
    comment: str
    text: str
    answer: dict[str, float]


QUERIES = (
    Query(
        "Devices",
        "power of every GPU, with its model",
        "wattkeeper_gpu_power_watts * on (node, uuid) group_left (model) wattkeeper_gpu_info",
        {
            f'{{cluster="test", model="NVIDIA H100 80GB HBM3", node="n1", uuid="{_GPU}"}}': 300,
            f'{{cluster="test", model="NVIDIA H100 80GB HBM3", node="n1", uuid="{_IDLE_GPU}"}}': 90,
        },
    ),
    Query(
        "Jobs",
        "who holds what now, with account and partition",
        'wattkeeper_holder_ratio{uuid!=""}\n'
        "  * on (manager, workload) group_left (account, partition) wattkeeper_workload_info",
        {
            f'{{account="physics", cluster="test", manager="slurm", meter="gpu/{_GPU}", node="n1", '
            f'partition="gpu", uuid="{_GPU}", workload="4711"}}': 0.75,
        },
    ),
    Query(
        "Jobs",
        "the same where several clusters have agents (with `cluster` in their configuration)",
        'wattkeeper_holder_ratio{uuid!=""}\n'
        "  * on (cluster, manager, workload) group_left (account, partition) "
        "wattkeeper_workload_info",
        {
            f'{{account="physics", cluster="test", manager="slurm", meter="gpu/{_GPU}", node="n1", '
            f'partition="gpu", uuid="{_GPU}", workload="4711"}}': 0.75,
        },
    ),
    Query(
        "Jobs",
        "power of each job's GPUs now, at the scrape's resolution, by its number and account",
        "sum by (manager, workload) (\n"
        "  wattkeeper_holder_ratio * on (node, uuid) group_left () wattkeeper_gpu_power_watts\n"
        ") * on (manager, workload) group_left (job_id, account) wattkeeper_workload_info",
        {'{account="physics", job_id="4711", manager="slurm", workload="4711"}': 225},
    ),
    Query(
        "Jobs",
        "the hottest GPU of each job",
        "max by (manager, workload) (\n"
        "  (wattkeeper_holder_ratio > bool 0)\n"
        '    * on (node, uuid) group_left () wattkeeper_gpu_temperature_celsius{sensor="gpu"}\n'
        ")",
        {
            '{manager="slurm", workload="4711"}': 61,
            f'{{manager="kubernetes", workload="{_POD}"}}': 35,
        },
    ),
    Query(
        "Jobs",
        "energy of a job so far (never `increase` of a job's series: it misses its beginning)",
        "sum by (manager, workload) (last_over_time(wattkeeper_job_energy_joules_total[1h]))",
        {'{manager="slurm", workload="4711"}': 1000},
    ),
    Query(
        "Jobs",
        "the part of it in which its GPUs were its own and nothing of it ran",
        "sum by (manager, workload) (wattkeeper_job_allocated_idle_joules_total)\n"
        "  / sum by (manager, workload) (wattkeeper_job_energy_joules_total)",
        {'{manager="slurm", workload="4711"}': 0.125},
    ),
    Query(
        "Accounts",
        "energy of each account today",
        "sum by (account) (increase(wattkeeper_account_energy_joules_total[1d]))",
        {'{account="physics"}': 864_000},
    ),
    Query(
        "Accounts",
        "GPUs that were allocated and idle today, on average, and those that are now",
        "sum by (account) (rate(wattkeeper_account_allocated_idle_gpu_seconds_total[1d]))",
        {'{account="physics"}': 2},
    ),
    Query(
        "Accounts",
        "",
        "wattkeeper_allocated_idle_gpus",
        {'wattkeeper_allocated_idle_gpus{account="physics"}': 1},
    ),
    Query(
        "Beside other exporters",
        "kube-state-metrics: power of each pod's GPUs, by `uid`",
        "sum by (uid) (label_replace(\n"
        '  wattkeeper_holder_ratio{manager="kubernetes"}'
        " * on (node, uuid) group_left () wattkeeper_gpu_power_watts,\n"
        '  "uid", "$1", "workload", "(.*)"\n'
        ")) * on (uid) group_left (namespace, pod) kube_pod_info",
        {f'{{namespace="ml", pod="train-0", uid="{_POD}"}}': 90},
    ),
    Query(
        "Beside other exporters",
        "node_exporter: CPU watts per busy core (its series have `instance`; the name is in uname)",
        'sum by (node) (wattkeeper_cpu_power_watts{domain="package"})\n'
        "  / on (node) label_replace(sum by (nodename) (\n"
        '    rate(node_cpu_seconds_total{mode!~"idle|iowait"}[5m])\n'
        "      * on (instance) group_left (nodename) node_uname_info\n"
        '  ), "node", "$1", "nodename", "([^.]+).*")',
        {'{node="n1"}': 40},
    ),
    Query(
        "Beside other exporters",
        "dcgm-exporter: watts per tensor activity, by its `UUID`; GPUs in slices have several",
        "wattkeeper_gpu_power_watts / on (uuid) sum by (uuid) (label_replace(\n"
        '  DCGM_FI_PROF_PIPE_TENSOR_ACTIVE, "uuid", "$1", "UUID", "(.+)"\n'
        "))",
        {f'{{uuid="{_GPU}"}}': 400},
    ),
    Query(
        "Alerts",
        "must be 0; page somebody if not",
        "wattkeeper_ledger_problems > 0",
        {},
    ),
    Query(
        "Alerts",
        "nodes that fell silent, or that a scheduler has and no agent ever spoke of",
        'wattkeeper_nodes{state=~"silent|absent"} > 0',
        {'wattkeeper_nodes{state="absent"}': 2},
    ),
    Query(
        "Alerts",
        "sources that are denied or failing",
        'wattkeeper_source_state{state=~"denied|failing"} == 1',
        {
            'wattkeeper_source_state{cluster="test", node="n1", source="nvml", state="failing"}': 1,
        },
    ),
    Query(
        "Alerts",
        "a scheduler that has not answered for ten minutes: names and settlement wait for it",
        "time() - wattkeeper_scheduler_answer_timestamp_seconds > 600",
        {'{scheduler="slurm"}': 86_400},
    ),
    Query(
        "Alerts",
        "jobs without series of their own: raise `metrics.max_jobs`",
        "wattkeeper_jobs_omitted > 0",
        {},
    ),
)


def shown() -> str:
    """Return the queries as the page shows them."""
    text = ""
    for heading in dict.fromkeys(query.heading for query in QUERIES):
        own = (query for query in QUERIES if query.heading == heading)
        blocks = (f"# {q.comment}\n{q.text}\n" if q.comment else f"{q.text}\n" for q in own)
        text += f"\n### {heading}\n\n```promql\n{''.join(blocks)}```\n"
    return text


def series() -> dict[str, str]:
    """Return the series that the answers are of: values a minute apart over a day, as promtool's.

    Of the goldens every series is there, most of them with 0; the job of both is made the same.
    """
    found = dict.fromkeys(_golden("agent.prom"), "0x1440")
    job = {'workload="123"': 'workload="4711"', 'job_id="123"': 'job_id="4711"'}
    for line in _golden("aggregator.prom"):
        for old, new in ({'cluster="west"': 'cluster="test"'} | job).items():
            line = line.replace(old, new)  # noqa: PLW2901  # one after the other
        found[line] = "0x1440"
    for pattern, values in _VALUES.items():
        matching = [line for line in found if re.match(pattern, line)]
        assert matching, f"{pattern}: no such series is in the golden expositions"
        found |= dict.fromkeys(matching, values)
    return found | _OTHERS


def _golden(name: str) -> Iterator[str]:
    for line in (_FIXTURES / name).read_text().splitlines():
        if not line.startswith("#"):
            yield line.rpartition(" ")[0]


_VALUES = {
    rf'wattkeeper_gpu_power_watts{{.*"{_GPU}"': "300x1440",
    rf'wattkeeper_gpu_power_watts{{.*"{_IDLE_GPU}"': "90x1440",
    "wattkeeper_gpu_info": "1x1440",
    rf'wattkeeper_gpu_temperature_celsius{{.*sensor="gpu",uuid="{_GPU}"': "61x1440",
    rf'wattkeeper_gpu_temperature_celsius{{.*sensor="gpu",uuid="{_IDLE_GPU}"': "35x1440",
    rf'wattkeeper_holder_ratio{{.*"{_GPU}"': "0.75x1440",
    "wattkeeper_workload_info": "1x1440",
    'wattkeeper_job_energy_joules_total.*"gpu"': "800x1440",
    'wattkeeper_job_energy_joules_total.*"cpu"': "200x1440",
    "wattkeeper_job_allocated_idle_joules_total": "125x1440",
    "wattkeeper_account_energy_joules_total": "0+600x1440",
    "wattkeeper_account_allocated_idle_gpu_seconds_total": "0+120x1440",
    "wattkeeper_allocated_idle_gpus": "1x1440",
    'wattkeeper_nodes{state="absent"}': "2x1440",
    'wattkeeper_cpu_power_watts.*"package"': "120x1440",
    'wattkeeper_source_state{.*source="nvml",state="failing"': "1x1440",
}
_OTHERS = {
    'wattkeeper_scheduler_answer_timestamp_seconds{scheduler="slurm"}': "0x1440",
    f'wattkeeper_holder_ratio{{cluster="test",manager="kubernetes",meter="gpu/{_IDLE_GPU}",'
    f'node="n1",uuid="{_IDLE_GPU}",workload="{_POD}"}}': "1x1440",
    f'kube_pod_info{{instance="ksm:8080",namespace="ml",node="n1",pod="train-0",uid="{_POD}"}}': (
        "1x1440"
    ),
    'node_uname_info{instance="n1:9100",nodename="n1.example.org",sysname="Linux"}': "1x1440",
    'node_cpu_seconds_total{cpu="0",instance="n1:9100",mode="user"}': "0+60x1440",
    'node_cpu_seconds_total{cpu="1",instance="n1:9100",mode="system"}': "0+60x1440",
    'node_cpu_seconds_total{cpu="2",instance="n1:9100",mode="user"}': "0+60x1440",
    'node_cpu_seconds_total{cpu="3",instance="n1:9100",mode="idle"}': "0+60x1440",
    f'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{gpu="0",UUID="{_GPU}",GPU_I_ID="1",Hostname="n1"}}': (
        "0.25x1440"
    ),
    f'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{gpu="0",UUID="{_GPU}",GPU_I_ID="2",Hostname="n1"}}': (
        "0.5x1440"
    ),
}
