"""`wattkeeper report`."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from wattkeeper.cli.client import ask
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import (
    Format,
    console,
    emit_csv,
    emit_json,
    energy,
    instant,
    percent,
    table,
)
from wattkeeper.cli.rows import idle_part

_COMPONENTS = ("gpu", "cpu", "dram", "host")
_COLUMNS = (
    "key",
    "kind",
    "jobs",
    "energy_uj",
    "energy_kwh",
    "allocated_idle_uj",
    "allocated_idle_kwh",
    "gpu_seconds",
    "allocated_idle_gpu_seconds",
)


class Report(Command):
    """Report energy by user, account, partition, QOS, label, node and the like, over any time.

    What belongs to no job (idle, system, overhead, gap) has rows of its own, so that
    the rows add up to what the meters counted. `idle` is the part of a group's energy,
    and of its GPU hours, in which GPUs were allocated while nothing ran on them.

    `--by`: user, account, partition, qos, namespace, owner, name, array, node,
    or label:KEY (Slurm: label:wckey, label:comment; Kubernetes: the labels of pods
    that the aggregator's `kubernetes.labels` names), or group:KIND (group:rack,
    group:row: of the nodes, as the aggregator's `groups` have them).

    Examples:
      wattkeeper report --by account --since -30d
      wattkeeper report --by user --since 2026-10-01 --until 2026-11-01 --format csv
      wattkeeper report --by node --since -24h
      wattkeeper report --by owner --since -7d        Deployment/web, RayJob/tune, …
      wattkeeper report --by label:team --since -30d
      wattkeeper report --by group:rack --since -24h --format csv
    """

    by: str = Field("account", description="user, account, partition, qos, owner, label:KEY, …")
    since: str = Field("-7d", description="from: 2026-11-01, -30d; whole slots")
    until: str | None = Field(None, description="to, the same way; now")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print."""
        query = {"by": self.by, "since": self.since, "until": self.until}
        answer = ask(self.url, "/v1/report", query)
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            columns = (*_COLUMNS, *(f"{component}_uj" for component in _COMPONENTS))
            emit_csv(map(_flat, answer["rows"]), columns)
        else:
            _print(answer)
        return 0


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    parts = row["energy_by_component_uj"]
    return {**row, **{f"{component}_uj": parts.get(component) for component in _COMPONENTS}}


def _name(row: Mapping[str, Any]) -> str:
    """Return a group's name; what is nobody's, or nobody known, stands in parentheses."""
    if row["kind"] != "group":
        return f"({row['kind']})"
    return str(row["key"] or "(none)")


def _print(answer: Mapping[str, Any]) -> None:
    whole = int(answer["energy_uj"])
    rows = [
        [
            _name(row),
            str(row["jobs"]) if row["kind"] == "group" else "",
            energy(row["energy_uj"]),
            percent(int(row["energy_uj"]) / whole) if whole else "-",
            percent(idle_part(row)) if row["kind"] == "group" else "",
            f"{row['gpu_seconds'] / 3600:,.1f}",
            f"{row['allocated_idle_gpu_seconds'] / 3600:,.1f}",
            *(energy(row["energy_by_component_uj"].get(part)) for part in _COMPONENTS),
        ]
        for row in answer["rows"]
    ]
    rows.append(["total", "", energy(whole)] + [""] * (4 + len(_COMPONENTS)))
    headers = [answer["by"], "jobs", "energy", "share", "idle", "GPU h", "idle h", *_COMPONENTS]
    out = console()
    out.print(f"{instant(answer['since'])} to {instant(answer['until'])}")
    out.print(table(headers, rows))
    out.print(
        f"{percent(answer['coverage'])} of the time since each meter first appeared was metered."
    )
