"""`wattkeeper balance`."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from wattkeeper.cli.client import ask
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
    span,
    table,
)

_ACCOUNTS = ("workload", "idle", "system", "overhead", "gap", "components")
_COLUMNS = (
    "node",
    "meter",
    "measured_uj",
    *(f"{account}_uj" for account in _ACCOUNTS),
    "residual_uj",
    "covered_seconds",
    "unmeasured_seconds",
    "problems",
)

_MOST_NODES = 20


class Balance(Command):
    """Check that what every meter counted is booked, to the microjoule.

    Exit code 0: the books balance. 1: they do not, or less than --min-coverage was metered;
    the meters are named, and the nodes that a scheduler has and no agent meters.

    Examples:
      wattkeeper balance
      wattkeeper balance --since 2026-11-01 --until 2026-12-01 --min-coverage 0.99
      wattkeeper balance --format csv > balance.csv
    """

    since: str = Field("-24h", description="from: 2026-11-01, -30d; whole slots")
    until: str | None = Field(None, description="to, the same way; now")
    min_coverage: float = Field(0.0, ge=0, le=1, description="least part of the time metered")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask, print, and say yes or no."""
        answer = ask(self.url, "/v1/balance", {"since": self.since, "until": self.until})
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(answer["meters"], _COLUMNS)
        else:
            _print(answer)
        covered = answer["coverage"]
        enough = covered is not None and covered >= self.min_coverage
        if self.format == "table" and not enough and self.min_coverage:
            print(f"Coverage {percent(covered)} is below {percent(self.min_coverage)}.")
        return 0 if answer["balanced"] and (enough or not self.min_coverage) else 1


def _print(answer: Mapping[str, Any]) -> None:
    out = console()
    meters = answer["meters"]
    out.print(f"{instant(answer['since'])} to {instant(answer['until'])}")
    whole = sum(int(meter["measured_uj"]) for meter in meters)
    rows = [["measured", energy(whole), f"{whole:,} µJ"]]
    for account in _ACCOUNTS:
        booked = sum(int(meter[f"{account}_uj"]) for meter in meters)
        rows.append([account, energy(booked), f"{booked:,} µJ"])
    residual = int(answer["residual_uj"])
    rows.append(["residual", energy(residual), f"{residual:,} µJ"])
    out.print(table([f"{len(meters)} meters", "energy", "exactly"], rows))
    unmeasured = sum(meter["unmeasured_seconds"] for meter in meters)
    out.print(
        f"{percent(answer['coverage'])} of the time that should have been was metered; "
        f"{span(unmeasured)} of meter time cannot be known."
    )
    missing = answer["missing_nodes"]
    for node in missing[:_MOST_NODES]:
        out.print(clean(_missing(node)), markup=False, soft_wrap=True)
    if len(missing) > _MOST_NODES:
        out.print(f"and {len(missing) - _MOST_NODES} nodes more; --format json has them all.")
    for problem in answer["problems"]:
        out.print(clean(problem), markup=False)
    for meter in meters:
        _complain(meter)
    out.print("The books balance." if answer["balanced"] else "The books do NOT balance.")


def _missing(node: Mapping[str, Any]) -> str:
    """Say what of a node is not metered, and what to do."""
    name, state = node["node"], node["scheduler_state"]
    if not node["metered_gpus"] and not node["covered_seconds"]:
        what = f"delivered nothing; its scheduler has it as {state or 'known'}"
        return f"{name}: {what}. Is the agent running there?"
    if not node["covered_seconds"]:
        return (
            f"{name}: delivered nothing in this time; its scheduler has it as {state or 'known'}."
        )
    return f"{name}: {node['metered_gpus']} of {node['gpus']} GPUs are metered; ask its doctor."


def _complain(meter: Mapping[str, Any]) -> None:
    name = f"{meter['node']} {meter['meter']}"
    problems = list(meter["problems"])
    if int(meter["residual_uj"]) and not problems:
        problems = [f"residual {int(meter['residual_uj']):,} µJ"]
    for problem in problems:
        console().print(clean(f"{name}: {problem}"), markup=False, soft_wrap=True)
