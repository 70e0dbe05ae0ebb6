"""`wattkeeper job`."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wattkeeper.cli import jobs
from wattkeeper.cli.cite import cite
from wattkeeper.cli.command import Command
from wattkeeper.cli.familiar import SOURCE, compare
from wattkeeper.cli.finding import find_jobs, wanted_id
from wattkeeper.cli.job_trace import traced
from wattkeeper.cli.output import (
    Format,
    clean,
    console,
    emit_csv,
    emit_json,
    energy,
    instant,
    percent,
    span,
    watts,
)
from wattkeeper.cli.rows import JOB_COLUMNS, flat_job, seconds_between
from wattkeeper.cli.worth import by_name, factor_words
from wattkeeper.units import CLASSES, SOURCES, SPLITS, carbon, money


class Job(Command):
    """Show what a job used, and how sure that is.

    Inside a job, the ID may be left out: it is $SLURM_JOB_ID. Cost and carbon are shown where
    the aggregator knows price and carbon intensity, for the energy of the whole facility
    where it knows its PUE.

    Examples:
      wattkeeper job 123                 a job, or every task of an array
      wattkeeper job 123_4               one task of it
      wattkeeper job 123_[0-99]          many of them
      wattkeeper job 100-180             a range of jobs
      wattkeeper job 22+0                one component of a heterogeneous job
      wattkeeper job 123 --run 1         the first run of a requeued job
      wattkeeper job 123456 --format json
      wattkeeper job 123 --cite          a sentence for a paper, of one job or of a search
      wattkeeper job 123 --compare       beside a flight and a car's lifetime
    """

    id: CliPositionalArg[str | None] = Field(None, description="job, array task, or a range")
    cluster: str | None = Field(None, description="cluster, where several share an aggregator")
    run_: int | None = Field(
        None, alias="run", ge=1, description="which run of a requeued job; the newest"
    )
    cite: bool = Field(False, description="tell it in sentences for a paper")
    compare: bool = Field(False, description="tell its carbon in familiar terms too")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print; 1 if no such job is known."""
        found = find_jobs(self.url, wanted_id(self.id), self.cluster, self.run_)
        if self.cite:
            print(clean(cite(found)))
        elif self.format == "json":
            emit_json(found[0] if len(found) == 1 else found)
        elif self.format == "csv":
            emit_csv(map(flat_job, found), JOB_COLUMNS)
        elif len(found) == 1:
            out = console()
            _show(out, found[0], traced(self.url, found[0], plain=not _draws(out)))
        else:
            jobs.show(found)
            console().print(_together(found))
        if self.compare:
            _compare(found)
        return 0


def _draws(out: Console) -> bool:
    return out.encoding.lower().startswith("utf")


def _show(out: Console, job: Mapping[str, Any], trace: str) -> None:
    title = f"[bold]Job {_text(job['job_id'])}[/bold]"
    if job["name"]:
        title += f"  {_text(job['name'])}"
    out.print(title, soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    grid.add_column()
    for label, value, note in (
        *_who(job), *_when(job), *_used(job, trace), *_worth(job), *_sure(job)
    ):  # fmt: skip
        if note and not value:
            grid.add_row(label, "", note)
        else:
            grid.add_row(label, value, note)
    out.print(grid)


def _text(value: object) -> str:
    return escape(clean(str(value)))


def _who(job: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    names = [
        f"{label} {_text(job[label])}" for label in ("user", "account", "partition") if job[label]
    ]
    nodes = " ".join(job["nodes"][:6]) + (" …" if len(job["nodes"]) > 6 else "")
    return [
        ("whose", "", ", ".join([*names, f"cluster {_text(job['cluster'])}"])),
        ("nodes", str(len(job["nodes"])), _text(nodes)),
    ]


def _when(job: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    state = _text((job["state"] or "state unknown").lower())
    until = instant(job["end"]) if job["end"] else "now"
    ran = span(seconds_between(job["start"], job["end"] or job["as_of"]))
    return [("ran", ran, f"{instant(job['start'])} to {until}, {state}"), ("", "", "")]


def _used(job: Mapping[str, Any], trace: str) -> list[tuple[str, str, str]]:
    whole = int(job["energy_uj"])
    power = f"mean {watts(job['mean_watts'])}, peak {watts(job['peak_watts'])}"
    rows = [("energy", f"[bold]{energy(whole)}[/bold]", power)]
    if trace:
        rows.append(("  trace", "", trace))
    for component, uj in sorted(job["energy_by_component_uj"].items(), key=lambda c: -int(c[1])):
        rows.append((f"  {component}", energy(uj), _part(uj, whole)))
    idle = int(job["allocated_idle_uj"])
    if idle:
        note = f"{_part(idle, whole)} while its devices had nothing to do"
        rows.append(("  idle", energy(idle), note))
    hours = job["gpu_seconds"] / 3600
    if hours:
        idle_hours = job["allocated_idle_gpu_seconds"] / 3600
        note = f"{idle_hours:,.2f} of them with nothing to do" if idle_hours else ""
        rows.append(("GPU hours", f"{hours:,.2f}", note))
    return [*rows, ("", "", "")]


def _worth(job: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    known = by_name(job["factors"])
    pue = f", PUE {factor_words(known['pue'])}" if "pue" in known else ""
    rows = []
    for label, field, name, value in (
        ("cost", "cost", "price", money(job["cost"], job["currency"])),
        ("CO2e", "carbon_g", "carbon", carbon(job["carbon_g"])),
    ):
        if job[field] is not None:
            rows.append((label, value, _text(f"{factor_words(known[name])}{pue}")))
    return [*rows, ("", "", "")] if rows else []


def _together(found: Sequence[Mapping[str, Any]]) -> str:
    """Say what jobs came to together: what a whole search used, not only the winner."""
    whole = sum(int(job["energy_uj"]) for job in found)
    idle = sum(int(job["allocated_idle_uj"]) for job in found)
    hours = sum(job["gpu_seconds"] for job in found) / 3600
    said = [f"{len(found)} jobs: {energy(whole)}", f"{_part(idle, whole)} of it idle"]
    if hours:
        said.append(f"{hours:,.1f} GPU hours")
    cost, grams = _sum(found, "cost"), _sum(found, "carbon_g")
    if cost is not None:
        said.append(money(cost, found[0]["currency"]))
    if grams is not None:
        said.append(f"{carbon(grams)} of CO2e")
    return f"{', '.join(said)}."


def _sum(found: Sequence[Mapping[str, Any]], field: str) -> str | None:
    """Add up decimals of jobs, None if one is not known."""
    parts = [job[field] for job in found]
    return None if None in parts else f"{sum(map(Decimal, parts)):f}"


def _compare(found: Sequence[Mapping[str, Any]]) -> None:
    grams = _sum(found, "carbon_g")
    if grams is None:
        print("Its carbon is not known: the aggregator has no `factors.carbon`.")
        return
    for line in compare(grams):
        print(line)
    print(f"({SOURCE})")


def _sure(job: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    sources = _axis(job["energy_by_source_uj"], SOURCES)
    splits = _axis(job["energy_by_split_uj"], SPLITS)
    return [
        ("covered", percent(job["coverage"]), "of its time was metered"),
        ("class", job["accuracy"] or "-", CLASSES.get(job["accuracy"] or "", "")),
        ("measured", "", sources),
        ("split", "", splits),
        ("as of", "", f"{instant(job['as_of'])}, {_settled(job)}"),
    ]


def _settled(job: Mapping[str, Any]) -> str:
    if job["final"]:
        return "final"
    return "settling" if job["end"] else "still running"


def _axis(parts: Mapping[str, str], words: Mapping[str, str]) -> str:
    """Say in words what parts of the energy came from where, the largest first."""
    whole = sum(int(uj) for uj in parts.values())
    said = [
        f"{_part(uj, whole)} {words.get(name, name)}"
        for name, uj in sorted(parts.items(), key=lambda part: -int(part[1]))
        if int(uj)
    ]
    return ", ".join(said) or "-"


def _part(uj: int | str, whole: int) -> str:
    return percent(int(uj) / whole) if whole else "-"
