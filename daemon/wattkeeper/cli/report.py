"""`wattkeeper report`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from wattkeeper.cli.client import ask, save
from wattkeeper.cli.command import Command
from wattkeeper.cli.output import (
    Format,
    clean,
    console,
    emit_csv,
    emit_json,
    energy,
    instant,
    percent,
    table,
    watts,
)
from wattkeeper.cli.rows import idle_part
from wattkeeper.cli.worth import factor_words
from wattkeeper.flags import ConfigError
from wattkeeper.units import carbon, money

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
    *(f"{component}_uj" for component in _COMPONENTS),
    "mean_watts",
    "accuracy",
    "cost",
    "allocated_idle_cost",
    "currency",
    "cost_estimated_ratio",
    "carbon_g",
    "carbon_estimated_ratio",
    "least_uj",
    "median_uj",
    "most_uj",
)
_SWEEPS = ("name", "array", "owner")
_WIDE = 130
"""Characters of a terminal from which on every column is shown."""
_LABELS = {"price": "price", "carbon": "carbon", "pue": "PUE"}


class Report(Command):
    """Report energy, cost and carbon by user, account, node and the like, over any time.

    What belongs to no job (idle, system, overhead, gap) has rows of its own, so that
    the rows add up to what the meters counted. `idle` is the part of a group's energy,
    and of its GPU hours, in which GPUs were allocated while nothing ran on them.
    `class` says how sure a row is: A counted, to D estimated (docs/accounting.md).

    `--by`: user, account, partition, qos, namespace, owner, name, array, node, cluster,
    or label:KEY (Slurm: label:wckey, label:comment; Kubernetes: the labels of pods
    that the aggregator's `kubernetes.labels` names), or group:KIND (group:rack,
    group:row: of the nodes, as the aggregator's `groups` have them). A sweep is one line:
    by array, or by the name, comment, wckey or label that its jobs share.

    Examples:
      wattkeeper report --by account --since -30d
      wattkeeper report --by user --period 2026-10 --timezone Europe/Berlin --format csv
      wattkeeper report --by name --user alice --period this-month
      wattkeeper report --by node --since -24h
      wattkeeper report --by owner --since -7d        Deployment/web, RayJob/tune, …
      wattkeeper report --by label:team --since -30d
      wattkeeper report --by group:rack --since -24h --series hour --format json
      wattkeeper report --period last-month --html report.html
    """

    by: str = Field("account", description="user, account, partition, qos, owner, label:KEY, …")
    since: str | None = Field(
        None, description="from: 2026-11-01, -30d; whole slots; 7 days before until"
    )
    until: str | None = Field(None, description="to, the same way; now")
    period: str | None = Field(
        None, description="instead: 2026-03, 2026-Q1, 2026-W10, 2026-03-14, last-month, …"
    )
    timezone: str | None = Field(
        None, description="whose days and months: Europe/Berlin; the aggregator's UTC"
    )
    series: Literal["hour", "day", "month"] | None = Field(
        None, description="with --format json: the energy of each hour, day or month too"
    )
    cluster: str | None = Field(None, description="of this cluster only")
    user: str | None = Field(None, description="of jobs of this user only")
    account: str | None = Field(None, description="of jobs of this account only")
    partition: str | None = Field(None, description="of jobs of this partition only")
    limit: int | None = Field(
        None, description="rows of groups, the largest; the aggregator's 10,000; the rest is one"
    )
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")
    html: Path | None = Field(None, description="write a page with plots, one file, instead")

    def run(self) -> int:
        """Ask and print."""
        if self.html is None and self.series is not None and self.format != "json":
            raise ConfigError("--series: is told with --format json only")
        query = {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in ("url", "format", "html")
        }
        if self.html is not None:
            save(self.url, "/report.html", query, self.html)
            return 0
        answer = ask(self.url, "/v1/report", query)
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv((_flat(row, answer) for row in answer["rows"]), _COLUMNS)
        else:
            _print(answer)
        return 0


def _flat(row: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    parts = row["energy_by_component_uj"]
    return {
        **row,
        **(row["energy_of_jobs"] or {}),
        **{f"{component}_uj": parts.get(component) for component in _COMPONENTS},
        "currency": answer["currency"],
    }


class _Column(NamedTuple):
    """A column: its header, its cell in a row, whether the total has one, whether it must be."""

    header: str
    cell: Callable[[Mapping[str, Any]], str]
    total: bool = True
    narrow: bool = True


def _columns(answer: Mapping[str, Any]) -> list[_Column]:
    whole = int(answer["energy_uj"])
    columns = [
        _Column(answer["by"], _name),
        _Column("jobs", lambda row: str(row["jobs"]) if _held(row) else ""),
        _Column("energy", lambda row: energy(row["energy_uj"])),
        _Column(
            "share",
            lambda row: percent(int(row["energy_uj"]) / whole) if whole else "-",
            total=False,
        ),
        _Column("mean", lambda row: watts(row["mean_watts"]), narrow=False),
        _Column("idle", lambda row: percent(idle_part(row)) if _held(row) else "", total=False),
        _Column("GPU h", lambda row: f"{row['gpu_seconds'] / 3600:,.1f}"),
        _Column("idle h", lambda row: f"{row['allocated_idle_gpu_seconds'] / 3600:,.1f}"),
    ]
    if answer["cost"] is not None:
        columns += [
            _Column("cost", lambda row: money(row["cost"], answer["currency"])),
            _Column(
                "idle cost",
                lambda row: money(row["allocated_idle_cost"], answer["currency"]),
                narrow=False,
            ),
        ]
    if answer["carbon_g"] is not None:
        columns.append(_Column("CO2e", lambda row: carbon(row["carbon_g"])))
    columns.append(_Column("class", lambda row: row["accuracy"] or "-", narrow=False))
    if answer["by"] in _SWEEPS or answer["by"].startswith("label:"):
        columns += [
            _Column(f"{part}/job", _of_jobs(f"{part}_uj"), total=False, narrow=False)
            for part in ("least", "median", "most")
        ]
    present = [part for part in _COMPONENTS if part in answer["energy_by_component_uj"]]
    return columns + [_Column(part, _of_component(part), narrow=False) for part in present]


def _of_jobs(part: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: energy((row["energy_of_jobs"] or {}).get(part))


def _of_component(part: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: energy(row["energy_by_component_uj"].get(part))


def _held(row: Mapping[str, Any]) -> bool:
    return row.get("kind", "group") in ("group", "rest")


def _name(row: Mapping[str, Any]) -> str:
    """Return a group's name; what is nobody's, or nobody known, stands in parentheses."""
    if "kind" not in row:
        return "total"
    if row["kind"] != "group":
        return f"({row['kind']})"
    return str(row["key"] or "(none)")


def _whose(answer: Mapping[str, Any]) -> str:
    """Return whose jobs it is about, where that is not everybody's."""
    if (whose := answer.get("whose")) is None:
        return ""
    return ", of jobs of " + ", ".join([whose["user"], *whose["accounts"]])


def _print(answer: Mapping[str, Any]) -> None:
    out = console()
    columns = [one for one in _columns(answer) if one.narrow or out.width >= _WIDE]
    rows = [[one.cell(row) for one in columns] for row in answer["rows"]]
    rows.append([one.cell(answer) if one.total else "" for one in columns])
    only = "".join(f", {name} {value}" for name, value in answer["only"].items())
    span = f"{instant(answer['since'])} to {instant(answer['until'])}"
    out.print(clean(f"{span}{only}{_whose(answer)}"), markup=False)
    out.print(table([one.header for one in columns], rows))
    out.print(f"{percent(answer['coverage'])} of the time that should have been was metered.")
    for factor in answer["factors"]:
        said = f"{_LABELS[factor['factor']]}: {factor_words(factor)}"
        out.print(clean(said), markup=False, soft_wrap=True)
