"""`wattkeeper budgets`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

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
    table,
    watts,
)

_COLUMNS = (
    "name", "kind", "scope", "inside", "state", "since", "limit_watts", "limit_uj", "watts",
    "used_uj", "unbooked_uj", "used_ratio", "before_ratio", "start", "end", "forecast_ratio",
    "forecast_low_ratio", "forecast_high_ratio", "coverage", "silent_nodes", "as_of",
)  # fmt: skip
_SAID = {
    "ok": "ok",
    "warn": "WARN",
    "forecast": "WILL EXCEED",
    "hard": "EXCEEDED",
    "off": "off",
    "unknown": "unknown",
}
_BAR = 10
_NAMED = 3


class Budgets(Command):
    """Show how the budgets stand: power now, what is used, where it will end, who draws most.

    Exit code 0: none is exceeded. 1: one is (EXCEEDED).

    Examples:
      wattkeeper budgets
      wattkeeper budgets site --format json
      wattkeeper budgets --format csv > budgets.csv
    """

    name: CliPositionalArg[str | None] = Field(None, description="only this one")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask, print, and say yes or no."""
        answer = ask(self.url, "/v1/budgets", {"name": self.name})
        found = answer["budgets"]
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(map(_flat, found), _COLUMNS)
        elif not found:
            print("No budgets are set, or none was evaluated yet. See docs/operations.md, Budgets.")
        else:
            _print(found)
        return 1 if any(_is_exceeded(one) for one in found) else 0


def _is_exceeded(budget: Mapping[str, Any]) -> bool:
    return any(level["level"] == "hard" for level in budget["levels"])


def _flat(budget: Mapping[str, Any]) -> dict[str, Any]:
    ahead = budget["forecast"] or {}
    named = {f"forecast_{name}": value for name, value in ahead.items()}
    return {**{name: value for name, value in budget.items() if name != "forecast"}, **named}


def _print(found: Sequence[Mapping[str, Any]]) -> None:
    depth: dict[str | None, int] = {None: -1}
    rows = []
    for one in found:
        depth[one["name"]] = depth.get(one["inside"], -1) + 1
        rows.append([
            "  " * depth[one["name"]] + one["name"],
            _limit(one),
            watts(one["watts"]),
            f"{_bar(one['used_ratio'])} {percent(one['used_ratio'])}",
            _ahead(one["forecast"]),
            _SAID[one["state"]],
        ])  # fmt: skip
    out = console()
    out.print(table(["budget", "<limit", "now", "used", "forecast", "<state"], rows))
    for one in found:
        for line in _remarks(one):
            out.print(clean(line), markup=False, soft_wrap=True)


def _limit(one: Mapping[str, Any]) -> str:
    if one["kind"] == "energy":
        return f"{energy(one['limit_uj'])} to {instant(one['end'])[5:16]}"
    if one["kind"] == "demand":
        return f"{watts(one['limit_watts'])} mean to {instant(one['end'])[11:16]}"
    return watts(one["limit_watts"])


def _bar(ratio: float | None) -> str:
    filled = 0 if ratio is None else min(_BAR, int(ratio * _BAR))
    return "#" * filled + "." * (_BAR - filled)


def _ahead(forecast: Mapping[str, Any] | None) -> str:
    if forecast is None:
        return "-"
    if forecast["low_ratio"] is None:
        return percent(forecast["ratio"])
    return (
        f"{percent(forecast['ratio'])} ({forecast['low_ratio'] * 100:.0f}"
        f" to {forecast['high_ratio'] * 100:.0f})"
    )


def _who(found: Sequence[Mapping[str, Any]]) -> str:
    """Say who used most of a period, else who draws most now: jobs, or what there is."""
    used = [c for c in found if c["energy_uj"] is not None][:_NAMED]
    if used:
        named = ", ".join(f"{c['kind']} {c['name']} ({energy(c['energy_uj'])})" for c in used)
        return f"; most was used by {named}"
    drawn = [c for c in found if c["kind"] == "job"] or list(found)
    named = ", ".join(f"{c['kind']} {c['name']} ({watts(c['watts'])})" for c in drawn[:_NAMED])
    return f"; most draw {named}" if named else ""


def _remarks(one: Mapping[str, Any]) -> list[str]:
    lines = []
    if one["since"] is not None:
        who = _who(one["contributors"])
        before = ""
        if one["before_ratio"] is not None:
            before = f", {percent(one['before_ratio'])} in the interval before"
        said = f"{_SAID[one['state']]} since {instant(one['since'])}{before}"
        lines.append(f"{one['name']}: {said}{who}.")
    if one["peak"] is not None:
        highest = f"{watts(one['peak']['watts'])}, {percent(one['peak']['ratio'])}"
        lines.append(
            f"{one['name']}: the highest interval of the month is {highest}, "
            f"from {instant(one['peak']['start'])}."
        )
    if one["silent_nodes"]:
        nodes = "node says" if one["silent_nodes"] == 1 else "nodes say"
        lines.append(
            f"{one['name']}: {one['silent_nodes']} {nodes} nothing, "
            f"{percent(one['coverage'])} of it is known."
        )
    return lines
