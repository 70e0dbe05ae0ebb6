"""`wattkeeper statement`."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

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
)
from wattkeeper.cli.worth import factor_words
from wattkeeper.flags import ConfigError
from wattkeeper.units import carbon, money

_PATIENCE_S = 1800.0
_COLUMNS = (
    "statement", "period", "cluster", "kind", "account", "jobs", "energy_uj", "gpu_uj", "cpu_uj",
    "dram_uj", "host_uj", "allocated_idle_uj", "gpu_ms", "allocated_idle_gpu_ms", "cost",
    "currency", "carbon_g",
)  # fmt: skip
_LISTED = ("number", "period", "since", "until", "closed", "hash", "previous", "intact")


class Statement(Command):
    """List the statements of closed periods, show one, or check it against the books.

    With --format json a statement is printed byte by byte as it was hashed: its SHA-256 is
    the hash that the list and the next statement tell.

    Exit code 1 with --check: the statements are not what was closed, or the books of the
    period have changed since (the next statement will tell it).

    Examples:
      wattkeeper statement                      all of them
      wattkeeper statement 2026-03              one of them, also by its number
      wattkeeper statement 2026-03 --check
      wattkeeper statement 3 --format json | sha256sum
      wattkeeper statement 3 --format csv > 2026-03.csv
    """

    id: CliPositionalArg[str | None] = Field(None, description="its number, or its period")
    check: bool = Field(False, description="do the books still say what it says?")
    url: str | None = Field(None, description="the aggregator, http://HOST:9746")
    format: Format = Field("table", description="how to print")

    def run(self) -> int:
        """Ask and print."""
        if self.id is None:
            if self.check:
                raise ConfigError("ID: which statement is to be checked?")
            return self._list()
        path = f"/v1/statements/{quote(self.id, safe='')}"
        if self.check:
            return self._check(ask(self.url, f"{path}/check", patience_s=_PATIENCE_S))
        print_statement(ask(self.url, path), self.format)
        return 0

    def _list(self) -> int:
        answer = ask(self.url, "/v1/statements")
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(answer["statements"], _LISTED)
        else:
            rows = [
                [str(one["number"]), one["period"], instant(one["since"]), instant(one["until"]),
                 instant(one["closed"]), one["hash"][:16], "yes" if one["intact"] else "NO"]
                for one in answer["statements"]
            ]  # fmt: skip
            headers = ["number", "<period", "<from", "<to", "<closed", "<hash", "<intact"]
            console().print(table(headers, rows))
        return 0 if answer["intact"] else 1

    def _check(self, answer: Mapping[str, Any]) -> int:
        if self.format == "json":
            emit_json(answer)
        elif self.format == "csv":
            emit_csv(_flat(answer["rows"], answer, None), _COLUMNS)
        else:
            _say(answer)
        return 0 if answer["intact"] and not answer["moved"] else 1


def _say(answer: Mapping[str, Any]) -> None:
    out = console()
    name = f"Statement {answer['number']} ({answer['period']})"
    if not answer["intact"]:
        numbers = ", ".join(map(str, answer["broken"]))
        out.print(f"Statements {numbers} are NOT what was closed, or one before is missing.")
    elif answer["moved"]:
        out.print(clean(f"{name}: the books have changed since. The next statement will tell:"))
        out.print(_table(answer["rows"], answer["total"], None))
    else:
        out.print(clean(f"{name}: the books say the same, and the chain of hashes is whole."))


def print_statement(said: Mapping[str, Any], form: Format) -> None:
    """Print a statement; as JSON in the bytes that its hash is of."""
    if form == "json":
        sys.stdout.write(_text(said))
        return
    if form == "csv":
        emit_csv(_rows(said), _COLUMNS)
        return
    out = console()
    out.print(
        clean(
            f"Statement {said['number']}: {said['period']} ({said['timezone']}), "
            f"{instant(said['since'])} to {instant(said['until'])}"
        ),
        markup=False,
    )
    out.print(_table(said["rows"], said["total"], said["currency"]))
    for adjusted in said["adjustments"]:
        which = f"statement {adjusted['statement']} ({adjusted['period']})"
        out.print()
        out.print(clean(f"Adjustment of {which}:"), markup=False)
        out.print(_table(adjusted["rows"], adjusted["total"], adjusted["currency"]))
    for factor in said["factors"]:
        ratio = {"estimated_ratio": float(factor["estimated_ratio"])}
        words = clean(f"{factor['factor']}: {factor_words({**factor, **ratio})}")
        out.print(words, markup=False, soft_wrap=True)
    covered = None if said["coverage"] is None else float(said["coverage"])
    balanced = "balanced" if said["balanced"] else "did NOT balance"
    out.print(f"{percent(covered)} of the time was metered; the books {balanced}.")
    out.print(f"sha256 {hashlib.sha256(_text(said).encode()).hexdigest()}")


def _text(said: Mapping[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _table(rows: list[Any], total: Mapping[str, Any], currency: str | None) -> Any:
    shown = [
        [_name(row), row["cluster"], *_cells(row, currency)]
        for row in sorted(rows, key=lambda row: (row["kind"] != "group", -int(row["energy_uj"])))
    ]
    shown.append(["total", "", *_cells(total, currency)])
    headers = ["account", "<cluster", "jobs", "energy", "idle", "GPU h", "cost", "CO2e"]
    return table(headers, shown)


def _name(row: Mapping[str, Any]) -> str:
    return (row["account"] or "(none)") if row["kind"] == "group" else f"({row['kind']})"


def _cells(row: Mapping[str, Any], currency: str | None) -> list[str]:
    return [
        str(row["jobs"]),
        energy(row["energy_uj"]),
        energy(row["allocated_idle_uj"]),
        f"{int(row['gpu_ms']) / 3_600_000:,.1f}",
        money(row["cost"], currency),
        carbon(row["carbon_g"]),
    ]


def _rows(said: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _flat(said["rows"], said, said["currency"])
    for adjusted in said["adjustments"]:
        told = {"number": adjusted["statement"], "period": adjusted["period"]}
        yield from _flat(adjusted["rows"], told, adjusted["currency"])


def _flat(
    rows: list[Any], told: Mapping[str, Any], currency: str | None
) -> Iterator[dict[str, Any]]:
    """Return lines with the statement and the period that they are of."""
    for row in rows:
        parts = {f"{name}_uj": uj for name, uj in row["energy_by_component_uj"].items()}
        of = {"statement": told["number"], "period": told["period"], "currency": currency}
        yield {**row, **parts, **of}
