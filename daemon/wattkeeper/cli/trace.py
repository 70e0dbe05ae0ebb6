"""`wattkeeper trace`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.table import Table
from rich.text import Text

from wattkeeper.cli.chart import MOST_LAYERS, Layer, draw, look_of
from wattkeeper.cli.client import ask
from wattkeeper.cli.command import Command, CommandError
from wattkeeper.cli.finding import find_jobs, wanted_id
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
from wattkeeper.values import format_duration

_MOST_ROWS = 20
_ALIKE = 0.01
"""Part of the energy by which trace and books may differ without a word: the newest windows."""
_UNITS = ((1e6, "MW"), (1e3, "kW"))
_BELOW = 16
"""Lines under a chart."""


class Trace(Command):
    """Plot the power of one job over time, by component, and tell what that adds up to.

    Inside a job, the ID may be left out: it is $SLURM_JOB_ID. The plot is of the job's whole
    life so far, unless told otherwise, in steps of which a few hundred make it up. Beside the
    energy of the trace stands what the books have of the job.

    Examples:
      wattkeeper trace 123                     GPUs, CPUs and memory, stacked
      wattkeeper trace 123_4 --by node         one layer for each node and component
      wattkeeper trace 123 --by gpu            one for each GPU index of its nodes
      wattkeeper trace 123 --since -1h --step 10s
      wattkeeper trace 123 --run 1             the first run of a requeued job
      wattkeeper trace 123 --format csv > trace.csv
    """

    id: CliPositionalArg[str | None] = Field(None, description="job, or array task")
    cluster: str | None = Field(None, description="cluster, where several share an aggregator")
    run_: int | None = Field(
        None, alias="run", ge=1, description="which run of a requeued job; the newest"
    )
    by: str | None = Field(
        None, description="beside the component, by node, device, gpu, meter or model"
    )
    step: str | None = Field(None, description="length of a step: 10s, 5m, 1h")
    since: str | None = Field(None, description="from: -1h, 2026-11-23T20:15:00Z; its start")
    until: str | None = Field(None, description="to, the same way; its end, or now")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print; 1 if there is no such job, or no history of it."""
        wanted = wanted_id(self.id)
        found = find_jobs(self.url, wanted, self.cluster, self.run_)
        if len(found) > 1:
            some = ", ".join(str(job["job_id"]) for job in found[:5])
            raise CommandError(f"{wanted} is {len(found)} jobs ({some}, …); trace one of them")
        (job,) = found
        path = f"/v1/jobs/{quote(job['cluster'], safe='')}/{quote(job['job_id'], safe='')}/trace"
        query = {
            "run": str(job["run"]),
            "by": self.by,
            "step": self.step,
            "since": self.since,
            "until": self.until,
        }
        answer = ask(self.url, path, query)
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(_rows(answer), ("start", *answer["by"], "power_watts"))
        else:
            _show(answer)
        return 0 if answer["series"] else 1


def _rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    begin = datetime.fromisoformat(answer["since"]).timestamp()
    for series in answer["series"]:
        for number, value in enumerate(series["values"]):
            if value is not None:
                at = begin + number * answer["step_seconds"]
                yield {"start": _instant(at), **series["labels"], "power_watts": value}


def _instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _show(answer: Mapping[str, Any]) -> None:
    out = console()
    name = f"  {clean(answer['name'])}" if answer["name"] else ""
    run = f" (run {answer['run']} of {answer['runs']})" if answer["runs"] > 1 else ""
    title = Text(f"Job {clean(answer['job_id'])}", "bold")
    out.print(title.append(f"{run}{name}", "not bold"), soft_wrap=True)
    if not answer["series"]:
        out.print("No history of this time: it is older than what is kept, or not in yet.")
    else:
        since_ms, until_ms = (
            int(datetime.fromisoformat(answer[end]).timestamp() * 1000)
            for end in ("since", "until")
        )
        layers = _layers(answer)
        for line in draw(layers, since_ms, until_ms, look_of(out, _BELOW), _axis):
            out.print(line, soft_wrap=True)
        out.print()
    out.print(_summary(answer))
    for note in _notes(answer):
        out.print(note, soft_wrap=True)


def _axis(values: Sequence[float]) -> list[str]:
    """Write values of an axis, the greatest first, in one unit."""
    size, unit = next(((size, unit) for size, unit in _UNITS if values[0] >= size), (1.0, "W"))
    return [f"{value / size:g} {unit}" for value in values]


def _layers(answer: Mapping[str, Any]) -> list[Layer]:
    """Return what is stacked: the greatest series, and the rest of them as one."""
    series = answer["series"]
    own = series if len(series) <= MOST_LAYERS else series[: MOST_LAYERS - 1]
    layers = [Layer(_name(one["labels"]), one["values"]) for one in own]
    rest = series[len(own) :]
    if rest:
        columns = zip(*(one["values"] for one in rest), strict=True)
        layers.append(Layer(f"{len(rest)} others", [_sum(column) for column in columns]))
    return layers


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _name(labels: Mapping[str, str]) -> str:
    return clean(" ".join(filter(None, labels.values())))


def _summary(answer: Mapping[str, Any]) -> Table:
    rows = [
        [
            part["component"],
            watts(part["mean_watts"]),
            watts(part["peak_watts"]),
            energy(round(part["energy_joules"] * 1e6)),
            energy(part["ledger_energy_uj"]),
        ]
        for part in answer["components"]
    ]
    total = [energy(round(answer["energy_joules"] * 1e6)), energy(answer["ledger_energy_uj"])]
    rows.append(["all", "", "", *total])
    if len(answer["by"]) > 1:
        for series in answer["series"][:_MOST_ROWS]:
            known = [value for value in series["values"] if value is not None]
            mean, peak = sum(known) / len(known), max(known)
            rows.append([_name(series["labels"]), watts(mean), watts(peak), "", ""])
    return table(["", "mean", "peak", "energy", "in the books"], rows)


def _notes(answer: Mapping[str, Any]) -> Iterator[str]:
    step = format_duration(timedelta(seconds=answer["step_seconds"]))
    yield f"{instant(answer['since'])} to {instant(answer['until'])} in steps of {step}."
    left = len(answer["series"]) - _MOST_ROWS if len(answer["by"]) > 1 else 0
    left = max(0, left) + answer["omitted_series"]
    if left:
        yield f"{left} smaller series are not listed; --format csv has 100."
    settled = int(answer["ledger_settled_uj"])
    if settled:
        yield f"{energy(settled)} in the books was idle on GPUs that only its scheduler knew to be"
        yield "its own; no trace shows that."
    if not answer["whole"]:
        yield "What is in the books is of the whole job."
        return
    booked = int(answer["ledger_energy_uj"]) - settled
    missing = 1 - answer["energy_joules"] * 1e6 / booked if booked else 0.0
    if missing > _ALIKE:
        yield f"The trace has {percent(missing)} less than the books: a part of its time is"
        yield "not in the history, any more or yet."
    elif missing < -_ALIKE:
        yield f"The trace has {percent(-missing)} more than the books: its newest part is"
        yield "not booked yet."
